"""Multi-band WaveRNN: a step generates a sample of every band (FeatherWave, arXiv 2005.05551)."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vc_lightning.common.errors import InputError, require_at_least, require_layers, require_within
from vc_lightning.models.network import State, n_listed
from vc_lightning.models.vocoders.wavernn.distributions import (
    LEVEL_WIDTH,
    mixture_log_density,
    mixture_noise,
    pick,
    uniform_block,
)
from vc_lightning.models.vocoders.wavernn.pqmf import PQMF
from vc_lightning.models.vocoders.wavernn.recurrent import RecurrentVocoder

LOG_POWER_PER_MEL = 10 * math.log(10)  # a mel of 1 is 100 dB
LIMIT = 12.0  # of samples divided by their envelope; in speech 1 of 10 000 is above 10
FIT_STEPS, FIT_RATE = 300, 0.3
MAX_TEMPERATURE = 2


class MultiBandWaveRNN(RecurrentVocoder):
    """A GRU over the samples of a few bands, each divided by its envelope.

    The mel determines the envelopes, the features and the coefficients of a linear predictor. The
    GRU predicts the residual: a mixture of logistics around the linear prediction.

    Args:
        n_mels: Mel bands.
        hop_length: Hop of the mels in samples, a multiple of `bands`.
        bands: Number of bands; a step generates one sample of each.
        order: Past samples of every band that are inputs of the GRU.
        prediction_order: Past samples of every band that the linear predictor uses.
        pad: Frames of context that the mel needs on each side, at least 2.
        frame_dims: Width of the network over frames.
        frame_blocks: Number of its residual blocks.
        rnn_dims: Width of the GRU.
        fc_dims: Width of the layer above it.
        n_mixtures: Logistics per sample.
        temperature: Factor of their scales in generation; below 1 there is less noise. A number, or
            several, from the lowest band to the highest, which are spread evenly over the bands.

    Raises:
        InputError: A value is impossible.
    """

    kind = "multiband_wavernn"
    fold_frames = stream_frames = (24, 192)  # a step generates several samples: long ones are fast
    sizes_of_mels = ("hop_length",)

    def __init__(
        self,
        n_mels: int,
        hop_length: int,
        bands: int,
        order: int,
        prediction_order: int,
        pad: int,
        frame_dims: int,
        frame_blocks: int,
        rnn_dims: int,
        fc_dims: int,
        n_mixtures: int,
        temperature: float | Sequence[float],
    ):
        temperature = checked_temperature("model", temperature)
        super().__init__(locals())
        require_at_least(1, "model", n_mels=n_mels, bands=bands, order=order, rnn_dims=rnn_dims)
        require_at_least(1, "model", hop_length=hop_length)
        require_layers("model", frame_blocks=frame_blocks)
        require_at_least(1, "model", fc_dims=fc_dims, frame_dims=frame_dims, n_mixtures=n_mixtures)
        require_within(0, order + 1, "model", prediction_order=prediction_order)
        require_at_least(2, "model", pad=pad)
        if hop_length % bands:
            fitting = [str(n) for n in range(2, 9) if hop_length % n == 0]
            raise InputError(
                f"model.bands={bands}: does not divide mel.hop_length={hop_length}; "
                f"{' or '.join(fitting) or 'no number below 9'} does"
            )
        self.hop_length = hop_length
        self.pad = pad
        self.bands = bands
        self.order = order
        self.prediction_order = prediction_order
        self.n_mixtures = n_mixtures
        self.temperature = temperature
        self.filterbank = PQMF(bands)
        # Log of the share of a mel band's power that lies in each band of sound.
        self.envelope = nn.Parameter(torch.full((bands, n_mels), -23.0))
        self.frames = FrameNetwork(n_mels, pad, frame_dims, frame_blocks)
        self.predictor = nn.Linear(frame_dims, bands * bands * prediction_order)
        self.rnn = nn.GRU(bands * order + frame_dims, rnn_dims, batch_first=True)
        self.fc1 = nn.Linear(rnn_dims + frame_dims, fc_dims)
        self.fc2 = nn.Linear(fc_dims, bands * 3 * n_mixtures)

    @classmethod
    def sizes(cls, state: State) -> dict:
        bands, n_mels = state["envelope"].shape
        frame_dims = len(state["frames.convolution2.weight"])
        return {
            "n_mels": n_mels,
            "bands": bands,
            "order": (state["rnn.weight_ih_l0"].shape[1] - frame_dims) // bands,
            "prediction_order": state["predictor.weight"].shape[0] // bands**2,
            "pad": (state["frames.convolution1.weight"].shape[2] + 3) // 2,
            "frame_dims": frame_dims,
            "frame_blocks": n_listed(state, "frames.blocks"),
            "rnn_dims": state["rnn.weight_hh_l0"].shape[1],
            "fc_dims": state["fc1.weight"].shape[0],
            "n_mixtures": state["fc2.weight"].shape[0] // (3 * bands),
        }

    def log_prob(self, wav: Tensor, mel: Tensor) -> Tensor:
        """Compute the log probability of every sample of every band, given those before it.

        Args:
            wav: Samples of the mel (B, (N + 2·pad) · hop_length).
            mel: Mel (B, n_mels, N + 2·pad).

        Returns:
            Log probabilities (B, N · hop_length / bands, bands) of 16-bit samples, as in
            `mixture_log_prob`.
        """
        margin = self.pad * self.hop_length // self.bands
        bands = self.filterbank.analyse(wav)[:, margin:-margin]
        log_scale = self.log_scale(mel)
        samples = bands * torch.exp(-log_scale)
        past = F.pad(samples[:, :-1], (0, 0, 1, 0))  # crops start from silence, as folds do
        mixture = self(past, mel)
        return mixture_log_density(mixture, samples) - log_scale + math.log(LEVEL_WIDTH)

    def forward(self, past: Tensor, mel: Tensor) -> Tensor:
        """Compute the mixture of every sample from the true samples before it (teacher forcing).

        Args:
            past: Samples (B, L, bands) in units of the envelope; past[:, t] is the one before the
                sample predicted at t.
            mel: Mel (B, n_mels, N + 2·pad), N · hop_length = L · bands.

        Returns:
            Mixtures (B, L, bands, 3 · n_mixtures), see `split_mixture`.
        """
        features = self.frames(mel)  # (B, N + 1, frame_dims)
        # (B, L, bands, order)
        past = F.pad(past, (0, 0, self.order - 1, 0)).unfold(1, self.order, 1).clamp(-LIMIT, LIMIT)
        features_now = self.to_steps(features)
        hidden, _ = self.rnn(torch.cat([past.flatten(2), features_now], dim=-1))
        hidden = F.relu(self.fc1(torch.cat([hidden, features_now], dim=-1)))
        mixture = self.fc2(hidden).to(past.dtype).unflatten(-1, (self.bands, 3, self.n_mixtures))
        weights, means, log_scales = mixture.unbind(-2)
        coefficients = self.to_steps(self.predictor(features)).to(past.dtype)
        recent = past[..., self.order - self.prediction_order :].flatten(2)
        predicted = (coefficients.unflatten(-1, (self.bands, -1)) * recent[:, :, None]).sum(-1)
        return torch.cat([weights, means + predicted[..., None], log_scales], dim=-1)

    def log_scale(self, mel: Tensor) -> Tensor:
        """Compute the bands' log envelopes from mel (B, n_mels, N + 2·pad) -> (B, L, bands)."""
        power = self._log_power(mel[..., self.pad : mel.shape[-1] - self.pad + 1])
        return self.to_steps(power.transpose(1, 2)) / 2

    def _log_power(self, mel: Tensor) -> Tensor:
        """Compute the bands' log power from mel (B, n_mels, T) -> (B, bands, T)."""
        return torch.logsumexp(LOG_POWER_PER_MEL * mel[:, None] + self.envelope[..., None], dim=2)

    def to_steps(self, frames: Tensor) -> Tensor:
        """Interpolate values of N + 1 frames (B, N + 1, C) linearly at the steps (B, L, C)."""
        n_steps = self.hop_length // self.bands
        way = torch.arange(n_steps, device=frames.device, dtype=frames.dtype) / n_steps
        before, after = frames[:, :-1, None], frames[:, 1:, None]
        return torch.lerp(before, after, way[:, None]).flatten(1, 2)

    def recur(self, mel: Tensor, noise: list[torch.Generator]) -> Tensor:
        """Generate padded mels (S, n_mels, N + 2·pad), with a generator each -> wavs (S, N·hop)."""
        running = self.begin(noise)
        wavs = running.advance(mel)
        n_samples = wavs.shape[1]
        wavs = torch.cat([wavs, running.tail.clamp(-1, 1)], dim=1)
        return wavs[:, running.delay : running.delay + n_samples]

    def begin(self, noise: list[torch.Generator]) -> "RunningMultiBandWaveRNN":
        """Begin one sequence per generator, from silence."""
        return RunningMultiBandWaveRNN(self, noise)

    @torch.enable_grad()
    def initialize_output(self, wav: Tensor, mel: Tensor) -> float:
        """Fit the envelopes to recordings, before the other parts are trained.

        The arguments are those of `log_prob`.

        Returns:
            Standard deviation of the fit in dB.
        """
        nn.init.zeros_(self.predictor.weight)
        nn.init.zeros_(self.predictor.bias)
        weights, means, log_scales = self.fc2.bias.data.view(self.bands, 3, -1).unbind(1)
        weights.zero_()
        means.copy_(torch.linspace(-0.5, 0.5, self.n_mixtures).expand_as(means))
        log_scales.fill_(-1)
        n_steps = self.hop_length // self.bands
        with torch.no_grad():
            samples = self.filterbank.analyse(wav).square().transpose(1, 2).flatten(0, 1)
            window = torch.hann_window(2 * n_steps + 1, device=wav.device)
            power = F.conv1d(samples[:, None], (window / window.sum())[None, None], stride=n_steps)
            power = power.unflatten(0, (len(wav), self.bands))[:, :, 0].clamp(min=1e-10)
        mel = mel[..., 1 : 1 + power.shape[-1]]  # where windows are whole
        optimizer = torch.optim.Adam([self.envelope], FIT_RATE)
        schedule = torch.optim.lr_scheduler.LinearLR(optimizer, 1, 0, FIT_STEPS)
        for _ in range(FIT_STEPS):
            error = self._log_power(mel) - power.log()
            optimizer.zero_grad()
            error.square().mean().backward()
            optimizer.step()
            schedule.step()
        return error.std().item() * 10 / math.log(10)


