"""Voice conversion from recording to recording: frozen speaker encoder, AutoVC and vocoder."""

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from vc_lightning.audio import io as audio
from vc_lightning.audio import pitch, voice_activity
from vc_lightning.audio.mel import MelSpectrogram, require_same_settings
from vc_lightning.audio.pitch_check import PitchCheck
from vc_lightning.audio.spill_buffer import SpillBuffer
from vc_lightning.common import resources
from vc_lightning.common.errors import InputError, require_seed, require_within
from vc_lightning.conversion.chunking import Chunk, cross_fade, split_into_chunks
from vc_lightning.conversion.guidance import convert_mel
from vc_lightning.conversion.provenance import Provenance, fingerprint, of_conversion
from vc_lightning.conversion.recordings import (
    AnalyzedRecording,
    Recording,
    Voice,
    prefix_errors,
    require_embedding,
)
from vc_lightning.conversion.streaming import VoiceStream
from vc_lightning.models import checkpoints, hub
from vc_lightning.models.autovc import AutoVC
from vc_lightning.models.checkpoints import Card
from vc_lightning.models.speaker_encoder import SpeakerEncoder
from vc_lightning.models.vocoders.base import Progress, Vocoder, no_progress, vocode
from vc_lightning.models.vocoders.factory import default_vocoder

