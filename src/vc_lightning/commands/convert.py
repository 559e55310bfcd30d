"""Convert recordings to other voices: python convert.py source=a.wav target=b.wav"""

import logging
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import hydra
import numpy as np
from omegaconf import DictConfig, ListConfig
from tqdm import tqdm

from vc_lightning.audio import cleanup
from vc_lightning.audio.files import io
from vc_lightning.audio.watermark import embed
from vc_lightning.commands.support import builders, cluster, entry_point, paths
from vc_lightning.commands.support.targets import NO_RECORDINGS, as_voice, target_of
from vc_lightning.common import resources
from vc_lightning.common.errors import InputError, require_at_least, require_one_of
from vc_lightning.common.parts import MERGE, Part
from vc_lightning.common.progress import Progress
from vc_lightning.conversion import provenance
from vc_lightning.conversion.batch import jobs, results_table
from vc_lightning.conversion.batch.converter import BatchConverter
from vc_lightning.conversion.batch.jobs import Job
from vc_lightning.conversion.provenance import Provenance
from vc_lightning.conversion.voices.shelf import VoiceShelf
from vc_lightning.conversion.voices.voice import Target

log = logging.getLogger("convert")

FORMATS = tuple(suffix[1:] for suffix in io.OUTPUT_SUFFIXES)
BAR_FORMAT = "{l_bar}{bar}| {n_fmt}/{total_fmt} s of sound [{elapsed}, {remaining} left]"


@hydra.main(version_base="1.3", config_path=str(resources.CONF), config_name="convert")
@entry_point.reports_input_errors
def main(cfg: DictConfig) -> None:
    """Convert one recording, or several."""
    require_valid(cfg)
    folder = paths.single_path(cfg.voices.dir, "voices.dir")
    sources = sources_of(cfg)
    if is_single(cfg, sources):
        convert_one(cfg, folder, *sources)
    else:
        convert_many(cfg, folder, sources)


def require_valid(cfg: DictConfig) -> None:
    """Raise InputError for values that would otherwise fail after hours of work."""
    require_one_of(("one", "all", "aligned"), "", match=cfg.match)
    if not isinstance(cfg.also, ListConfig):
        raise InputError(f"also={cfg.also}: give a list, such as also=[source,target]")
    for name in cfg.also:
        require_one_of(("source", "target"), "", also=name)
    if cfg.format is not None:
        require_one_of(FORMATS, "", format=cfg.format)
    require_at_least(1, "", batch_size=cfg.batch_size)
    if cfg.part not in (None, MERGE):
        Part.parse(cfg.part)
    cleanup.require_settings(**cfg.cleanup)


def sources_of(cfg: DictConfig) -> list[Path]:
    """Find the recordings that `source=` names; with `pairs=`, none."""
    if cfg.pairs:
        if cfg.source or cfg.target:
            raise InputError(f"pairs={cfg.pairs}: give either pairs, or source and target")
        return []
    if not cfg.source:
        raise InputError(NO_RECORDINGS)
    return paths.existing_paths(cfg.source, "source", io.AUDIO_SUFFIXES)


def is_single(cfg: DictConfig, sources: Sequence[Path]) -> bool:
    """Return whether the configuration names one conversion into one file."""
    if cfg.pairs or cfg.match != "one" or cfg.bidirectional or not isinstance(cfg.source, str):
        return False
    is_file = sources == [paths.single_path(cfg.source, "source")]
    return is_file and (cfg.output is None or paths.names_a_file(str(cfg.output)))


