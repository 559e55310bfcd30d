"""WaveRNN, mel to sound one sample at a time (fatchord's model after arXiv 1802.08435)."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vc_lightning.distributions import (
    mu_law_decode,
    sample_classes,
    sample_mixture,
)
from vc_lightning.errors import InputError, require_at_least

N_MIXTURES = 10


class WaveRNN(nn.Module):
    """Two GRUs and three linear layers, conditioned by an upsampled mel-spectrogram.

    Args:
        mode: "RAW", classes of mu-law samples, or "MOL", a mixture of logistics.
        bits: log2 of the number of classes (RAW only).
        n_mels: mel bands.
        upsample_factors: their product is the hop length.
        pad: frames of context that the mel needs on each side.
        rnn_dims, fc_dims: widths of the GRUs and of the linear layers.
        compute_dims, res_out_dims, res_blocks: sizes of the residual network over frames.
        fold_frames, overlap_frames: how `generate` cuts long mels: segments of fold_frames that
            run as one batch, cross-faded over overlap_frames; fold_frames None runs them whole.
    """

    def __init__(
        self,
        mode: str,
        bits: int,
        n_mels: int,
        upsample_factors: Sequence[int],
        pad: int = 2,
        rnn_dims: int = 512,
        fc_dims: int = 512,
        compute_dims: int = 128,
        res_out_dims: int = 128,
        res_blocks: int = 10,
        fold_frames: int | None = 40,
        overlap_frames: int = 2,
    ):
        super().__init__()
        self.arguments = {k: v for k, v in locals().items() if k not in ("self", "__class__")}
        self.arguments["upsample_factors"] = list(upsample_factors)
        if mode not in ("RAW", "MOL"):
            raise InputError(f"wavernn.mode is {mode}: it must be RAW or MOL")
        self.mel_settings: dict = {}  # of the mels it was trained on; known to who loads weights
        require_at_least(1, "wavernn", bits=bits, n_mels=n_mels, rnn_dims=rnn_dims, fc_dims=fc_dims)
        self.mode = mode
        self.pad = pad
        self.hop_length = math.prod(upsample_factors)
        self.n_out = 2**bits if mode == "RAW" else 3 * N_MIXTURES
        self.fold_frames = fold_frames
        self.overlap_frames = overlap_frames
        dim_aux = res_out_dims // 4
        self.upsample = Upsample(
            n_mels, upsample_factors, compute_dims, res_blocks, res_out_dims, pad
        )
        self.input = nn.Linear(1 + n_mels + dim_aux, rnn_dims)
        self.rnn1 = nn.GRU(rnn_dims, rnn_dims, batch_first=True)
        self.rnn2 = nn.GRU(rnn_dims + dim_aux, rnn_dims, batch_first=True)
        self.fc1 = nn.Linear(rnn_dims + dim_aux, fc_dims)
        self.fc2 = nn.Linear(fc_dims + dim_aux, fc_dims)
        self.fc3 = nn.Linear(fc_dims, self.n_out)

    def forward(self, wav: Tensor, mel: Tensor) -> Tensor:
        """Teacher forcing: logits of every sample from the true samples before it.

        Args:
            wav: (B, N·hop) in −1…1; wav[t] is the sample before the one predicted at t (RAW: in
                mu-law's compressed scale).
            mel: (B, n_mels, N + 2·pad).
        Returns: logits (B, N·hop, n_out).
        """
        return self._step(wav, self.upsample(mel), None)[0]

    def _step(
        self, wav: Tensor, conditioning: tuple[Tensor, Tensor], states: tuple | None
    ) -> tuple[Tensor, tuple]:
        """Logits (B, L, n_out) of L samples and the GRUs' states after them."""
        mel, aux = conditioning  # (B, L, n_mels), (B, L, res_out_dims)
        aux1, aux2, aux3, aux4 = aux.chunk(4, dim=-1)
        state1, state2 = states or (None, None)
        x = self.input(torch.cat([wav[..., None], mel, aux1], dim=-1))
        y, state1 = self.rnn1(x, state1)
        x = x + y
        y, state2 = self.rnn2(torch.cat([x, aux2], dim=-1), state2)
        x = x + y
        x = F.relu(self.fc1(torch.cat([x, aux3], dim=-1)))
        x = F.relu(self.fc2(torch.cat([x, aux4], dim=-1)))
        return self.fc3(x), (state1, state2)

    @torch.inference_mode()
    def generate(self, mel: Tensor, seed: int = 0) -> Tensor:
        """mel (B, n_mels, T), T ≥ 1 -> wav (B, T · hop_length) in −1…1, the same for a seed."""
        generator = torch.Generator(mel.device).manual_seed(seed)
        batch, _, n_frames = mel.shape
        mel = F.pad(mel, (self.pad, self.pad))  # silence before and after
        if self.fold_frames is None or n_frames <= self.fold_frames + self.overlap_frames:
            return self._recur(mel, generator)
        segments = fold(mel, self.fold_frames, self.overlap_frames, self.pad)
        n_segments = segments.shape[1]
        wavs = self._recur(segments.flatten(0, 1), generator).unflatten(0, (batch, n_segments))
        overlap = self.overlap_frames * self.hop_length
        return cross_fade(wavs, overlap)[:, : n_frames * self.hop_length].clamp(-1, 1)

    def _recur(self, mel: Tensor, generator: torch.Generator) -> Tensor:
        """Padded mel (B, n_mels, N + 2·pad) -> wav (B, N·hop), sample after sample."""
        mels, auxs = self.upsample(mel)
        sample = mel.new_zeros(mel.shape[0], 1)
        states = None
        wav = []
        for t in range(mels.shape[1]):
            now = slice(t, t + 1)
            logits, states = self._step(sample, (mels[:, now], auxs[:, now]), states)
            if self.mode == "MOL":
                sample = sample_mixture(logits, generator)  # (B, 1)
                wav.append(sample)
            else:
                classes = sample_classes(logits, generator)
                sample = 2 * classes.to(mel.dtype) / (self.n_out - 1) - 1
                wav.append(mu_law_decode(classes, self.n_out).to(mel.dtype))
        return torch.cat(wav, dim=1)


class Upsample(nn.Module):
    """Mel frames to sample rate: smoothed repetition, and residual features held a frame long."""

    def __init__(
        self,
        n_mels: int,
        factors: Sequence[int],
        dim: int,
        n_blocks: int,
        dim_out: int,
        pad: int,
    ):
        super().__init__()
        self.factors = list(factors)
        self.pad = pad
        self.resnet = MelResNet(n_mels, dim, n_blocks, dim_out, pad)
        self.smoothing = nn.ModuleList(
            nn.Conv2d(1, 1, (1, 2 * factor + 1), padding=(0, factor), bias=False)
            for factor in factors
        )
        for convolution in self.smoothing:
            nn.init.constant_(convolution.weight, 1 / convolution.weight.numel())

    def forward(self, mel: Tensor) -> tuple[Tensor, Tensor]:
        """mel (B, n_mels, N + 2·pad) -> mel (B, N·hop, n_mels), features (B, N·hop, dim_out)."""
        hop = math.prod(self.factors)
        features = self.resnet(mel).repeat_interleave(hop, dim=-1)
        mel = mel[:, None]
        for factor, convolution in zip(self.factors, self.smoothing, strict=True):
            mel = convolution(mel.repeat_interleave(factor, dim=-1))
        mel = mel[:, 0, :, self.pad * hop : -self.pad * hop or None]
        return mel.transpose(1, 2), features.transpose(1, 2)


class MelResNet(nn.Module):
    """A convolution over 2·pad + 1 frames and residual blocks over one."""

    def __init__(self, dim_in: int, dim: int, n_blocks: int, dim_out: int, pad: int):
        super().__init__()
        self.conv_in = nn.Conv1d(dim_in, dim, 2 * pad + 1, bias=False)
        self.batch_norm = nn.BatchNorm1d(dim)
        self.layers = nn.ModuleList(ResBlock(dim) for _ in range(n_blocks))
        self.conv_out = nn.Conv1d(dim, dim_out, 1)

    def forward(self, x: Tensor) -> Tensor:
        """x (B, dim_in, N + 2·pad) -> (B, dim_out, N)."""
        x = F.relu(self.batch_norm(self.conv_in(x)))
        for layer in self.layers:
            x = layer(x)
        return self.conv_out(x)


class ResBlock(nn.Module):
    """Two 1×1 convolutions around a shortcut."""

    def __init__(self, dim: int):
        super().__init__()
        self.conv1 = nn.Conv1d(dim, dim, 1, bias=False)
        self.conv2 = nn.Conv1d(dim, dim, 1, bias=False)
        self.batch_norm1 = nn.BatchNorm1d(dim)
        self.batch_norm2 = nn.BatchNorm1d(dim)

    def forward(self, x: Tensor) -> Tensor:
        """x (B, dim, N) -> (B, dim, N)."""
        y = F.relu(self.batch_norm1(self.conv1(x)))
        return x + self.batch_norm2(self.conv2(y))


def fold(mel: Tensor, fold_frames: int, overlap_frames: int, pad: int) -> Tensor:
    """Cuts a padded mel into segments that share `overlap_frames` with the next.

    Args: mel (B, n_mels, T + 2·pad).
    Returns: (B, S, n_mels, fold_frames + overlap_frames + 2·pad), the last completed by zeros.
    """
    n_frames = mel.shape[-1] - 2 * pad
    n_segments = max(1, -(-(n_frames - overlap_frames) // fold_frames))
    missing = n_segments * fold_frames + overlap_frames - n_frames
    window = fold_frames + overlap_frames + 2 * pad
    return F.pad(mel, (0, missing)).unfold(-1, window, fold_frames).movedim(1, 2)


def cross_fade(wavs: Tensor, overlap: int) -> Tensor:
    """Joins segments (B, S, L) whose last `overlap` samples are the next one's first.

    The first half of the overlap still belongs to the segment before, as the next GRUs warm up;
    over the second half the power, not the amplitude, stays constant, for the two differ in phase.
    Returns: (B, S·(L − overlap) + overlap).
    """
    batch, n_segments, length = wavs.shape
    warm_up = overlap // 2
    angle = torch.linspace(0, math.pi / 2, overlap - warm_up, dtype=wavs.dtype)
    fade = torch.cat([torch.zeros(warm_up, dtype=wavs.dtype), angle]).to(wavs.device)
    joined = wavs.new_zeros(batch, n_segments * (length - overlap) + overlap)
    for index in range(n_segments):
        segment = wavs[:, index].clone()
        if index > 0:
            segment[:, :overlap] *= fade.sin()
        if index < n_segments - 1:
            segment[:, length - overlap :] *= fade.cos()
        start = index * (length - overlap)
        joined[:, start : start + length] += segment
    return joined
