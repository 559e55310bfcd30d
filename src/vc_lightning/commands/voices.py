"""Learn, list, export and import voices: the keys `voices.*` of convert.py."""

import logging
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from shlex import quote

from omegaconf import DictConfig

from vc_lightning.commands import paths
from vc_lightning.common import resources
from vc_lightning.common.errors import InputError
from vc_lightning.conversion import consent, voice_files, voice_library
from vc_lightning.conversion.batch_converter import BatchConverter
from vc_lightning.conversion.consent import Statement
from vc_lightning.conversion.jobs import Target
from vc_lightning.models import checkpoints

log = logging.getLogger("convert")

VERBS = ("list", "learn", "export", "import")
NOTES = ("consent", "made_by", "licence")


def wanted(cfg: DictConfig) -> str:
    """Return the action of the keys `voices.*`: one of `VERBS`, or "" for a conversion.

    Args:
        cfg: The configuration of convert.py.

    Raises:
        InputError: There are several actions, or a key that belongs to another action.
    """
    verbs = [verb for verb in VERBS if cfg.voices[verb]]
    if len(verbs) > 1:
        raise InputError(f"voices.{verbs[0]} and voices.{verbs[1]}: give only one of them")
    verb = verbs[0] if verbs else ""
    for key in NOTES:
        if cfg.voices[key] is not None and verb not in ("learn", "export"):
            raise InputError(f"voices.{key}: goes with voices.learn=NAME or voices.export=NAME")
    if cfg.voices.name is not None and verb != "import":
        raise InputError("voices.name: goes with voices.import=FILE")
    return verb


def run(
    verb: str,
    cfg: DictConfig,
    folder: Path,
    make_batch: Callable[[], BatchConverter],
    find_target: Callable[[str | Sequence[str] | None, Path], Target],
) -> None:
    """Run the action that `wanted` returns.

    Args:
        verb: One of `VERBS`.
        cfg: The configuration of convert.py.
        folder: The folder of the learned voices.
        make_batch: Builds the batch converter, which analyzes recordings.
        find_target: Finds the target that `target=` names, given its value and `folder`.
    """
    if verb == "list":
        list_voices(folder)
    elif verb == "learn":
        learn_voice(cfg, folder, make_batch, find_target)
    elif verb == "export":
        export_voice(cfg, folder)
    else:
        import_voice(cfg, folder)


def learn_voice(
    cfg: DictConfig,
    folder: Path,
    make_batch: Callable[[], BatchConverter],
    find_target: Callable[[str | Sequence[str] | None, Path], Target],
) -> None:
    """Keep the voice of `target=` under a name."""
    name = str(cfg.voices.learn)
    voice_library.path_of(folder, name)  # refuses a bad name before the work
    statement, made_by, licence = _statement(cfg), _note(cfg, "made_by"), _note(cfg, "licence")
    target = find_target(cfg.target, folder)
    if isinstance(target, str):
        raise InputError(f"target={target}: is a learned voice already; name its recordings")
    batch = make_batch()
    converter = batch.converter
    samples = [sample for _, sample in batch.voice_samples(target)]
    seconds = sum(sample.seconds for sample in samples)
    voice, identity = converter.voice_from(samples), converter.encoder_identity
    path = voice_library.save(
        folder,
        name,
        voice,
        identity,
        len(samples),
        seconds,
        made_by=made_by or "",
        licence=licence or "",
        consent=statement,
    )
    log.info("%s: learned from %d recordings, %.0f s: %s", name, len(samples), seconds, path)
    if statement is None:
        log.info("no consent is stored with it; voices.consent=… adds the speaker's own words")
    log.info("use it: %s source=a.wav target=%s", resources.command("convert"), quote(name))


def list_voices(folder: Path) -> None:
    """Log the learned voices, with the consent of their speakers."""
    names = voice_library.names(folder)
    if not names:
        log.info("no voices in %s; learn one by voices.learn=NAME target=FOLDER", folder)
    for name in names:
        try:
            learned = voice_library.load(folder, name)
        except InputError as error:
            log.warning("%s", error)
            continue
        log.info(
            "%-20s  %3d recordings, %5.0f s, %s",
            name,
            learned.n_recordings,
            learned.seconds,
            learned.learned,
        )
        for key, text in (
            ("consent", str(learned.consent or "none stored")),
            ("made by", learned.made_by),
            ("licence", learned.licence),
        ):
            if text:
                log.info("    %-8s %s", key, text)


def export_voice(cfg: DictConfig, folder: Path) -> None:
    """Write a learned voice to `output=`, to be shared."""
    name = str(cfg.voices.export)
    output = paths.writable_path(
        cfg.output or f"{name}{voice_files.SUFFIX}", "output", voice_files.SUFFIX
    )
    learned = voice_library.load(folder, name)
    statement = _statement(cfg)
    if statement is None and learned.consent is not None:
        statement = consent.restate(learned.consent)
    made_by, licence = _note(cfg, "made_by"), _note(cfg, "licence")
    learned = replace(
        learned,
        made_by=learned.made_by if made_by is None else made_by,
        licence=learned.licence if licence is None else licence,
    )
    path = voice_files.export(learned, statement, output)
    log.info("%s: %d bytes in %s", name, path.stat().st_size, path)
    log.info("others use it: %s voices.import=%s", resources.command("convert"), quote(path.name))


def import_voice(cfg: DictConfig, folder: Path) -> None:
    """Add a shared voice to the learned ones."""
    path = paths.single_path(cfg.voices["import"], "voices.import")
    encoder = paths.single_path(
        cfg.speaker_encoder or str(resources.SPEAKER_ENCODER), "speaker_encoder"
    )
    identity = checkpoints.read_speaker_encoder(encoder)[1].speaker_encoder
    name = None if cfg.voices.name is None else str(cfg.voices.name)
    learned = voice_files.add(folder, path, name, identity)
    log.info("%s: a voice made by %s", learned.name, learned.made_by or "an unknown person")
    log.info("consent: %s", learned.consent or "none stored")
    log.info("licence: %s", learned.licence or "none stated")
    log.info("use it: %s source=a.wav target=%s", resources.command("convert"), quote(learned.name))


def _statement(cfg: DictConfig) -> Statement | None:
    """Return the consent on the command line, if there is one."""
    value = cfg.voices.consent
    return None if value is None else consent.read_statement(str(value))


def _note(cfg: DictConfig, key: str) -> str | None:
    """Return the text of voices.`key`, such as the maker of a voice; None if it is not given."""
    value = cfg.voices[key]
    return None if value is None else consent.require_words(str(value), f"voices.{key}")
