"""Learn, show and share voices: python voices.py learn Anna target=FOLDER"""

import logging
from dataclasses import replace
from pathlib import Path
from shlex import quote

import hydra
from omegaconf import DictConfig

from vc_lightning.commands import convert, entry_point, paths
from vc_lightning.common import resources
from vc_lightning.common.errors import InputError
from vc_lightning.conversion import consent, provenance, voice_files, voice_library
from vc_lightning.conversion.consent import Statement
from vc_lightning.conversion.voice_library import Learned
from vc_lightning.models import checkpoints

log = logging.getLogger("voices")

VERBS = {
    "learn": "keep the voice of target= under a name",
    "list": "name the learned voices",
    "show": "describe a voice or a file",
    "export": "write a voice to a file, to be shared",
    "import": "add a shared voice",
    "forget": "delete a voice",
}
KEYS = {  # of verbs; the others are for all
    "target": ("learn",),
    "output": ("export",),
    "consent": ("learn", "export"),
    "made_by": ("learn", "export"),
    "licence": ("learn", "export"),
    "file": ("import", "show"),
    "name": ("learn", "show", "export", "import", "forget"),
}


@hydra.main(version_base="1.3", config_path=str(resources.CONF), config_name="voices")
@entry_point.reports_input_errors
def main(cfg: DictConfig) -> None:
    """Do what `verb` says with the learned voices."""
    entry_point.require_verb(cfg.verb, VERBS)
    require_fitting_keys(cfg)
    folder = paths.single_path(cfg.voices.dir, "voices.dir")
    if cfg.verb == "learn":
        learn_voice(cfg, folder)
    elif cfg.verb == "list":
        list_voices(folder)
    elif cfg.verb == "show":
        show(cfg, folder)
    elif cfg.verb == "export":
        export_voice(cfg, folder)
    elif cfg.verb == "import":
        import_voice(cfg, folder)
    else:
        forget_voice(str(cfg.name), folder)


def require_fitting_keys(cfg: DictConfig) -> None:
    """Raise InputError for a key that belongs to another verb, or for a missing name."""
    for key, verbs in KEYS.items():
        if cfg[key] is not None and cfg.verb not in verbs:
            raise InputError(f"{key}: goes with {', '.join(verbs)}, not with {cfg.verb}")
    command = resources.command("voices")
    if cfg.verb in ("learn", "export", "forget") and cfg.name is None:
        raise InputError(f"{cfg.verb}: name the voice, as in {command} {cfg.verb} NAME")
    if cfg.verb == "import" and cfg.file is None:
        raise InputError(f"import: name the file, as in {command} import FILE")
    if cfg.verb == "show" and (cfg.name is None) == (cfg.file is None):
        raise InputError(f"show: name a voice or a file, as in {command} show NAME")


def learn_voice(cfg: DictConfig, folder: Path) -> None:
    """Keep the voice of `target=` under a name."""
    name = str(cfg.name)
    voice_library.path_of(folder, name)  # refuses a bad name before the work
    statement, made_by, licence = _statement(cfg), _note(cfg, "made_by"), _note(cfg, "licence")
    if cfg.target is None:
        raise InputError("learn: name the recordings of the speaker with target=FOLDER")
    target = convert.target_of(cfg.target, folder)
    if isinstance(target, str):
        raise InputError(f"target={target}: is a learned voice already; name its recordings")
    batch = convert.made_batch(cfg, folder)
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
        log.info("no consent is stored with it; consent=… adds the speaker's own words")
    log.info("use it: %s source=a.wav target=%s", resources.command("convert"), quote(name))


def list_voices(folder: Path) -> None:
    """Log the learned voices, with the consent of their speakers."""
    names, how = voice_library.names(folder), resources.command("voices")
    if not names:
        log.info("no voices in %s; learn one: %s learn NAME target=FOLDER", folder, how)
    for name in names:
        try:
            learned = voice_library.load(folder, name)
        except InputError as error:
            log.warning("%s", error)
            continue
        log_voice(learned)


def log_voice(learned: Learned) -> None:
    """Log what is known of a voice, with the consent of its speaker."""
    numbers = learned.n_recordings, learned.seconds, learned.learned
    log.info("%-20s  %3d recordings, %5.0f s, %s", learned.name, *numbers)
    log_rights(str(learned.consent or "none stored"), learned.made_by, learned.licence)


def log_rights(statement: str, made_by: str, licence: str) -> None:
    """Log consent, maker and licence of a voice; empty ones are left out."""
    for key, text in (("consent", statement), ("made by", made_by), ("licence", licence)):
        if text:
            log.info("    %-8s %s", key, text)


def show(cfg: DictConfig, folder: Path) -> None:
    """Log what is known of a learned voice, of the file of a shared one, or of a conversion."""
    if cfg.file is None:
        log_voice(voice_library.load(folder, str(cfg.name)))
        return
    path = paths.single_path(cfg.file, "file")
    if path.suffix.lower() != voice_files.SUFFIX:
        lines = [*provenance.describe(path), provenance.describe_sound(path)]
        log.info("%s", "\n".join(lines))
        return
    _, header, statement = voice_files.read(path)
    log.info("%s: a shared voice", header["name"])
    log.info("    %d recordings, %.0f s", header["n_recordings"], header["seconds"])
    given = "none stored" if statement is None else f"{statement.text} ({statement.given})"
    log_rights(given, header["made_by"], header["licence"])


def forget_voice(name: str, folder: Path) -> None:
    """Delete a learned voice, with the spoken consent that is kept with it."""
    voice_library.load(folder, name)  # refuses an unknown name
    voice_library.forget(folder, name)
    log.info("%s: forgotten", name)


def export_voice(cfg: DictConfig, folder: Path) -> None:
    """Write a learned voice to `output=`, to be shared."""
    name = str(cfg.name)
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
    log.info("others use it: %s import %s", resources.command("voices"), quote(path.name))


def import_voice(cfg: DictConfig, folder: Path) -> None:
    """Add a shared voice to the learned ones."""
    path = paths.single_path(cfg.file, "file")
    encoder = paths.single_path(
        cfg.speaker_encoder or str(resources.SPEAKER_ENCODER), "speaker_encoder"
    )
    identity = checkpoints.read_speaker_encoder(encoder)[1].speaker_encoder
    name = None if cfg.name is None else str(cfg.name)
    learned = voice_files.add(folder, path, name, identity)
    log.info("%s: a voice made by %s", learned.name, learned.made_by or "an unknown person")
    log.info("consent: %s", learned.consent or "none stored")
    log.info("licence: %s", learned.licence or "none stated")
    log.info("use it: %s source=a.wav target=%s", resources.command("convert"), quote(learned.name))


def _statement(cfg: DictConfig) -> Statement | None:
    """Return the consent on the command line, if there is one."""
    value = cfg.consent
    return None if value is None else consent.read_statement(str(value))


def _note(cfg: DictConfig, key: str) -> str | None:
    """Return the text of `key`, such as the maker of a voice; None if it is not given."""
    value = cfg[key]
    return None if value is None else consent.require_words(str(value), key)


def run() -> None:
    """Run `python voices.py`, or `vc-voices` where the package is installed."""
    entry_point.run(main, "voices")
