"""The encoder of Whisper, which hears words: input of a listening AutoVC, and its teacher.

Radford et al. 2022, arXiv 2212.04356. The shipped weights are those of the multilingual model
"base"; checkpoints/README.md says where they come from.
"""

import functools
import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vc_lightning.audio.mel_filters import mel_filters, power_spectra
from vc_lightning.common.precision import HAS_FAST_ONEDNN
from vc_lightning.models import eight_bits, onednn
from vc_lightning.models.files.checksums import identity
from vc_lightning.models.network import Network, State

SAMPLE_RATE = 16_000
FRAME_RATE = 50.0  # Hz, of the features
N_FFT = 400  # 25 ms
HOP_LENGTH = 160  # 10 ms
MIN_POWER = 1e-10
RANGE = 8.0  # powers of ten below the loudest band; softer ones are raised to it
MAX_FRAMES = 1500  # features that the stored positions allow: 30 s
MAX_STRETCH_SECONDS = 29
MAX_SHORT = 256  # features of a short crop: its attention weights need little memory
MAX_MASKED = 704  # features; for more, a mask takes longer than an odd number of keys


class Recogniser(Network):
    """Whisper's encoder: from sound to 50 features a second that describe what is spoken.

    It also is a `teachers.Teacher`. Features depend on the length and the padding of the input, so
    training and conversion both give it whole recordings without padding.

    Args:
        n_mels: Mel bands of its input.
        dim: Size of a feature.
        n_layers: Layers of the transformer.
        n_heads: Attention heads of a layer.
    """

    kind = "recogniser"
    sample_rate = SAMPLE_RATE
    frame_rate = FRAME_RATE
    filters: Tensor
    window: Tensor

    def __init__(self, n_mels: int, dim: int, n_layers: int, n_heads: int):
        super().__init__(locals())
        self.conv1 = nn.Conv1d(n_mels, dim, kernel_size=3, padding=1)
        self.conv2 = nn.Conv1d(dim, dim, kernel_size=3, stride=2, padding=1)
        self.positions = nn.Parameter(torch.zeros(MAX_FRAMES, dim), requires_grad=False)
        self.layers = nn.ModuleList(TransformerLayer(dim, n_heads) for _ in range(n_layers))
        self.norm = nn.LayerNorm(dim)
        self.register_buffer("filters", self.vtlp_filters(1.0), persistent=False)
        self.register_buffer("window", torch.hann_window(N_FFT), persistent=False)

    @classmethod
    def sizes(cls, state: State) -> dict:
        dim, n_mels, _ = state["conv1.weight"].shape
        n_layers = sum(key.endswith(".qkv.weight") for key in state)
        return {"n_mels": n_mels, "dim": dim, "n_layers": n_layers}

    @functools.cached_property
    def identity(self) -> str:
        """Name with a hash of the weights, part of the key of cached features.

        It is asked for before `use_bfloat16`, which does not change it.
        """
        assert not self.is_fast, "ask for the identity before the weights are rounded"
        return identity("whisper", self.state_dict())

    @property
    def is_fast(self) -> bool:
        """Whether its products are in bfloat16, see `use_bfloat16`."""
        return self.conv2.weight.dtype == torch.bfloat16

    def forward(self, mel: Tensor) -> Tensor:
        """Encode a log-mel (B, n_mels, T), T ≤ 3000 -> features (B, ⌈T/2⌉, dim)."""
        x = self.convolved(mel)
        n_frames = x.shape[1]
        x = x + self.positions[:n_frames]
        n_known, mask = n_frames, None
        if self.is_fast and onednn.computes(self.conv2, x):
            x = onednn.with_room(x)  # once, not in each product
            if x.shape[1] <= MAX_MASKED:
                # Attention to a multiple of 16 frames takes half the time of one to fewer frames.
                n_known, mask = x.shape[1], x.new_zeros(1, 1, 1, x.shape[1])
                mask[..., n_frames:] = -torch.inf
        for layer in self.layers:
            x = layer(x, n_known, mask)
        return self.norm(x[:, :n_frames])

    def convolved(self, mel: Tensor) -> Tensor:
        """Compute the input of the layers, without positions, (B, n_mels, T) -> (B, ⌈T/2⌉, dim)."""
        x = F.gelu(onednn.convolve(self.conv1, mel, mel.dtype)).to(self.conv2.weight.dtype)
        return F.gelu(onednn.convolve(self.conv2, x, x.dtype)).transpose(1, 2)

    def use_bfloat16(self) -> "Recogniser":
        """Compute the matrix products of the second convolution and of the layers in bfloat16.

        Features differ by 1.1 % (root mean square, of their deviation from the mean).
        """
        self.conv2.bfloat16()
        for part in self.layers.modules():
            if isinstance(part, Product):
                part.bfloat16()
        return self

    def use_8_bits(self) -> "Recogniser":
        """Compute the matrix products of the layers in 8 bits where `eight_bits.computes`.

        Features differ by 6 to 9 % (root mean square, of their deviation from the mean).
        """
        for part in self.layers.modules():
            if isinstance(part, Product):
                part.in_8_bits = True
        return self

    def mel(self, wav: Tensor, filters: Tensor | None = None) -> Tensor:
        """Compute Whisper's log-mel.

        Args:
            wav: Samples (n,) at 16 kHz.
            filters: Mel filters (..., n_mels, 201) in place of the usual ones, see `vtlp_filters`.

        Returns:
            (..., n_mels, n // 160): one and a quarter of the power of ten of each band's power.
        """
        return scaled(self.logarithm(wav, filters))

    def logarithm(self, wav: Tensor, filters: Tensor | None = None) -> Tensor:
        """Compute the power of each band, in powers of ten, see `mel`."""
        filters = self.filters if filters is None else filters
        blocks = power_spectra(wav, N_FFT, HOP_LENGTH, self.window, pad_mode="reflect")
        power = torch.cat([filters @ block for block in blocks], dim=-1)[..., :-1]
        return power.clamp(min=MIN_POWER).log10()

    def vtlp_filters(self, factor: float) -> Tensor:
        """Return mel filters (n_mels, 201) that multiply every frequency by a VTLP factor."""
        n_mels = self.arguments["n_mels"]
        return mel_filters(self.sample_rate, N_FFT, n_mels, 0, self.sample_rate / 2, factor)

    @torch.inference_mode()
    def features_of_copies(self, wav: np.ndarray, factors: Sequence[float]) -> np.ndarray:
        """Compute features of VTLP copies of a recording.

        Longer recordings than 30 s are cut, see `stretch_samples`.

        Args:
            wav: float32 (n,) at 16 kHz.
            factors: VTLP factors of the copies, see `mel_filters`; 1 is the recording itself.

        Returns:
            float32 (n_copies, T, dim), 50 a second; feature t is centred on t / 50 seconds.
        """
        device = self.window.device
        filters = torch.stack([self.vtlp_filters(factor) for factor in factors]).to(device)
        samples = torch.from_numpy(np.ascontiguousarray(wav, np.float32)).to(device)
        step = stretch_samples(len(wav))
        stretches = [_at_least(part, N_FFT) for part in samples.split(step)]
        features = [self(self.mel(stretch, filters)) for stretch in stretches]
        return torch.cat(features, dim=1).cpu().numpy()

    def features(self, wav: np.ndarray) -> np.ndarray:
        """Compute features (T, dim) of a recording, see `features_of_copies`."""
        return self.features_of_copies(wav, [1.0])[0]

    def hear(self, wav: np.ndarray, n_frames: int, frames_per_second: float) -> np.ndarray:
        """Compute features at the frames of a mel, the input of a listening AutoVC.

        Args:
            wav: float32 (n,) at 16 kHz, prepared like the waveform of the mel.
            n_frames: Frames of the mel.
            frames_per_second: Frame rate of the mel in Hz.

        Returns:
            float32 (n_frames, dim).
        """
        features = self.features(wav)
        return interpolate(features, self.frame_rate, n_frames, frames_per_second)


