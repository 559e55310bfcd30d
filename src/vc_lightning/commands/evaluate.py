"""Judges a converter on held-out recordings: python evaluate.py data.manifest=MANIFEST.tsv"""

import logging
from shlex import quote

import hydra
from omegaconf import DictConfig, ListConfig

from vc_lightning.commands import builders, entry_point, paths
from vc_lightning.common import resources
from vc_lightning.common.errors import InputError, require_one_of, require_seed
from vc_lightning.conversion import provenance
from vc_lightning.evaluation import pairs, report
from vc_lightning.evaluation.evaluator import PARTS, evaluate
from vc_lightning.evaluation.results import TITLES, figures

log = logging.getLogger("evaluate")

SPLITS = ("test", "val", "train")
SHOWN = (  # on the terminal; the report has all
    *("similarity/before", "similarity/to_target", "similarity/to_source", "similarity/accepted"),
    *("words/character_errors", "naturalness/conversion", "prosody/correlation"),
)


@hydra.main(version_base="1.3", config_path=str(resources.CONF), config_name="evaluate")
@entry_point.reports_input_errors
def main(cfg: DictConfig) -> None:
    """Converts the pairs, lets the judges hear them and writes the report."""
    require_seed("seed", cfg.seed)
    for key in ("n_pairs", "n_targets"):
        if isinstance(cfg[key], bool) or not isinstance(cfg[key], int) or cfg[key] < 1:
            raise InputError(f"{key}={cfg[key]}: give an integer of at least 1")
    words = ",".join(cfg.judges) if isinstance(cfg.judges, ListConfig) else cfg.judges
    parts = paths.split_choices(words, "judges", PARTS)
    recogniser = str(paths.single_path(cfg.recogniser, "recogniser"))
    listed, origin = chosen_pairs(cfg)
    converter = builders.build_converter(cfg)
    folder = report.require_folder(cfg.output, "output")
    log.info("%d pairs of %s", len(listed), origin)
    found = evaluate(converter, listed, parts, recogniser, cfg.seed)
    about = {
        "converter": f"{cfg.ckpt or 'the shipped one'} (step {converter.card.step})",
        "trained on": converter.card.trained_on or "unknown",
        "guidance": str(cfg.guidance),
        "vocoder": f"{type(converter.vocoder).__name__}, seed {cfg.seed}",
        "pairs": f"{len(listed)} of {origin}",
        "recogniser": recogniser,
    }
    report.write(found, folder, about, converter.mel, provenance.strings(converter.note()))
    for key, value in figures(found.outcomes).items():
        if key in SHOWN:
            log.info("%-50s %6.3f (%d pairs)", TITLES[key], value.mean, value.n)
    log.info("report:  %s", folder / "report.md")
    log.info("look:    tensorboard --logdir %s", quote(str(folder)))


def chosen_pairs(cfg: DictConfig) -> tuple[list[pairs.Pair], str]:
    """The pairs that the configuration names, and from where, in words."""
    data = cfg.data
    root = data.dir and paths.single_path(data.dir, "data.dir")
    if data.pairs and data.manifest:
        raise InputError(f"data.pairs={data.pairs}: leave it out, or data.manifest={data.manifest}")
    if data.pairs:
        table = paths.single_path(data.pairs, "data.pairs")
        return pairs.from_table(table, root), str(table)
    if data.manifest:
        require_one_of(SPLITS, "data", split=data.split)
        manifest = paths.single_path(data.manifest, "data.manifest")
        listed = pairs.from_manifest(manifest, root, data.split, cfg.n_pairs, cfg.n_targets)
        return listed, f"{manifest}, split {data.split}"
    if root:
        return pairs.from_folder(root, cfg.n_pairs, cfg.n_targets), str(root)
    raise InputError("say which recordings: data.manifest=FILE, data.dir=FOLDER or data.pairs=FILE")


def run() -> None:
    """`python evaluate.py`, and `vc-evaluate` where the package is installed."""
    entry_point.run(main, "evaluate")