def convert_one(cfg: DictConfig, folder: Path, source: Path) -> None:
    """Convert one recording and log its similarity to both voices."""
    if cluster.is_split(cfg):
        raise InputError("part, cluster: one conversion cannot be split; name several recordings")
    target = target_of(cfg.target, folder)
    also = list(cfg.also)
    if "target" in also and isinstance(target, str):
        raise InputError(f"also=target: the recordings of the learned voice {target} are not kept")
    named = cfg.output or f"conversion.{cfg.format or 'wav'}"
    if cfg.format and Path(str(named)).suffix.lower() != f".{cfg.format}":
        raise InputError(
            f"format={cfg.format}: output={named} has another suffix; give only one of them"
        )
    output = paths.writable_path(named, "output", *io.OUTPUT_SUFFIXES)
    batch = made_batch(cfg, folder)
    (row,) = batch.convert([Job(source, target, output)])
    if row.seconds is None or row.real_time_factor is None:
        raise InputError(row.error)
    log.info(
        "%s: %.2f s of sound in %.2f s (real-time factor %.2f), vocoder %s",
        cfg.output or output.name,
        row.seconds,
        row.seconds * row.real_time_factor,
        row.real_time_factor,
        type(batch.converter.vocoder).__name__,
    )
    log.info("voice similarity (GE2E cosine)   to target   to source")
    log.info("%-31s  %9.2f   %9.2f", "before (source)", row.before, 1)
    if row.to_target is not None:
        log.info("%-31s  %9.2f   %9.2f", "after (conversion)", row.to_target, row.to_source)
    if left_out := batch.target(target).left_out:
        log.info("(target: %s, left out of the voice)", left_out)
    for name in also:
        path = source if name == "source" else target[-1]
        copy = output.with_stem(f"{output.stem}_{name}")
        converter = batch.converter
        io.save(copy, converter.resynthesize(path, cfg.seed), converter.sample_rate)
        log.info("%s: %s through the vocoder alone", copy, path)


def convert_many(cfg: DictConfig, folder: Path, sources: Sequence[Path]) -> None:
    """Convert recordings into a folder, with a table of all results."""
    if cfg.also:
        raise InputError(
            f"also={cfg.also}: works for one conversion only; leave it out for several"
        )
    output = paths.writable_folder(cfg.output or "outputs", "output")
    listed = jobs.named(pairs_of(cfg, folder, sources, output), output, f".{cfg.format or 'wav'}")
    if cfg.get("cluster"):
        if not cluster.run_parts(cfg, "convert"):
            return
        cfg.part = MERGE
    if cfg.part == MERGE:
        merge_parts(listed, output, required=True)
        if results_table.count_errors(output, listed):
            sys.exit(entry_point.EXIT_SOME_FAILED)
        return
    part = None if cfg.part is None else Part.parse(cfg.part)
    own = listed if part is None else part.block(listed)
    batch = made_batch(cfg, folder)
    note = batch.converter.note()
    done = set() if cfg.overwrite else finished(own, output, part, note)
    if done:
        log.info("%d of %d conversions are there already", len(done), len(own))
        others = sum(is_other(job.output, note) for job in done)
        if others:
            log.warning(
                "%d of them have other weights or settings; overwrite=true replaces them", others
            )
    left = [job for job in own if job not in done]
    failed = 0
    with ProgressBar(left) as bar:
        for start in range(0, len(left), cfg.batch_size):
            some = left[start : start + cfg.batch_size]
            rows = batch.convert(some, bar.part(some))
            results_table.write_table(output, rows, part)
            for row in filter(lambda row: row.error, rows):
                log.error("not converted: %s", row.error)
                failed += 1
    table = results_table.table_path(output, part)
    log.info("%d converted, %d failed; see %s", len(left) - failed, failed, table)
    if part is not None:
        merge_parts(listed, output, required=False)
    if failed:
        sys.exit(entry_point.EXIT_SOME_FAILED)


def finished(own: Sequence[Job], output: Path, part: Part | None, note: Provenance) -> set[Job]:
    """Find the jobs whose output exists; a job of a part also needs its row in the table.

    Args:
        own: The jobs of this part.
        output: The output folder.
        part: This part, or None where the work is not split.
        note: Provenance of the conversions that this command makes.
    """
    done = {job for job in own if job.output.exists()}
    if part is None:
        return done
    # A part that was killed may have written an output without its row.
    recorded = results_table.recorded_outputs(output, part)
    lacking = {job for job in done if str(job.output) not in recorded}
    kept = [job for job in own if job in lacking and is_other(job.output, note)]
    results_table.write_table(output, map(results_table.row_of, kept), part)
    return done - lacking | set(kept)