class Product(nn.Linear):
    """A linear layer in the format of its weights, or autocast's.

    PyTorch multiplies float32 matrices by MKL, which on processors of AMD takes twice as long as
    oneDNN; no gradient is known for oneDNN's operator.

    Attributes:
        in_8_bits: Whether it computes in 8 bits where `eight_bits.computes`.
    """

    in_8_bits = False

    def forward(self, x: Tensor) -> Tensor:
        """Map (..., dim_in) -> (..., dim_out)."""
        rows = x.to(self.weight.dtype)
        if self.in_8_bits and eight_bits.computes(self, rows):
            return eight_bits.multiply(self, rows)
        if rows.dtype == torch.bfloat16 and onednn.computes(self, rows):
            return onednn.multiply(self, rows)
        if HAS_FAST_ONEDNN and torch.is_inference_mode_enabled() and x.device.type == "cpu":
            return onednn.product(rows, self.weight, self.bias)
        return super().forward(rows)


class TransformerLayer(nn.Module):
    """Self-attention and a feed-forward part, each normalised before and added (pre-norm).

    Args:
        dim: Width.
        n_heads: Attention heads.
    """

    def __init__(self, dim: int, n_heads: int):
        super().__init__()
        self.n_heads = n_heads
        self.attention_norm = nn.LayerNorm(dim)
        self.qkv = Product(dim, 3 * dim)  # the published keys have no bias: theirs is 0
        self.out = Product(dim, dim)
        self.ffn_norm = nn.LayerNorm(dim)
        self.ffn1 = Product(dim, 4 * dim)
        self.ffn2 = Product(4 * dim, dim)

    def forward(self, x: Tensor, n_known: int | None = None, mask: Tensor | None = None) -> Tensor:
        """Transform x (B, T, dim) -> (B, T, dim), see `extend`."""
        return self.extend(x, None, mask, n_known)[0]

    def extend(
        self,
        x: Tensor,
        past: Tensor | None,
        mask: Tensor | None = None,
        n_known: int | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Transform frames, which also attend to frames before them.

        Args:
            x: (B, T, dim).
            past: Keys and values of the P frames before (2, B, n_heads, P, dim/n_heads); None: they
                are the first ones.
            mask: Added to the attention's logarithms (B, 1, 1, P + T); None adds nothing.
            n_known: Of x, only so many frames are attended to; None: all.

        Returns:
            The frames (B, T, dim), and keys and values of those that are attended to
            (2, B, n_heads, P + T, dim/n_heads).
        """
        qkv = self.qkv(self.attention_norm(x)).unflatten(-1, (3, self.n_heads, -1))
        qkv = qkv.permute(2, 0, 3, 1, 4)  # (3, B, n_heads, T, dim/n_heads)
        own = qkv[1:, :, :, :n_known]
        known = own if past is None else torch.cat([past, own], dim=3)
        key, value = known
        attended = attend(qkv[0], key, value, mask)
        x = x + self.out(attended.transpose(1, 2).flatten(2))
        return x + self.ffn2(F.gelu(self.ffn1(self.ffn_norm(x)))), known


def attend(query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None = None) -> Tensor:
    """Compute scaled dot-product attention (B, n_heads, T, dim) of three such tensors.

    The mask is added to the logarithms of its weights.

    In training on a CPU in bfloat16, forward and backward of a short crop take a fifth of the time
    of PyTorch's own function, which is there to save memory.
    """
    is_crop = query.dtype == torch.bfloat16 and query.shape[2] <= MAX_SHORT
    if torch.is_inference_mode_enabled() or query.device.type != "cpu" or not is_crop:
        return F.scaled_dot_product_attention(query, key, value, mask)
    scores = query * query.shape[-1] ** -0.5 @ key.transpose(-1, -2)
    if mask is not None:
        scores = scores + mask
    return scores.softmax(dim=-1) @ value


def scaled(logarithm: Tensor, loudest: Tensor | None = None) -> Tensor:
    """Bring the power of each band (..., n_mels, T), in powers of ten, to Whisper's scale.

    Args:
        logarithm: See `Recogniser.logarithm`.
        loudest: The most of the recording, broadcastable; None: the most of `logarithm`.
    """
    if loudest is None:
        loudest = logarithm.amax(dim=(-2, -1), keepdim=True)
    return (torch.maximum(logarithm, loudest - RANGE) + 4) / 4


def stretch_samples(n_samples: int) -> int:
    """Return the length of the stretches, about equal, into which n_samples at 16 kHz are cut.

    Whisper takes at most 30 s. A stretch is a whole number of features long.
    """
    n_stretches = math.ceil(n_samples / (MAX_STRETCH_SECONDS * SAMPLE_RATE))
    n_frames = math.ceil(n_samples * FRAME_RATE / SAMPLE_RATE / n_stretches)
    return n_frames * int(SAMPLE_RATE / FRAME_RATE)


def interpolate(
    features: np.ndarray,
    frame_rate: float,
    n_frames: int,
    frames_per_second: float,
    start: float = 0.0,
) -> np.ndarray:
    """Interpolate features at the frames of a mel.

    Args:
        features: (..., T, D); feature t is centred on t / frame_rate seconds.
        frame_rate: Rate of the features in Hz.
        n_frames: Frames of the mel; frame t is centred on start + t / frames_per_second seconds.
        frames_per_second: Frame rate of the mel in Hz.
        start: Time of the first frame in seconds.

    Returns:
        (..., n_frames, D); before the first and after the last feature they are repeated.
    """
    positions = start * frame_rate + np.arange(n_frames) * frame_rate / frames_per_second
    last = features.shape[-2] - 1
    positions = positions.clip(0, last)
    before = np.floor(positions).astype(int)
    after = np.minimum(before + 1, last)
    share = (positions - before)[:, None].astype(np.float32)
    return (1 - share) * features[..., before, :] + share * features[..., after, :]


def _at_least(samples: Tensor, n: int) -> Tensor:
    """Append zeros to samples (m,) that are too few for one window of the mel."""
    return F.pad(samples, (0, max(0, n - len(samples))))
