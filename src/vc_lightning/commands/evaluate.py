"""Score a converter on held-out recordings: python evaluate.py data.manifest=MANIFEST.tsv"""

import logging
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from shlex import quote

import hydra
from omegaconf import DictConfig, ListConfig, OmegaConf

from vc_lightning.commands.support import builders, cluster, entry_point, paths
from vc_lightning.common import resources
from vc_lightning.common.errors import (
    InputError,
    require_at_least,
    require_one_of,
    require_seed,
)
from vc_lightning.common.files import atomic_path
from vc_lightning.common.parts import MERGE, Part
from vc_lightning.conversion import provenance
from vc_lightning.conversion.converter import VoiceConverter
from vc_lightning.evaluation import domains, pairs, robustness
from vc_lightning.evaluation.evaluator import ASPECTS, Evaluator
from vc_lightning.evaluation.pairs import Pair
from vc_lightning.evaluation.report import comparison, sound_files, worst
from vc_lightning.evaluation.report import files as report_files
from vc_lightning.evaluation.report.contents import Contents
from vc_lightning.evaluation.report.part_files import PartFiles, PartialResults
from vc_lightning.evaluation.scores import TITLES, figures
from vc_lightning.evaluation.summary import Evaluation, combine

log = logging.getLogger("evaluate")

SPLITS = ("test", "val", "train")
LOGGED = 3  # of the worst conversions
PAIRS_AT_A_TIME = 8  # most pairs that a killed part loses
SHOWN = (  # on the terminal; the report has all
    *("campplus/to_target", "campplus/to_source", "campplus/nearer"),
    *("distillmos/recording", "distillmos/conversion"),
    *("words/source_character_errors", "words/character_errors"),
    *("pocketsphinx/source", "pocketsphinx/conversion", "phonemes/errors"),
    "prosody/correlation",
    *("ge2e/to_target", "ge2e/nearer", "tiny_en/character_errors", "dnsmos/conversion"),
)
RENAMED = {"naturalness": "distillmos, and dnsmos for the score of earlier versions"}


@hydra.main(version_base="1.3", config_path=str(resources.CONF), config_name="evaluate")
@entry_point.reports_input_errors
def main(cfg: DictConfig) -> None:
    """Convert the pairs, score the conversions and write the report."""
    if cfg.compare is not None:
        compare(cfg)
        return
    require_valid(cfg)
    if cfg.get("cluster"):
        if not cluster.run_parts(cfg, "evaluate", f"output={OmegaConf.select(cfg, 'output')}"):
            return
        cfg.part = MERGE
    aspects = chosen_aspects(cfg.scorers)
    recogniser = str(paths.single_path(cfg.recogniser, "recogniser"))
    listed, origin = chosen_pairs(cfg)
    converter = builders.build_converter(cfg)
    evaluator = Evaluator(converter, aspects, recogniser, cfg.seed, cfg.vocoder_alone)
    folder = report_files.require_folder(cfg.output, "output", part=cfg.part is not None)
    log.info("%d pairs of %s", len(listed), origin)
    robust = robustness.chosen(listed, cfg.n_robustness if cfg.robustness else 0)
    note = provenance.strings(converter.note())
    if cfg.part is None:
        evaluator.analyze(listed)
        results = evaluator.score(dict(enumerate(listed)), robust)
        sound_files.write(folder, results, converter.sample_rate, note)
        found = combine(listed, [results], aspects)
    else:
        decisive = [
            *aspects,
            recogniser,
            cfg.vocoder_alone,
            cfg.seed,
            robust,
            converter.networks.encoder_identity,
            cfg.vocoder,
        ]
        files = PartFiles(folder, listed, [*decisive, replace(converter.note(), made="")])
        if cfg.part != MERGE:
            score_part(Part.parse(cfg.part), files, evaluator, robust, note)
        if (parts := complete(files, required=cfg.part == MERGE)) is None:
            return
        found = combine(listed, parts, aspects)
    about = describe(cfg, converter, listed, origin)
    report_files.write(Contents(found, folder, about, converter, cfg.n_worst))
    log_results(found, folder)


def require_valid(cfg: DictConfig) -> None:
    """Raise InputError for values that would otherwise fail after hours of work."""
    require_seed("seed", cfg.seed)
    for key in ("n_pairs", "n_targets", "n_robustness", "n_worst"):
        require_at_least(1, "", **{key: cfg[key]})
    if cfg.part is not None:
        if cfg.part != MERGE:
            Part.parse(cfg.part)
        if "${now" in str(builders.plain(cfg, resolve=False)["output"]):
            raise InputError(f"part={cfg.part}: give output=FOLDER, the same for every part")


def score_part(
    part: Part,
    files: PartFiles,
    evaluator: Evaluator,
    robust: Sequence[int],
    note: dict[str, str],
) -> None:
    """Score the unfinished pairs of a part, a few at a time, and write the results."""
    _, left = files.load(part)
    log.info("part %s: %d pairs to do", part, len(left))
    evaluator.analyze(files.pairs[index] for index in left)
    for start in range(0, len(left), PAIRS_AT_A_TIME):
        some = left[start : start + PAIRS_AT_A_TIME]
        results = evaluator.score({index: files.pairs[index] for index in some}, robust)
        sound_files.write(files.folder, results, evaluator.converter.sample_rate, note)
        files.save(part, results)