class RunningMultiBandWaveRNN:
    """State of S sequences, which continue where the last call stopped.

    It computes `MultiBandWaveRNN.forward` transposed: a step multiplies weights by columns, one per
    sequence. Features are projected once per frame, because the projection of interpolated features
    is the interpolation of their projections.

    Args:
        network: The network.
        noise: A random generator for each sequence.

    Attributes:
        delay: Samples by which the sound is later than the mels.
        tail: Contribution (S, n) of the past to the next sound.
    """

    @torch.inference_mode()
    def __init__(self, network: MultiBandWaveRNN, noise: list[torch.Generator]):
        self.network = network
        self.noise = noise
        self.delay = network.filterbank.reach
        zeros = network.fc2.weight.new_zeros
        self.tail = zeros(len(noise), 0)
        self.past = zeros(network.order * network.bands, len(noise))  # rows by time, then by band
        self.state = zeros(network.rnn.hidden_size, len(noise))
        w_in, self.w_rec, b_in, b_rec = network.rnn.all_weights[0]
        dims = network.fc1.in_features - network.rnn.hidden_size
        w_past, self.w_features = w_in.split([network.bands * network.order, dims], dim=1)
        w_past = w_past.unflatten(1, (network.bands, network.order))
        self.w_past = w_past.transpose(1, 2).flatten(1)
        n_gates = 2 * network.rnn.hidden_size  # without the new state's
        self.b_in = (b_in + F.pad(b_rec[:n_gates], (0, network.rnn.hidden_size)))[:, None]
        self.b_new = b_rec[n_gates:, None]

    @torch.inference_mode()
    def advance(self, mel: Tensor) -> Tensor:
        """Continue with padded mels (S, n_mels, N + 2·pad) -> wavs (S, N · hop_length)."""
        network = self.network
        samples = self._recur(mel) * torch.exp(network.log_scale(mel))
        wav, self.tail = network.filterbank.continue_synthesis(samples, self.tail)
        return wav.clamp(-1, 1)

    def _recur(self, mel: Tensor) -> Tensor:
        """Generate samples (S, L, bands), in units of the envelope, of padded mels."""
        network, order, bands = self.network, self.network.order, self.network.bands
        features = network.frames(mel).permute(1, 2, 0)  # (N + 1, frame_dims, S)
        n_steps, rnn_dims = network.hop_length // bands, network.rnn.hidden_size
        n_gates = 2 * rnn_dims
        fc2_bias = network.fc2.bias[:, None]
        w_hidden, w_above = network.fc1.weight.split([rnn_dims, features.shape[1]], dim=1)
        gates_of_frames = self.w_features @ features + self.b_in
        above_of_frames = w_above @ features + network.fc1.bias[:, None]
        coefficients = network.predictor.weight @ features + network.predictor.bias[:, None]
        coefficients = coefficients.unflatten(1, (bands, bands, -1)).transpose(2, 3)
        coefficients = coefficients.flatten(2, 3)  # (N + 1, bands, rows of the recent past, S)
        way = torch.arange(n_steps, device=mel.device, dtype=mel.dtype) / n_steps
        temperature = mel.new_tensor(of_bands(network.temperature, bands))[:, None]

        n_frames, batch = len(features) - 1, mel.shape[0]
        # Rows: the past samples, then those to be generated.
        sound = torch.cat([self.past, mel.new_empty(n_frames * n_steps * bands, batch)])
        state = self.state
        row = 0
        for frame in range(n_frames):
            gates, above, predictors = (
                torch.lerp(x[frame], x[frame + 1], way.view(-1, *[1] * (x.dim() - 1)))
                for x in (gates_of_frames, above_of_frames, coefficients)
            )
            numbers = uniform_block(self.noise, (n_steps, bands, network.n_mixtures + 1), mel)
            drawn = mixture_noise(numbers, temperature)
            for gate, hidden, predictor, gumbel, logistic in zip(
                gates, above, predictors, *drawn, strict=True
            ):
                now = row + order * bands
                past = sound[row:now]
                gate.addmm_(self.w_past, past)
                product = self.w_rec @ state
                r, z = gate[:n_gates].add_(product[:n_gates]).sigmoid_().chunk(2)
                new = gate[n_gates:].addcmul_(r, product[n_gates:].add_(self.b_new)).tanh_()
                state = torch.lerp(new, state, z)
                hidden.addmm_(w_hidden, state).relu_()
                mixture = torch.addmm(fc2_bias, network.fc2.weight, hidden)
                weights, means, log_scales = mixture.view(bands, 3, -1, batch).unbind(1)
                recent = past[len(past) - predictor.shape[1] :]
                predicted = (predictor * recent).sum(dim=1)
                sample = pick(weights, means, log_scales, gumbel, logistic).add_(predicted)
                sound[now : now + bands] = sample.clamp_(-LIMIT, LIMIT)
                row += bands
        self.past, self.state = sound[row:].clone(), state
        return sound[order * bands :].T.unflatten(1, (-1, bands))


