"""Learn, show and share voices: python voices.py learn Anna target=FOLDER"""

import logging
from dataclasses import replace
from shlex import quote

import hydra
from omegaconf import DictConfig

from vc_lightning.commands import convert
from vc_lightning.commands.support import entry_point, paths
from vc_lightning.commands.support.targets import target_of
from vc_lightning.common import resources
from vc_lightning.common.errors import InputError
from vc_lightning.conversion import provenance
from vc_lightning.conversion.voices import consent, file
from vc_lightning.conversion.voices.consent import Consent
from vc_lightning.conversion.voices.file import LearnedVoice
from vc_lightning.conversion.voices.shelf import VoiceShelf
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
    shelf = VoiceShelf(paths.single_path(cfg.voices.dir, "voices.dir"))
    if cfg.verb == "learn":
        learn_voice(cfg, shelf)
    elif cfg.verb == "list":
        list_voices(shelf)
    elif cfg.verb == "show":
        show(cfg, shelf)
    elif cfg.verb == "export":
        export_voice(cfg, shelf)
    elif cfg.verb == "import":
        import_voice(cfg, shelf)
    else:
        forget_voice(str(cfg.name), shelf)


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


def learn_voice(cfg: DictConfig, shelf: VoiceShelf) -> None:
    """Keep the voice of `target=` under a name."""
    name = str(cfg.name)
    shelf.path_of(name)  # refuses a bad name before the work
    given, made_by, licence = _consent(cfg), _note(cfg, "made_by"), _note(cfg, "licence")
    if cfg.target is None:
        raise InputError("learn: name the recordings of the speaker with target=FOLDER")
    target = target_of(cfg.target, shelf.folder)
    if isinstance(target, str):
        raise InputError(f"target={target}: is a learned voice already; name its recordings")
    batch = convert.made_batch(cfg, shelf.folder)
    samples = [sample for _, sample in batch.voice_samples(target)]
    learned = shelf.learn(
        name,
        samples,
        batch.converter,
        made_by=made_by or "",
        licence=licence or "",
        consent=given,
    )
    numbers = learned.n_recordings, learned.seconds, shelf.path_of(name)
    log.info("%s: learned from %d recordings, %.0f s: %s", name, *numbers)
    if given is None:
        log.info("no consent is stored with it; consent=… adds the speaker's own words")
    log.info("use it: %s source=a.wav target=%s", resources.command("convert"), quote(name))


def list_voices(shelf: VoiceShelf) -> None:
    """Log the learned voices, with the consent of their speakers."""
    names, how = shelf.names(), resources.command("voices")
    if not names:
        log.info("no voices in %s; learn one: %s learn NAME target=FOLDER", shelf.folder, how)
    for name in names:
        try:
            learned = shelf.get(name)
        except InputError as error:
            log.warning("%s", error)
            continue
        log_voice(learned)


def log_voice(learned: LearnedVoice) -> None:
    """Log what is known of a voice, with the consent of its speaker."""
    numbers = learned.n_recordings, learned.seconds, learned.learned
    log.info("%-20s  %3d recordings, %5.0f s, %s", learned.name, *numbers)
    log_rights(str(learned.consent or "none stored"), learned.made_by, learned.licence)


def log_rights(given: str, made_by: str, licence: str) -> None:
    """Log consent, maker and licence of a voice; empty ones are left out."""
    for key, text in (("consent", given), ("made by", made_by), ("licence", licence)):
        if text:
            log.info("    %-8s %s", key, text)


def show(cfg: DictConfig, shelf: VoiceShelf) -> None:
    """Log what is known of a learned voice, of the file of a shared one, or of a conversion."""
    if cfg.file is None:
        log_voice(shelf.get(str(cfg.name)))
        return
    path = paths.single_path(cfg.file, "file")
    if path.suffix.lower() != file.SUFFIX:
        lines = [*provenance.describe(path), provenance.describe_sound(path)]
        log.info("%s", "\n".join(lines))
        return
    shared = file.read(path)
    log.info("%s: a shared voice", shared.name)
    log.info("    %d recordings, %.0f s", shared.n_recordings, shared.seconds)
    log_rights(str(shared.consent or "none stored"), shared.made_by, shared.licence)


def forget_voice(name: str, shelf: VoiceShelf) -> None:
    """Delete a learned voice, with the spoken consent that is kept with it."""
    shelf.get(name)  # refuses an unknown name
    shelf.forget(name)
    log.info("%s: forgotten", name)


def export_voice(cfg: DictConfig, shelf: VoiceShelf) -> None:
    """Write a learned voice to `output=`, to be shared."""
    name = str(cfg.name)
    output = paths.writable_path(cfg.output or f"{name}{file.SUFFIX}", "output", file.SUFFIX)
    learned = shelf.get(name)
    made_by, licence = _note(cfg, "made_by"), _note(cfg, "licence")
    learned = replace(
        learned,
        made_by=learned.made_by if made_by is None else made_by,
        licence=learned.licence if licence is None else licence,
        consent=_consent(cfg) or learned.consent,
    )
    path = shelf.export(learned, output)
    log.info("%s: %d bytes in %s", name, path.stat().st_size, path)
    log.info("others use it: %s import %s", resources.command("voices"), quote(path.name))


def import_voice(cfg: DictConfig, shelf: VoiceShelf) -> None:
    """Add a shared voice to the learned ones."""
    path = paths.single_path(cfg.file, "file")
    encoder = paths.single_path(
        cfg.speaker_encoder or str(resources.SPEAKER_ENCODER), "speaker_encoder"
    )
    identity = checkpoints.read_speaker_encoder(encoder)[1].speaker_encoder
    name = None if cfg.name is None else str(cfg.name)
    learned = shelf.add(path, name, identity)
    log.info("%s: a voice made by %s", learned.name, learned.made_by or "an unknown person")
    log.info("consent: %s", learned.consent or "none stored")
    log.info("licence: %s", learned.licence or "none stated")
    log.info("use it: %s source=a.wav target=%s", resources.command("convert"), quote(learned.name))


def _consent(cfg: DictConfig) -> Consent | None:
    """Return the consent on the command line, if there is one."""
    value = cfg.consent
    return None if value is None else consent.read(str(value))


def _note(cfg: DictConfig, key: str) -> str | None:
    """Return the text of `key`, such as the maker of a voice; None if it is not given."""
    value = cfg[key]
    return None if value is None else consent.require_words(str(value), key)


def run() -> None:
    """Run `python voices.py`, or `vc-voices` where the package is installed."""
    entry_point.run(main, "voices")
