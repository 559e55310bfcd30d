"""The learned voices: find them, learn new ones, import and export shared ones."""

import logging
import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from vc_lightning.common.errors import InputError
from vc_lightning.conversion.converter import VoiceConverter
from vc_lightning.conversion.recording import Recording
from vc_lightning.conversion.voices import consent as consents
from vc_lightning.conversion.voices import file
from vc_lightning.conversion.voices.consent import Consent
from vc_lightning.conversion.voices.file import LearnedVoice
from vc_lightning.conversion.voices.voice import Target, Voice, VoiceSample
from vc_lightning.models.checkpoints import require_same_encoder

log = logging.getLogger(__name__)

SUFFIX = f".voice{file.SUFFIX}"
OLD_SUFFIX, OLD_CONSENT_SUFFIX = ".voice.json", ".consent.flac"  # of version 0.3 and before


class VoiceShelf:
    """A folder of learned voices, one file each; it is created with the first voice."""

    def __init__(self, folder: Path):
        self.folder = folder

    def names(self) -> list[str]:
        """Return the names of the voices, sorted."""
        found = {
            path.name.removesuffix(suffix)
            for suffix in (SUFFIX, OLD_SUFFIX)
            for path in self.folder.glob(f"*{suffix}")
        }
        return sorted(found)

    def path_of(self, name: str) -> Path:
        """Return the file of a voice.

        Raises:
            InputError: The name has characters that a file's name may not have, or too many.
        """
        if not re.fullmatch(r"\w[\w .-]{0,63}", name):
            raise InputError(
                f"voice {name!r}: name it by 1 to 64 letters, digits, spaces, dots, _ and -"
            )
        return self.folder / f"{name}{SUFFIX}"

    def get(self, name: str) -> LearnedVoice:
        """Read a voice.

        Raises:
            InputError: There is no such voice, or its file is damaged.
        """
        path, old = self.path_of(name), self.folder / f"{name}{OLD_SUFFIX}"
        if path.exists():
            return replace(file.read(path), name=name)
        if old.exists():
            return file.read_of_0_3(old, self.folder / f"{name}{OLD_CONSENT_SUFFIX}", name)
        known = ", ".join(self.names()) or "none"
        raise InputError(f"voice {name}: not learned yet; in {self.folder} there are: {known}")

    def voice(self, name: str, converter: VoiceConverter) -> Voice:
        """Return a voice for a converter.

        A reference that other weights made is left out, with a warning.

        Raises:
            InputError: There is no such voice, its file is damaged, or another speaker encoder made
                it.
        """
        learned = self.get(name)
        identity = converter.networks.encoder_identity
        require_same_encoder(learned.speaker_encoder, identity, f"voice {name}")
        if converter.autovc.has_reference and learned.network != converter.checkpoint:
            log.warning(
                "voice %s: was learned with %s; learn it again, so that it sounds more like its "
                "speaker",
                name,
                learned.network or "an older version",
            )
            return replace(learned.voice, reference=None)
        return learned.voice

    def find(
        self,
        target: Target,
        converter: VoiceConverter,
        analyze: Callable[[Path], VoiceSample | Recording] | None = None,
    ) -> Voice:
        """Return the voice of recordings, or a learned one.

        Args:
            target: Recordings of one speaker, or the name of a learned voice.
            converter: The converter that will use it.
            analyze: Reads and analyzes a recording; None for the converter's own `sample`.

        Raises:
            InputError: There is no such voice, or a recording cannot be used.
        """
        if isinstance(target, str):
            return self.voice(target, converter)
        if analyze is None:
            return converter.voice(target)
        return converter.voice_from(map(analyze, target))

    def learn(
        self,
        name: str,
        samples: Sequence[VoiceSample],
        converter: VoiceConverter,
        *,
        made_by: str = "",
        licence: str = "",
        consent: Consent | None = None,
    ) -> LearnedVoice:
        """Keep the voice of recordings that a converter analyzed; it replaces one of the same name.

        See `LearnedVoice` for the other arguments.

        Raises:
            InputError: The name cannot be used.
        """
        voice = converter.voice_from(samples)
        return self.put(
            LearnedVoice(
                name,
                voice,
                converter.networks.encoder_identity,
                len(samples),
                sum(sample.seconds for sample in samples),
                consents.today(),
                made_by,
                licence,
                consent,
                "" if voice.reference is None else converter.checkpoint,
            )
        )

    def put(self, learned: LearnedVoice) -> LearnedVoice:
        """Store a voice; it replaces one of the same name."""
        path = self.path_of(learned.name)
        self.folder.mkdir(parents=True, exist_ok=True)
        learned = replace(learned, seconds=round(learned.seconds, 1))
        file.write(learned, path)
        self._forget_old(learned.name)
        return learned

    def forget(self, name: str) -> None:
        """Delete a voice, with the spoken consent that is kept with it."""
        self.path_of(name).unlink(missing_ok=True)
        self._forget_old(name)

    def add(self, path: Path, name: str | None, speaker_encoder: str) -> LearnedVoice:
        """Add the voice in a shared file.

        Args:
            path: The file.
            name: Name for the voice; None for the one in the file.
            speaker_encoder: Identity of the speaker encoder that conversions use.

        Raises:
            InputError: The file is damaged or not a voice, another speaker encoder made it, or
                there is a voice of this name.
        """
        learned = file.read(path)
        require_same_encoder(learned.speaker_encoder, speaker_encoder, str(path))
        name = name or learned.name
        self.path_of(name)  # refuses a bad name
        if name in self.names():
            raise InputError(
                f"import {path}: there is a voice {name} already; give another name by name=…"
            )
        return self.put(replace(learned, name=name))

    def export(self, learned: LearnedVoice, path: Path) -> Path:
        """Write a voice as a file that others can import, and return its path.

        Raises:
            InputError: There is no consent, or the file exists.
        """
        if learned.consent is None:
            raise InputError(
                f"export {learned.name}: a voice is shared only with its speaker's consent; add "
                'consent="I, …, agree that …" or a recording of it'
            )
        if path.exists():
            raise InputError(f"output={path}: exists already; name another file")
        return file.write(learned, path)

    def _forget_old(self, name: str) -> None:
        """Delete the files of a voice of version 0.3."""
        for suffix in (OLD_SUFFIX, OLD_CONSENT_SUFFIX):
            (self.folder / f"{name}{suffix}").unlink(missing_ok=True)
