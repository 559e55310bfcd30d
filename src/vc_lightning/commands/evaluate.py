"""Judges a converter on held-out recordings: python evaluate.py data.manifest=MANIFEST.tsv"""

import logging
from pathlib import Path
from shlex import quote

import hydra
from omegaconf import DictConfig, ListConfig

from vc_lightning.commands import builders, entry_point, paths
from vc_lightning.common import resources
from vc_lightning.common.errors import InputError, require_flag, require_one_of, require_seed
from vc_lightning.conversion import provenance
from vc_lightning.evaluation import domains, pairs, report, worst
from vc_lightning.evaluation.evaluator import PARTS, evaluate
from vc_lightning.evaluation.results import TITLES, figures

log = logging.getLogger("evaluate")

SPLITS = ("test", "val", "train")
LOGGED = 3  # of the worst conversions
SHOWN = (  # on the terminal; the report has all
    *("similarity/before", "similarity/to_target", "similarity/to_source", "similarity/accepted"),
    *("words/character_errors", "naturalness/conversion", "prosody/correlation"),
)


@hydra.main(version_base="1.3", config_path=str(resources.CONF), config_name="evaluate")
@entry_point.reports_input_errors
def main(cfg: DictConfig) -> None:
    """Converts the pairs, lets the judges hear them and writes the report."""
    require_seed("seed", cfg.seed)
    require_flag("robustness", cfg.robustness)
    for key in ("n_pairs", "n_targets", "n_robustness", "n_worst"):
        if isinstance(cfg[key], bool) or not isinstance(cfg[key], int) or cfg[key] < 1:
            raise InputError(f"{key}={cfg[key]}: give an integer of at least 1")
    words = ",".join(cfg.judges) if isinstance(cfg.judges, ListConfig) else cfg.judges
    parts = paths.split_choices(words, "judges", PARTS)
    recogniser = str(paths.single_path(cfg.recogniser, "recogniser"))
    listed, origin = chosen_pairs(cfg)
    converter = builders.build_converter(cfg)
    folder = report.require_folder(cfg.output, "output")
    log.info("%d pairs of %s", len(listed), origin)
    n_robustness = cfg.n_robustness if cfg.robustness else 0
    found = evaluate(converter, listed, parts, recogniser, cfg.seed, n_robustness)
    about = {
        "converter": f"{cfg.ckpt or 'the shipped one'} (step {converter.card.step})",
        "trained on": converter.card.trained_on or "unknown",
        "guidance": str(cfg.guidance),
        "vocoder": f"{type(converter.vocoder).__name__}, seed {cfg.seed}",
        "pairs": f"{len(listed)} of {origin}",
        "recogniser": recogniser,
    }
    if own := sum(pair.target_judge in pair.voice for pair in listed):
        about["judged by the one recording that makes the voice"] = f"{own} pairs"
    strings = provenance.strings(converter.note())
    report.write(found, folder, about, converter.mel, strings, cfg.n_worst)
    for key, value in figures(found.outcomes).items():
        if key in SHOWN:
            log.info("%-50s %6.3f (%d pairs)", TITLES[key], value.mean, value.n)
    for index, outcome in worst.ranked(found.outcomes, LOGGED):
        path = folder / report.wav_path(index, outcome, "conversion")
        log.info("among the worst: %s (%s)", path, worst.reason(outcome))
    log.info("report:  %s", folder / "report.md")
    log.info("look:    tensorboard --logdir %s", quote(str(folder)))


def chosen_pairs(cfg: DictConfig) -> tuple[list[pairs.Pair], str]:
    """The pairs that the configuration names, and from where, in words."""
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
    raise InputError("say which recordings: data.manifest=FILE, data.dir=FOLDER or data.pairs=FILE")


def paths_of(value: object, key: str) -> list[Path]:
    """The files of a key that takes one or a list of them, [a,b]."""
    values = value if isinstance(value, ListConfig) else [value] if value else []
    return [paths.single_path(one, key) for one in values]


def run() -> None:
    """`python evaluate.py`, and `vc-evaluate` where the package is installed."""
    entry_point.run(main, "evaluate")
