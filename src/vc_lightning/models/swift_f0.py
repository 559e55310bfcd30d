"""SwiftF0, the network of the pitch tracker (Nieradzik 2025, arXiv 2508.18440).

The shipped weights are those of version 0.3; checkpoints/README.md says where they come from.
"""

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vc_lightning.audio.mel_filters import power_spectra, triangles
from vc_lightning.models import onednn
from vc_lightning.models.network import Network

SAMPLE_RATE = 16_000
HOP_LENGTH = 256  # 16 ms
PAST_FRAMES = 11  # receptive field before a frame
AHEAD_FRAMES = 10  # and after it
N_FFTS = (1024, 2048, 512)  # of the three spectra
N_BANDS = 128  # of each
N_READ_BANDS = 96  # of them are read once the harmonics above have been
N_PITCHES = 95
LOWEST_HZ, HIGHEST_HZ = 46.875, 2093.75  # of the pitches
MIN_MAGNITUDE = 1e-8
DIM = 12
# Of each pair of convolutions: its kernel, in bands and frames, and the dilation over the bands,
# which are octaves, fifths and others apart.
KERNELS = (((7, 3), 1), ((7, 1), 17), ((5, 1), 27), ((3, 1), 40), ((3, 1), 48), ((7, 3), 2))


class SwiftF0(Network):
    """Convolutions over spectra of three lengths of window, on one logarithmic axis.

    A band is as far from the next one as a pitch is: 1/17.1 of an octave.
    """

    kind = "swift_f0"
    pitches: Tensor

    def __init__(self) -> None:
        super().__init__({})
        self.input = convolution(len(N_FFTS), DIM, (3, 3))
        self.blocks = nn.ModuleList(Block(kernel, dilation) for kernel, dilation in KERNELS)
        self.output = nn.Conv2d(DIM, 4, 3, padding=(0, 1))
        self.pitch = nn.Conv2d(4, 1, 1)
        self.presence = convolution(4, 4, (5, 1))
        self.voicing = nn.Sequential(nn.Conv1d(5, 16, 3, padding=1), nn.ReLU(), nn.Conv1d(16, 1, 1))
        pitches = np.geomspace(LOWEST_HZ, HIGHEST_HZ, N_PITCHES)
        self.register_buffer("pitches", torch.from_numpy(pitches).float(), persistent=False)
        for n_fft in N_FFTS:
            self.register_buffer(f"bands{n_fft}", bands(n_fft), persistent=False)
            self.register_buffer(f"window{n_fft}", torch.hann_window(n_fft), persistent=False)

    def forward(self, wav: Tensor, fmin: float, fmax: float) -> tuple[Tensor, Tensor]:
        """Estimate the pitch of each frame.

        Args:
            wav: Samples (n,) at 16 kHz.
            fmin: Lowest pitch in Hz.
            fmax: Highest pitch in Hz.

        Returns:
            Pitch (T,) in Hz, and the probability (T,) that the frame is voiced and its pitch within
            the limits, T = max(1, n // 256).
        """
        spectra = self.spectra(wav)
        n_frames = spectra.shape[-1]
        dtype = self.input.weight.dtype
        x = F.pad(spectra, (0, onednn.rounded_up(n_frames) - n_frames)).to(dtype)
        x = activated(self.input, x.contiguous(memory_format=torch.channels_last), n_frames)
        for block in self.blocks:
            x = block(x, n_frames)
        x = F.pad(x[:, :, :N_READ_BANDS], (0, 0, 1, 0))
        x = activated(self.output, x, n_frames)[..., :n_frames].float()  # (1, 4, N_PITCHES, T)
        scores = self.pitch(x)[0, 0].t()  # (T, N_PITCHES)
        loudness = spectra.mean(dim=(1, 2))[:, None]
        voicing = torch.cat([self.presence(x).amax(dim=2), loudness], dim=1)
        is_allowed = (self.pitches >= fmin) & (self.pitches <= fmax)
        is_voiced = self.voicing(voicing)[0, 0].sigmoid() * is_allowed[scores.argmax(dim=-1)]
        return self._pitch(scores.masked_fill(~is_allowed, -torch.inf)), is_voiced

    def _pitch(self, scores: Tensor) -> Tensor:
        """Return the mean pitch in Hz (T,) around the highest of scores (T, N_PITCHES)."""
        near = scores.argmax(dim=-1, keepdim=True) + torch.arange(-1, 2, device=scores.device)
        weights = F.pad(scores, (1, 1), value=-torch.inf).gather(-1, near + 1).softmax(dim=-1)
        octaves = self.pitches.log2()[near.clamp(0, N_PITCHES - 1)]
        return (weights * octaves).sum(dim=-1).exp2()

    def spectra(self, wav: Tensor) -> Tensor:
        """Compute the logarithm of each band's magnitude, wav (n,) -> (1, 3, N_BANDS, T)."""
        n_frames = max(1, len(wav) // HOP_LENGTH)
        spectra = []
        for n_fft in N_FFTS:
            window, of_bands = self.get_buffer(f"window{n_fft}"), self.get_buffer(f"bands{n_fft}")
            blocks = power_spectra(wav, n_fft, HOP_LENGTH, window, pad_mode="constant")
            magnitude = torch.cat([of_bands @ power.sqrt() for power in blocks], dim=-1)
            spectra.append((magnitude[:, :n_frames] + MIN_MAGNITUDE).log())
        return torch.stack(spectra)[None]

    def use_bfloat16(self) -> "SwiftF0":
        """Compute the convolutions in bfloat16 from now on, and what follows as before.

        The pitch of one frame in a hundred differs by 0.9 cents or more, and one frame in a
        thousand is voiced in one case only.
        """
        for part in (self.input, self.blocks, self.output):
            part.bfloat16()
        return self


class Block(nn.Module):
    """Two convolutions, whose result is added to what they read (He et al. 2016, arXiv 1512.03385).

    Args:
        kernel: Their size, in bands and frames.
        dilation: Over the bands.
    """

    def __init__(self, kernel: tuple[int, int], dilation: int):
        super().__init__()
        self.first = convolution(DIM, DIM, kernel, dilation)
        self.second = convolution(DIM, DIM, kernel, dilation)

    def forward(self, x: Tensor, n_frames: int) -> Tensor:
        """Transform x (B, DIM, N_BANDS, T), of which the frames after n_frames are zero."""
        return activated(self.second, activated(self.first, x, n_frames), n_frames, x)


def activated(layer: nn.Conv2d, x: Tensor, n_frames: int, residual: Tensor | None = None) -> Tensor:
    """Convolve x (B, DIM, N_BANDS, T), add a residual, and keep what is positive.

    The frames after n_frames, which are there to round T up, are zero again, as if there were none.
    """
    made = layer(x) if residual is None else residual + layer(x)
    made = F.relu(made)
    made[..., n_frames:] = 0
    return made


def convolution(dim_in: int, dim_out: int, kernel: tuple[int, int], dilation: int = 1) -> nn.Conv2d:
    """Make a convolution over bands and frames that keeps their numbers."""
    padding = (dilation * (kernel[0] // 2), kernel[1] // 2)
    return nn.Conv2d(dim_in, dim_out, kernel, padding=padding, dilation=(dilation, 1))


def bands(n_fft: int) -> Tensor:
    """Compute the share of each bin of a spectrum in each band, (N_BANDS, n_fft/2 + 1).

    Bands are triangles of sum 1; those that hold no bin are the nearest one.
    """
    bins = np.fft.rfftfreq(n_fft, 1 / SAMPLE_RATE)
    step = (HIGHEST_HZ / LOWEST_HZ) ** (1 / (N_PITCHES - 1))
    edges = LOWEST_HZ * step ** np.arange(-1.0, N_BANDS + 1)
    shares = triangles(bins, edges)
    for share, centre in zip(shares, edges[1:-1], strict=True):
        if not share.any():
            share[np.abs(bins - centre).argmin()] = 1
    return torch.from_numpy(shares / shares.sum(axis=1, keepdims=True)).float()