def checked_temperature(group: str, temperature: Any) -> float | list[float]:
    """Return a temperature, see `MultiBandWaveRNN`.

    Raises:
        InputError: It is something else, or out of range; the message names the key of the group.
    """
    several = isinstance(temperature, Sequence) and not isinstance(temperature, str)
    for value in temperature if several and temperature else [temperature]:
        require_within(0, MAX_TEMPERATURE, group, temperature=value)
    return list(temperature) if several else temperature


def of_bands(temperature: float | list[float], bands: int) -> np.ndarray:
    """Spread a temperature evenly over the bands -> (bands,)."""
    values = temperature if isinstance(temperature, list) else [temperature]
    return np.interp(np.linspace(0, 1, bands), np.linspace(0, 1, len(values)), values)


class FrameNetwork(nn.Module):
    """Network that computes features of each frame from pad − 1 frames on each side."""

    def __init__(self, n_mels: int, pad: int, dims: int, n_blocks: int):
        super().__init__()
        self.convolution1 = nn.Conv1d(n_mels, dims, 2 * pad - 3)
        self.convolution2 = nn.Conv1d(dims, dims, 3)
        self.blocks = nn.ModuleList(
            nn.Sequential(
                nn.Conv1d(dims, dims, 1), nn.BatchNorm1d(dims), nn.ReLU(), nn.Conv1d(dims, dims, 1)
            )
            for _ in range(n_blocks)
        )
        self.batch_norm = nn.BatchNorm1d(dims)

    def forward(self, mel: Tensor) -> Tensor:
        """Compute features of N + 1 frames (B, N + 1, dims) from mel (B, n_mels, N + 2·pad)."""
        x = self.convolution2(F.relu(self.convolution1(2 * mel - 1)))
        for block in self.blocks:
            x = x + block(x)
        return F.relu(self.batch_norm(x))[..., 1:].transpose(1, 2)
