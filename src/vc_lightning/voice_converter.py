"""Voice conversion from recording to recording: frozen speaker encoder, AutoVC and vocoder."""

import contextlib
import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from torch import Tensor, nn

from vc_lightning import audio, checkpoints, pitch, resources
from vc_lightning.autovc import AutoVC
from vc_lightning.checkpoints import Card
from vc_lightning.errors import InputError, require_seed, require_within
from vc_lightning.mel import GriffinLim, MelSpectrogram, require_same_settings
from vc_lightning.pitch import PitchRange
from vc_lightning.speaker_encoder import SpeakerEncoder

log = logging.getLogger(__name__)

Recording = Path | str | np.ndarray


class Vocoder(Protocol):
    """Turns mels into sound: any module with these two members will do."""

    mel_settings: dict

    def generate(self, mel: Tensor, seed: int = 0) -> Tensor:
        """mel (B, n_mels, T) -> wav (B, T · hop_length), the same for a seed."""


def griffin_lim(
    mel: MelSpectrogram,
    magnitude: Path | str | None,
    sharpness: float,
    n_iter: int,
    momentum: float,
) -> GriffinLim:
    """`vocoder=griffin_lim`, for any mels.

    Args: magnitude, the file of a `MagnitudeNet`, which must fit, "shipped", which is left out
        where it does not fit, or None.
    """
    network = None
    if magnitude is not None:
        path = resources.GRIFFIN_LIM if magnitude == "shipped" else magnitude
        network = checkpoints.load_magnitude(path)
        try:
            require_same_settings(network.mel_settings, mel.settings, str(path), "the model")
        except InputError as error:
            if magnitude != "shipped":
                raise
            log.info("Griffin-Lim without its network (%s)", error)
            network = None
    return GriffinLim(mel, network, sharpness, n_iter, momentum)


def wavernn(
    mel: MelSpectrogram, path: Path | str | None, temperature: float | None = None
) -> Vocoder:
    """`vocoder=wavernn`: the network in a file; InputError when it is for other mels.

    Args: temperature, of a `MultiBandWaveRNN`; None is the file's.
    """
    path = path or resources.WAVERNN
    network = checkpoints.load_wavernn(path)
    require_same_settings(network.mel_settings, mel.settings, f"vocoder {path}", "the converter")
    if temperature is not None:
        require_within(0, 2, "vocoder", temperature=temperature)
        if not hasattr(network, "temperature"):
            raise InputError(
                f"vocoder.temperature={temperature}: {path} is not a multi-band WaveRNN"
            )
        network.temperature = temperature
    return network


def auto_vocoder(
    mel: MelSpectrogram, path: Path | str | None, fallback: Callable[[MelSpectrogram], Vocoder]
) -> Vocoder:
    """`vocoder=auto`: the WaveRNN in `path` where it is for these mels, else `fallback`."""
    if path is None:
        return fallback(mel)
    network = checkpoints.load_wavernn(path)
    try:
        require_same_settings(network.mel_settings, mel.settings, f"WaveRNN {path}", "the model")
    except InputError as error:
        log.info("vocoder: Griffin-Lim (%s)", error)
        return fallback(mel)
    return network


@dataclass(frozen=True)
class Voice:
    """What a conversion takes from recordings of a speaker.

    Attributes: embedding (dim_emb,), float32, the mean of theirs; pitch, its range, where the
        network is told it.
    """

    embedding: np.ndarray
    pitch: PitchRange | None = None