def complete(files: PartFiles, required: bool) -> list[PartialResults] | None:
    """Read the results of all parts; if pairs are missing, return None or raise InputError.

    Args:
        files: The files of the results.
        required: Whether missing pairs are an error.
    """
    parts, missing = files.load()
    if not missing:
        return parts
    state = f"{len(missing)} of {len(files.pairs)} pairs of other parts are missing"
    if required:
        raise InputError(f"part=merge: {state}; run their parts with the same settings")
    log.info("%s; the last part writes %s", state, files.folder / "report.md")
    return None


def describe(
    cfg: DictConfig, converter: VoiceConverter, listed: Sequence[Pair], origin: str
) -> dict[str, str]:
    """Describe converter, vocoder and pairs for the report."""
    about = {
        "converter": f"{cfg.ckpt or 'the shipped one'} (step {converter.card.step})",
        "trained on": converter.card.trained_on or "unknown",
        "guidance, contrast": f"{cfg.guidance}, {converter.autovc.contrast}",
        "vocoder": f"{type(converter.vocoder).__name__}, seed {cfg.seed}",
        "pairs": f"{len(listed)} of {origin}",
        "recogniser": str(cfg.recogniser),
    }
    if own := sum(pair.target_reference in pair.voice for pair in listed):
        about["scored against the only recording of the voice"] = f"{own} pairs"
    return about


def log_results(evaluation: Evaluation, folder: Path) -> None:
    """Log the most important means, the worst conversions and the path of the report."""
    for name, conversions in evaluation.groups().get(pairs.DOMAIN, {}).items():
        found = figures(conversions, SHOWN)
        shown = ", ".join(f"{key} {value.mean:.3f}" for key, value in found.items())
        log.info("%s (%d pairs): %s", name, len(conversions), shown)
    for name, value in figures(evaluation.conversions, SHOWN).items():
        judge = name.partition("/")[0]
        log.info("%-12s %-50s %6.3f (%d pairs)", judge, TITLES[name], value.mean, value.n)
    for index, conversion in worst.ranked(evaluation.conversions, LOGGED):
        path = folder / sound_files.wav_path(index, conversion, sound_files.CONVERSION)
        log.info("among the worst: %s (%s)", path, worst.reason(conversion))
    log.info("report:  %s", folder / "report.md")
    log.info("look:    tensorboard --logdir %s", quote(str(folder)))


def chosen_aspects(value: object) -> list[str]:
    """List the judges that `scorers=` names, by commas or as a list."""
    if value is None:
        return []
    names = ",".join(value) if isinstance(value, ListConfig) else str(value)
    words = [word.strip() for word in names.split(",") if word.strip()]
    for word in words:
        if word in RENAMED:
            raise InputError(f"scorers={names}: {word} is now {RENAMED[word]}")
        if word not in ASPECTS:
            known = ", ".join(ASPECTS)
            raise InputError(f"scorers={names}: {word} is unknown; choose from {known}")
    return words


def compare(cfg: DictConfig) -> None:
    """Compare two reports on the same pairs, and write comparison.md."""
    reports = paths_of(cfg.compare, "compare")
    if len(reports) != 2:
        raise InputError("compare: give two reports, [A/report.json,B/report.json]")
    found = comparison.differences(*map(comparison.read, reports))
    folder = report_files.require_folder(cfg.output, "output")
    path = folder / "comparison.md"
    with atomic_path(path) as temporary:
        text = "\n".join(comparison.lines(found, *map(str, reports)))
        temporary.write_text(text + "\n", encoding="utf-8")
    for one in found:
        if one.verdict != comparison.UNCLEAR:
            judge = one.score.partition("/")[0]
            log.info(
                *("%s, %s, %s: %.3f → %.3f, %s", judge, TITLES[one.score], one.group),
                *(one.first, one.second, one.verdict),
            )
    log.info("comparison: %s", path)


def chosen_pairs(cfg: DictConfig) -> tuple[list[pairs.Pair], str]:
    """List the pairs that the configuration names, and describe where they come from."""
    data = cfg.data
    root = data.dir and paths.single_path(data.dir, "data.dir")
    manifests, tables = paths_of(data.manifest, "data.manifest"), paths_of(data.pairs, "data.pairs")
    if manifests:
        require_one_of(SPLITS, "data", split=data.split)
    found = [
        (path, pairs.from_manifest(path, root, data.split, cfg.n_pairs, cfg.n_targets))
        for path in manifests
    ]
    found += [(path, pairs.from_table(path, root)) for path in tables]
    places = [f"{path}, split {data.split}" for path in manifests] + [str(path) for path in tables]
    if len(found) == 1:
        return found[0][1], places[0]
    if found:
        names = domains.names([path for path, _ in found])
        listed = [(name, own) for name, (_, own) in zip(names, found, strict=True)]
        return domains.together(listed), "; ".join(map(": ".join, zip(names, places, strict=True)))
    if root:
        return pairs.from_folder(root, cfg.n_pairs, cfg.n_targets), str(root)
    raise InputError("give recordings: data.manifest=FILE, data.dir=FOLDER or data.pairs=FILE")


def paths_of(value: object, key: str) -> list[Path]:
    """List the files of a key that takes one file or a list [a,b]."""
    values = value if isinstance(value, ListConfig) else [value] if value else []
    return [paths.single_path(one, key) for one in values]


def run() -> None:
    """Run `python evaluate.py`, or `vc-evaluate` where the package is installed."""
    entry_point.run(main, "evaluate")
