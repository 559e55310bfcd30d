"""What a recogniser hears in speech that goes on: each step computes the newest frames alone."""

import numpy as np
import torch
from torch import Tensor

from vc_lightning.models.recogniser import (
    FRAME_RATE,
    MAX_FRAMES,
    SAMPLE_RATE,
    Recogniser,
    TransformerLayer,
    interpolate,
    scaled,
)

FRAME_SAMPLES = int(SAMPLE_RATE / FRAME_RATE)  # of a feature
MELS_PER_FRAME = 2
N_ACTIVE = 15  # newest features that the next step computes again: 0.3 s
N_SILENCE = 5  # features of silence that each step hears after the newest sound: 0.1 s
N_ANEW = 75  # features that are computed again where the positions are used up: 1.5 s
N_LEAD = 2  # features that the mel and the convolutions need before the first one


class RunningRecogniser:
    """Hears a stream of samples step by step, in constant time and memory.

    Features of old frames hardly change when more is heard. So each step runs the layers over the
    newest frames only; these attend to keys and values of the frames before, which are kept as a
    language model keeps them, and are computed again until they are `N_ACTIVE` frames old. Silence
    after the newest sound is closer to what the recogniser knows than an end within a word.

    The recogniser has positions for 30 s. After them it hears the last `N_ANEW` frames anew, as the
    start of a recording.

    Args:
        recogniser: The recogniser.
        remembered_seconds: Sound before the newest frames that these attend to.
        earlier: Sound, float32 (n,) at 16 kHz, that is heard before the stream; the end of it is
            remembered. None: there is none.
    """

    def __init__(
        self,
        recogniser: Recogniser,
        remembered_seconds: float,
        earlier: np.ndarray | None = None,
    ):
        self.recogniser = recogniser
        self._n_remembered = round(remembered_seconds * FRAME_RATE)
        self._wav = np.zeros(0, np.float32)
        # Numbers count features from the start of the earlier sound.
        self._wav_first = 0  # the feature that the samples begin with
        self._features = np.zeros((0, recogniser.arguments["dim"]), np.float32)
        self._first = 0  # the oldest feature
        self._n_final = 0  # from here on features are computed again
        self._origin = 0  # the feature that has the first position
        # Of the frames before `_n_final`: loudest bands of their mels, keys and values per layer.
        self._loudness = recogniser.window.new_zeros(0)
        self._past: list[Tensor | None] = [None] * len(recogniser.layers)
        self._n_earlier = 0
        if earlier is not None:
            self._n_earlier = min(len(earlier) // FRAME_SAMPLES, self._n_remembered)
            self.push(earlier[len(earlier) - self._n_earlier * FRAME_SAMPLES :])

    @torch.inference_mode()
    def push(self, samples: np.ndarray) -> None:
        """Hear the next samples, float32 (n,) at 16 kHz."""
        self._wav = np.concatenate([self._wav, samples])
        n_frames = self._wav_first + len(self._wav) // FRAME_SAMPLES + 1
        if n_frames + N_SILENCE - self._origin > MAX_FRAMES:
            self._forget(max(0, min(self._n_final, n_frames - N_ANEW)))
        first = self._n_final
        n_final = max(first, n_frames - N_ACTIVE)
        features = self._extended(first, n_frames, n_final)
        known = self._features[: max(0, first - self._first)]
        self._first = min(self._first, first)
        self._features = np.concatenate([known, features])
        self._n_final = n_final
        oldest = max(0, min(n_final, n_frames - N_ANEW) - N_LEAD)
        if oldest > self._wav_first:
            self._wav = self._wav[(oldest - self._wav_first) * FRAME_SAMPLES :]
            self._wav_first = oldest

    def features(self, start: float, n_frames: int, frames_per_second: float) -> np.ndarray:
        """Return features at the frames of a mel, and forget those before them.

        Args:
            start: Time of the first frame in seconds since the first sample of the stream.
            n_frames: Frames of the mel.
            frames_per_second: Frame rate of the mel in Hz.

        Returns:
            float32 (n_frames, dim); before the first and after the last feature they are repeated.
        """
        start += self._n_earlier / FRAME_RATE
        n_old = min(int(start * FRAME_RATE) - self._first, len(self._features) - 1)
        if n_old > 0:
            self._features = self._features[n_old:]
            self._first += n_old
        offset = start - self._first / FRAME_RATE
        return interpolate(self._features, FRAME_RATE, n_frames, frames_per_second, offset)

    def _forget(self, first: int) -> None:
        """Begin anew with a feature, as if nothing had been heard before it."""
        self._origin = self._n_final = first
        self._loudness = self._loudness[:0]
        self._past = [None] * len(self._past)

    def _extended(self, first: int, n_frames: int, n_final: int) -> np.ndarray:
        """Compute features, and remember those that are final.

        Args:
            first: The first feature.
            n_frames: The first one that is not computed.
            n_final: The first one that the next step computes again.

        Returns:
            (n_frames - first, dim).
        """
        one = self.recogniser
        n_lead = min(N_LEAD, first)
        samples = self._wav[(first - n_lead - self._wav_first) * FRAME_SAMPLES :]
        samples = np.pad(samples, (0, N_SILENCE * FRAME_SAMPLES))
        logarithm = one.logarithm(torch.from_numpy(samples).to(one.window.device))
        loudness = torch.cat([self._loudness, logarithm.amax(dim=0)[n_lead * MELS_PER_FRAME :]])
        x = one.convolved(scaled(logarithm, loudness.max())[None])
        x = x[:, n_lead : n_lead + n_frames - first + N_SILENCE]
        x = x + one.positions[first - self._origin :][: x.shape[1]]
        n_past = len(self._loudness) // MELS_PER_FRAME + n_final - first
        kept = slice(max(0, n_past - self._n_remembered), n_past)
        for i, layer in enumerate(one.layers):
            assert isinstance(layer, TransformerLayer)
            x, known = layer.extend(x, self._past[i])
            self._past[i] = known[:, :, :, kept].clone()
        mels = slice(kept.start * MELS_PER_FRAME, kept.stop * MELS_PER_FRAME)
        self._loudness = loudness[mels].clone()
        return one.norm(x)[0, : n_frames - first].cpu().numpy()