def merge_parts(listed: Sequence[Job], output: Path, required: bool) -> None:
    """Merge the tables of all parts once they are complete, else log how many rows are missing.

    Args:
        listed: The jobs of all parts.
        output: The output folder.
        required: Whether missing rows are an error.

    Raises:
        InputError: Rows are missing and `required` is set.
    """
    missing = results_table.merge_tables(output, listed)
    if not missing:
        log.info(
            "all %d conversions are done; see %s", len(listed), results_table.table_path(output)
        )
        return
    state = f"{len(missing)} of {len(listed)} conversions of other parts are missing"
    if required:
        raise InputError(f"part=merge: {state}, {missing[0].output} first; run their parts")
    log.info("%s; the last part writes %s", state, results_table.table_path(output))


class ProgressBar:
    """Progress in seconds of converted sound, with the time left; shown on terminals only."""

    def __init__(self, listed: Sequence[Job]):
        self.seconds = {source: duration(source) for source in {job.source for job in listed}}
        total = sum(self.seconds[job.source] for job in listed)
        self.bar = tqdm(total=round(total, 1), unit="s", disable=None, bar_format=BAR_FORMAT)
        self.done = 0.0

    def __enter__(self) -> "ProgressBar":
        return self

    def __exit__(self, *exception: object) -> None:
        self.bar.close()

    def part(self, some: Sequence[Job]) -> Progress:
        """Make a progress callback for some of the jobs."""
        seconds = sum(self.seconds[job.source] for job in some)
        before, self.done = self.done, self.done + seconds

        def show(share: float) -> None:
            self.bar.n = round(before + share * seconds, 1)
            self.bar.refresh()

        return show


def duration(path: Path) -> float:
    """Read a file's duration in seconds from its header; 0 if it is unknown."""
    try:
        return io.duration(path) or 0.0
    except InputError:
        return 0.0


def is_other(path: Path, note: Provenance) -> bool:
    """Return whether a file was not made by a conversion with these weights and settings."""
    try:
        found = provenance.read(path)
    except InputError:
        return True
    return found is None or replace(found, made=note.made) != note


def pairs_of(
    cfg: DictConfig, folder: Path, sources: Sequence[Path], output: Path
) -> list[tuple[Path, Target]]:
    """Pair sources with their targets; files in the output folder are never sources."""
    if cfg.pairs:
        known = set(VoiceShelf(folder).names())
        pairs = jobs.from_table(paths.single_path(cfg.pairs, "pairs"))
        return [(source, as_voice(target, known)) for source, target in pairs]
    sources = [path for path in sources if output.resolve() not in path.resolve().parents]
    if not sources:
        raise InputError(
            f"source={cfg.source}: all recordings lie in output={output}; name another output"
        )
    target = target_of(cfg.target, folder)
    if isinstance(target, str):
        if cfg.bidirectional:
            raise InputError(f"bidirectional=true: the learned voice {target} has no recordings")
        return [(source, target) for source in sources]
    return jobs.matched(sources, target, cfg.match, cfg.bidirectional)


def made_batch(cfg: DictConfig, folder: Path) -> BatchConverter:
    """Build the batch converter that the configuration describes."""
    cleaning = cfg.cleanup

    def after(wav: np.ndarray, rate: int) -> np.ndarray:
        if cleaning.loudness is not None:
            wav = cleanup.normalize_loudness(wav, rate, cleaning.loudness)
        return embed(wav, rate) if cfg.get("watermark", False) else wav

    return BatchConverter(
        builders.build_converter(cfg),
        folder,
        cfg.seed,
        before=lambda wav, rate: cleanup.clean(wav, rate, cleaning.denoise, cleaning.trim),
        after=after,
    )


def run() -> None:
    """Run `python convert.py`, or `vc-convert` where the package is installed."""
    entry_point.run(main, "convert")
    entry_point.exit_at_once()
