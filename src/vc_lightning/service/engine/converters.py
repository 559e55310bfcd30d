"""The converters that clients may choose, loaded once and kept; they share their networks."""

import threading
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from vc_lightning.audio.mel import MelSpectrogram
from vc_lightning.common.errors import require_one_of, require_seed, require_within
from vc_lightning.conversion.converter import VoiceConverter
from vc_lightning.models.vocoders.base import Vocoder

KEPT_CONVERTERS = 3  # in memory; the shipped one takes about 60 MB

MakeVocoder = Callable[[MelSpectrogram], Vocoder]


@dataclass(frozen=True)
class Settings:
    """Settings of a conversion.

    Attributes:
        checkpoint: Name of an offered checkpoint.
        vocoder: Name of an offered vocoder.
        guidance: Strength of the extrapolation away from the source's voice.
        seed: Seed of the vocoder.
    """

    checkpoint: str
    vocoder: str
    guidance: float
    seed: int


class Converters:
    """Converters by checkpoint and vocoder.

    Args:
        checkpoints: Files by the names that are offered; the first one is the default.
        vocoders: Functions that make the offered vocoders by name; the first one is the default.
        load: Function that loads a checkpoint, with the first vocoder.
        seed: Seed where a client gives none.

    Attributes:
        default: Settings where a client gives none.
    """

    def __init__(
        self,
        checkpoints: Mapping[str, Path | str],
        vocoders: Mapping[str, MakeVocoder],
        load: Callable[[Path | str], VoiceConverter],
        seed: int,
    ):
        require_seed("seed", seed)
        self.checkpoints = dict(checkpoints)
        self.vocoders = dict(vocoders)
        self._load = load
        self._kept: OrderedDict[tuple[str, str], VoiceConverter] = OrderedDict()
        self._lock = threading.Lock()
        checkpoint, vocoder = next(iter(checkpoints)), next(iter(vocoders))
        self._first_vocoder = vocoder
        guidance = self._converter(checkpoint, vocoder).guidance
        self.default = Settings(checkpoint, vocoder, guidance, seed)

    def get(self, settings: Settings) -> VoiceConverter:
        """Return the converter for some settings; load what is not in memory.

        Raises:
            InputError: A name is not offered, a value is out of range, or a file cannot be used.
        """
        require_one_of(list(self.checkpoints), "", checkpoint=settings.checkpoint)
        require_one_of(list(self.vocoders), "", vocoder=settings.vocoder)
        require_within(0, 10, "", guidance=settings.guidance)  # before anything is loaded
        require_seed("seed", settings.seed)
        converter = self._converter(settings.checkpoint, settings.vocoder)
        if converter.guidance == settings.guidance:
            return converter
        return VoiceConverter(converter.networks, settings.guidance, converter.checkpoint)

    def _converter(self, checkpoint: str, vocoder: str) -> VoiceConverter:
        with self._lock:
            key = (checkpoint, vocoder)
            if key not in self._kept:
                self._kept[key] = self._made(checkpoint, vocoder)
                if len(self._kept) > KEPT_CONVERTERS:
                    self._kept.popitem(last=False)
            self._kept.move_to_end(key)
            return self._kept[key]

    def _made(self, checkpoint: str, vocoder: str) -> VoiceConverter:
        loaded = [kept for (name, _), kept in self._kept.items() if name == checkpoint]
        converter = loaded[0] if loaded else self._load(self.checkpoints[checkpoint])
        if not loaded and vocoder == self._first_vocoder:
            return converter
        networks = converter.networks.with_vocoder(self.vocoders[vocoder](converter.mel))
        return VoiceConverter(networks, converter.guidance, converter.checkpoint)