CHUNK_SECONDS = 60  # of a recording that are converted at once
CONTEXT_SECONDS = 4  # that a chunk hears before and after what is kept of it
FADE_SECONDS = 0.25  # from one chunk's mel to the next one's
ANALYSIS_SHARE = 0.5  # of the time of a conversion: embedding and pitch
CONVERTING = 0.45  # of the rest: AutoVC, before the vocoder


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
        checkpoint: the name of the weights for the notes of conversions, see `fingerprint`.
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
        checkpoint: str,
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
        self.encoder_identity = encoder_identity
        self.mel = mel
        self.vocoder = vocoder
        self.guidance = guidance
        self.checkpoint = checkpoint
        self.pitch_check = PitchCheck()
        self.eval().requires_grad_(False)

    @classmethod
    def from_pretrained(
        cls, name: str | None = None, *, revision: str | None = None
    ) -> "VoiceConverter":
        """The converter that comes with the project, or one of a hub.

        Args:
            name: OWNER/REPO or OWNER/REPO/FILE on the hub; None for the project's own.
            revision: branch, tag or commit there.
        Raises: InputError when it cannot be had.
        """
        if name is None:
            return cls.from_checkpoint(resources.AUTOVC)
        return cls.from_checkpoint(str(hub.named(name, revision)))

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
            path: a file, or an address on a hub (hf://OWNER/REPO[/FILE][@REVISION]).
            vocoder: from a mel-spectrogram to a vocoder; None for that of `vocoder=auto`.
            speaker_encoder: weights of the encoder that the network was trained with.
            freq: of public files, which do not carry it.
            guidance: see the class; None for that of conf/converter.yaml.
        """
        if guidance is None:
            guidance = resources.settings("", "converter")["guidance"]
        path = hub.local_path(path)
        autovc, card = checkpoints.read_autovc(path, freq)
        encoder, encoder_card = checkpoints.read_speaker_encoder(speaker_encoder)
        try:
            mel = MelSpectrogram(**card.mel)
        except (TypeError, ValueError) as error:
            raise InputError(f"{path}: its mel settings are not usable ({error})") from error
        sound = (vocoder or default_vocoder)(mel)
        identity = encoder_card.speaker_encoder
        return cls(autovc, card, encoder, identity, mel, sound, guidance, fingerprint(path))

    @property
    def sample_rate(self) -> int:
        """Rate in Hz of what `convert` returns, and of the arrays that it takes."""
        return self.mel.sample_rate

    @property
    def device(self) -> torch.device:
        """Where the networks are."""
        return next(self.autovc.parameters()).device

    def note(self) -> Provenance:
        """What the file of a conversion that is made now shall say of itself."""
        return of_conversion(self.checkpoint, type(self.vocoder).__name__, self.guidance)

    def convert(
        self, source: Recording, targets: Recording | Sequence[Recording], seed: int = 0
    ) -> np.ndarray:
        """Says what the source says in the voice of the targets.

        Args:
            source: a path, or float samples (n,) at `sample_rate`, of any length.
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
        return self.voice_from(self.analyze(recording, with_pitch=True) for recording in recordings)

    def voice_from(self, heard: Iterable[AnalyzedRecording]) -> Voice:
        """The same for recordings that `analyze` has heard, their pitch included."""
        known = [(one.embedding, one.f0) for one in heard]  # and none of their sound
        embeddings, contours = zip(*known, strict=True)
        return Voice(self.speaker_encoder.average(embeddings), pitch.range_of(contours))

    def convert_to(
        self, source: Recording, target: Voice, seed: int = 0, progress: Progress = no_progress
    ) -> np.ndarray:
        """Like `convert`, for a voice that may be kept and used again.

        Args: progress, called with the share of the work that is done, up to 1.
        """
        heard = self.analyze(source, progress=lambda share: progress(ANALYSIS_SHARE * share))
        return self.convert_analyzed(
            [heard],
            [target],
            seed,
            lambda share: progress(ANALYSIS_SHARE + (1 - ANALYSIS_SHARE) * share),
        )[0]

    @torch.inference_mode()
    def analyze(
        self,
        recording: Recording,
        with_pitch: bool | None = None,
        progress: Progress = no_progress,
        name: Path | str | None = None,
    ) -> AnalyzedRecording:
        """All that a conversion needs to know of its source.

        Args: with_pitch, whether to find the pitch, too; None where the network is told it; name,
            of the file that samples come from, for a warning where hardly any pitch is found.
        """
        wav = self.load(recording)
        with prefix_errors(recording):
            level_dbfs = self.mel.settings["level_dbfs"]
            gain_db = voice_activity.level_gain(wav, self.sample_rate, level_dbfs)
            embedding = self.speaker_encoder.embed_recording(
                wav, self.sample_rate, level_dbfs, gain_db
            )
        heard = AnalyzedRecording(wav, gain_db, embedding)
        if not (self.autovc.f0 if with_pitch is None else with_pitch):
            return heard
        contours = []
        for chunk in self._chunks(wav):
            prepared = self._prepared(wav, gain_db, chunk)
            f0 = pitch.track(prepared, self.sample_rate, self.mel.hop_length)
            contours.append(f0[chunk.start - chunk.first : chunk.stop - chunk.first])
            progress(chunk.stop / self._n_frames(wav))
        f0 = np.concatenate(contours)
        name = recording if name is None else name
        if self.autovc.f0 and not isinstance(name, np.ndarray):
            self.pitch_check(name, f0, wav, self.sample_rate, self.mel.hop_length)
        return replace(heard, f0=f0)

    @torch.inference_mode()
    def convert_analyzed(
        self,
        sources: Sequence[AnalyzedRecording],
        targets: Sequence[Voice],
        seed: int = 0,
        progress: Progress = no_progress,
    ) -> list[np.ndarray]:
        """Converts recordings that `analyze` has heard, each to its own target, side by side."""
        require_seed("seed", seed)
        mels = []
        done, total = 0, sum(self._n_frames(source.wav) for source in sources)
        for source, target in zip(sources, targets, strict=True):
            buffer = SpillBuffer()
            for piece in self._converted(source, target):
                buffer.append(piece[0].clamp(0, 1).t().cpu().numpy())
                done += piece.shape[-1]
                progress(CONVERTING * done / total)
            mels.append(torch.from_numpy(buffer.array()).t().to(self.device))
        return vocode(
            self.vocoder,
            mels,
            [len(source.wav) for source in sources],
            self._frames(CHUNK_SECONDS),
            seed,
            lambda share: progress(CONVERTING + (1 - CONVERTING) * share),
        )

    def stream(
        self,
        voice: Voice,
        block_seconds: float | None = None,
        *,
        sample_rate: int | None = None,
        lookahead_seconds: float | None = None,
        source: Voice | None = None,
        seed: int = 0,
    ) -> VoiceStream:
        """Opens a conversion of sound that is still being recorded, see `VoiceStream`.

        Args:
            voice: who shall be heard.
            block_seconds: length of a step; None for that of conf/live.yaml.
            sample_rate: of what is pushed and returned, in Hz; None for `sample_rate`.
            lookahead_seconds: of the mel beyond a step; None for that of conf/live.yaml.
            source: voice of the speaker, if it is known.
            seed: of the vocoder.
        Returns: an object with `push(samples)` and `flush()`.
        """
        settings = resources.settings("", "live")
        given = {"block_seconds": block_seconds, "lookahead_seconds": lookahead_seconds}
        lengths = {key: settings[key] if value is None else value for key, value in given.items()}
        return VoiceStream(
            self,
            voice,
            sample_rate=sample_rate,
            context_seconds=settings["context_seconds"],
            source=source,
            seed=seed,
            **lengths,
        )

    def _converted(self, source: AnalyzedRecording, target: Voice) -> Iterator[Tensor]:
        """The mel (1, n_mels, T) of a conversion, in pieces."""
        embedding = require_embedding(target.embedding, self.autovc.arguments["dim_emb"])
        voices = [self._batch(source.embedding), self._batch(embedding)]
        f0 = None
        if self.autovc.f0:
            f0 = pitch.moved(source.f0, pitch.range_of([source.f0]), target.pitch)

        def convert(chunk: Chunk) -> Tensor:
            mel = self._mel(source.wav, source.gain_db, chunk)
            harmonics = None
            if f0 is not None:
                harmonics = self.mel.harmonics(self._batch(f0[chunk.first : chunk.last]))
            return convert_mel(self.autovc, mel, *voices, harmonics, self.guidance)

        parts = ((chunk, convert(chunk)) for chunk in self._chunks(source.wav))
        return cross_fade(parts, self._frames(FADE_SECONDS))

    @torch.inference_mode()
    def resynthesize(self, recording: Recording, seed: int = 0) -> np.ndarray:
        """The recording through the vocoder alone, which shows what of the loss is its own."""
        require_seed("seed", seed)
        wav = self.load(recording)
        with prefix_errors(recording):
            gain_db = voice_activity.level_gain(
                wav, self.sample_rate, self.mel.settings["level_dbfs"]
            )
        parts = ((chunk, self._mel(wav, gain_db, chunk)[0]) for chunk in self._chunks(wav))
        mel = torch.cat(list(cross_fade(parts, self._frames(FADE_SECONDS))), dim=-1)
        return vocode(self.vocoder, [mel], [len(wav)], self._frames(CHUNK_SECONDS), seed)[0]

    def embed(self, recording: Recording) -> np.ndarray:
        """Speaker embedding (dim_emb,) of a recording."""
        wav = self.load(recording)
        with prefix_errors(recording):
            return self.speaker_encoder.embed_recording(
                wav, self.sample_rate, self.mel.settings["level_dbfs"]
            )

    def load(self, recording: Recording) -> np.ndarray:
        """A recording as float32 (n,) at `sample_rate`, checked."""
        if isinstance(recording, np.ndarray):
            return audio.check(recording)
        if not isinstance(recording, Path | str):
            kind = type(recording).__name__
            raise InputError(f"a recording is a {kind}; give a path or a NumPy array of floats")
        wav, sample_rate = audio.load(recording)
        return audio.resample(wav, sample_rate, self.sample_rate)

    def _n_frames(self, wav: np.ndarray) -> int:
        """Frames of the mel of wav (n,)."""
        return len(wav) // self.mel.hop_length + 1

    def _chunks(self, wav: np.ndarray) -> list[Chunk]:
        lengths = (self._frames(seconds) for seconds in (CHUNK_SECONDS, CONTEXT_SECONDS))
        return split_into_chunks(self._n_frames(wav), *lengths)

    def _frames(self, seconds: float) -> int:
        """Frames for so many seconds, in whole codes: all chunks are cut into the same ones."""
        codes = seconds * self.sample_rate / self.mel.hop_length / self.autovc.freq
        return self.autovc.freq * math.ceil(codes)

    def _prepared(self, wav: np.ndarray, gain_db: float, chunk: Chunk) -> np.ndarray:
        """The samples (m,) of a chunk of wav (n,), at the level of the mels and filtered."""
        hop = self.mel.hop_length
        is_last = chunk.last == self._n_frames(wav)
        wav = wav[chunk.first * hop : None if is_last else chunk.last * hop]
        return self.mel.filtered(voice_activity.amplify(wav, gain_db))

    def _mel(self, wav: np.ndarray, gain_db: float, chunk: Chunk) -> Tensor:
        """The mel (1, n_mels, last − first) of a chunk."""
        mel = self.mel(self._batch(self._prepared(wav, gain_db, chunk)))
        return mel[..., : chunk.last - chunk.first]

    def _batch(self, array: np.ndarray) -> Tensor:
        return torch.from_numpy(array).to(self.device)[None]