class VoiceConverter(nn.Module):
    """Converts recordings between voices that it has never heard.

    Args:
        autovc, card: the network and what its file says of it.
        speaker_encoder, encoder_identity: the encoder and the name of its weights.
        mel: the mel-spectrogram of the network's settings.
        vocoder: makes sound of such mels.
        guidance: how far a conversion goes beyond the mel that the network makes in the target's
            voice, away from the one that it makes in the source's (as classifier-free guidance
            does, Ho & Salimans 2022, arXiv 2207.12598); 0 for the network's own.
    Raises: InputError when the parts do not belong together.
    """

    def __init__(
        self,
        autovc: AutoVC,
        card: Card,
        speaker_encoder: SpeakerEncoder,
        encoder_identity: str,
        mel: MelSpectrogram,
        vocoder: Vocoder,
        guidance: float,
    ):
        super().__init__()
        require_within(0, 10, "", guidance=guidance)
        require_same_settings(card.mel, mel.settings, "the AutoVC checkpoint", "mel=")
        require_same_settings(vocoder.mel_settings, mel.settings, "the vocoder", "the checkpoint")
        checkpoints.require_same_encoder(card.speaker_encoder, encoder_identity, "the checkpoint")
        if autovc.arguments["dim_emb"] != speaker_encoder.linear.out_features:
            raise InputError(
                f"the checkpoint takes embeddings of {autovc.arguments['dim_emb']} numbers, the "
                f"speaker encoder gives {speaker_encoder.linear.out_features}"
            )
        self.autovc = autovc
        self.card = card
        self.speaker_encoder = speaker_encoder
        self.mel = mel
        self.vocoder = vocoder
        self.guidance = guidance
        self.eval().requires_grad_(False)

    @classmethod
    def from_pretrained(cls) -> "VoiceConverter":
        """The converter that comes with the project."""
        return cls.from_checkpoint(resources.AUTOVC)

    @classmethod
    def from_checkpoint(
        cls,
        path: Path | str,
        *,
        vocoder: Callable[[MelSpectrogram], Vocoder] | None = None,
        speaker_encoder: Path | str = resources.SPEAKER_ENCODER,
        freq: int = 32,
        guidance: float | None = None,
    ) -> "VoiceConverter":
        """A converter around any AutoVC file, ours or public.

        Args:
            vocoder: from a mel-spectrogram to a vocoder; None for that of `vocoder=auto`.
            speaker_encoder: weights of the encoder that the network was trained with.
            freq: of public files, which do not carry it.
            guidance: see the class; None for that of conf/converter.yaml.
        """
        if guidance is None:
            guidance = resources.settings("", "converter")["guidance"]
        autovc, card = checkpoints.read_autovc(path, freq)
        encoder, encoder_card = checkpoints.read_speaker_encoder(speaker_encoder)
        try:
            mel = MelSpectrogram(**card.mel)
        except (TypeError, ValueError) as error:
            raise InputError(f"{path}: its mel settings are not usable ({error})") from error
        make_vocoder = vocoder or default_vocoder
        identity = encoder_card.speaker_encoder
        return cls(autovc, card, encoder, identity, mel, make_vocoder(mel), guidance)

    @property
    def sample_rate(self) -> int:
        """Rate in Hz of what `convert` returns, and of the arrays that it takes."""
        return self.mel.sample_rate

    @property
    def device(self) -> torch.device:
        """Where the networks are."""
        return next(self.autovc.parameters()).device

    def convert(
        self, source: Recording, targets: Recording | Sequence[Recording], seed: int = 0
    ) -> np.ndarray:
        """Says what the source says in the voice of the targets.

        Args:
            source: a path, or float samples (n,) at `sample_rate`.
            targets: one or several recordings of one speaker, whose mean embedding is taken.
        Returns: float32 (n,) at `sample_rate`, as long as the source.
        Raises: InputError naming a recording that can not be used.
        """
        return self.convert_to(source, self.voice(targets), seed)

    def voice(self, recordings: Recording | Sequence[Recording]) -> Voice:
        """What `convert_to` needs of one or several recordings of one speaker."""
        if isinstance(recordings, Path | str | np.ndarray):
            recordings = [recordings]
        if not recordings:
            raise InputError("no target recording was given")
        embeddings, contours = [], []
        for recording in recordings:
            wav = self.load(recording)
            with _naming(recording):
                embeddings.append(self._embed(wav))
                if self.autovc.f0:
                    contours.append(self._f0(self.mel.prepare(wav, self.sample_rate)))
        embedding = self.speaker_encoder.average(embeddings)
        return Voice(embedding, pitch.range_of(contours) if contours else None)

    @torch.inference_mode()
    def convert_to(self, source: Recording, target: Voice, seed: int = 0) -> np.ndarray:
        """Like `convert`, for a voice that may be kept and used again."""
        wav = self.load(source)
        embedding = np.asarray(target.embedding, dtype=np.float32)
        dim_emb = self.autovc.arguments["dim_emb"]
        if embedding.shape != (dim_emb,) or not np.isfinite(embedding).all():
            raise InputError(f"the target's embedding must be {dim_emb} finite numbers")
        with _naming(source):
            voices = [self._batch(self._embed(wav)), self._batch(embedding)]
            prepared = self.mel.prepare(wav, self.sample_rate)
        mel = self.mel(self._batch(prepared))
        harmonics = None
        if self.autovc.f0:
            f0 = self._f0(prepared)
            f0 = pitch.moved(f0, pitch.range_of([f0]), target.pitch)
            harmonics = self.mel.harmonics(self._batch(f0))
        return self._vocode(self._guided(mel, *voices, harmonics), len(wav), seed)

    def _guided(
        self, mel: Tensor, source: Tensor, target: Tensor, harmonics: Tensor | None
    ) -> Tensor:
        """The converted mel (1, n_mels, T) of mel, embeddings (1, dim_emb) and harmonics."""
        if self.guidance == 0:
            return self.autovc(mel, source, target, harmonics)[1]
        mel = mel.repeat(2, 1, 1)
        harmonics = None if harmonics is None else harmonics.repeat(2, 1, 1)
        voices = torch.cat([target, source])
        converted, unconverted = self.autovc(mel, source.repeat(2, 1), voices, harmonics)[1]
        return (converted + self.guidance * (converted - unconverted))[None]

    @torch.inference_mode()
    def resynthesize(self, recording: Recording, seed: int = 0) -> np.ndarray:
        """The recording through the vocoder alone, which shows what of the loss is its own."""
        wav = self.load(recording)
        with _naming(recording):
            mel = self._batch(self.mel.extract(wav, self.sample_rate))
        return self._vocode(mel, len(wav), seed)

    def embed(self, recording: Recording) -> np.ndarray:
        """Speaker embedding (dim_emb,) of a recording."""
        wav = self.load(recording)
        with _naming(recording):
            return self._embed(wav)

    def load(self, recording: Recording) -> np.ndarray:
        """A recording as float32 (n,) at `sample_rate`, checked."""
        if isinstance(recording, np.ndarray):
            return audio.check(recording)
        if not isinstance(recording, Path | str):
            kind = type(recording).__name__
            raise InputError(f"a recording is a {kind}; give a path or a NumPy array of floats")
        wav, sample_rate = audio.load(recording)
        return audio.resample(wav, sample_rate, self.sample_rate)

    def _embed(self, wav: np.ndarray) -> np.ndarray:
        level_dbfs = self.mel.settings["level_dbfs"]
        return self.speaker_encoder.embed_recording(wav, self.sample_rate, level_dbfs)

    def _f0(self, prepared: np.ndarray) -> np.ndarray:
        return pitch.track(prepared, self.sample_rate, self.mel.hop_length)

    def _batch(self, array: np.ndarray) -> Tensor:
        return torch.from_numpy(array).to(self.device)[None]

    def _vocode(self, mel: Tensor, n_samples: int, seed: int) -> np.ndarray:
        require_seed("seed", seed)
        wav = self.vocoder.generate(mel.clamp(0, 1), seed)[0, :n_samples]
        return wav.cpu().numpy().astype(np.float32)


@contextlib.contextmanager
def _naming(recording: Recording) -> Iterator[None]:
    """Puts the name of a recording before what is wrong with it."""
    try:
        yield
    except InputError as error:
        if isinstance(recording, np.ndarray):
            raise
        raise InputError(f"{recording}: {error}") from None


def default_vocoder(mel: MelSpectrogram) -> Vocoder:
    """What `vocoder=auto` stands for, from conf/vocoder."""
    settings = resources.settings("vocoder", "griffin_lim")
    return auto_vocoder(mel, None, lambda mel: griffin_lim(mel, **settings))
