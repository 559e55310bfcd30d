"""WaveRNN, which generates sample by sample (fatchord's model, after arXiv 1802.08435)."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vc_lightning.common.errors import (
    InputError,
    require_at_least,
    require_layers,
    require_one_of,
    require_within,
)
from vc_lightning.models.network import State, n_listed
from vc_lightning.models.vocoders.wavernn.distributions import (
    mixture_log_prob,
    mu_law_decode,
    mu_law_encode,
    sample_classes,
    sample_mixture,
    uniforms,
)
from vc_lightning.models.vocoders.wavernn.recurrence import RunningSteps
from vc_lightning.models.vocoders.wavernn.recurrent import RecurrentVocoder
from vc_lightning.models.vocoders.wavernn.upsampling import Upsample

N_MIXTURES = 10
MAX_HOP_LENGTH = 2**16


class WaveRNN(RecurrentVocoder):
    """Two GRUs and three linear layers, conditioned by an upsampled mel-spectrogram.

    Args:
        mode: "RAW", classes of mu-law samples, or "MOL", a mixture of logistics.
        bits: log2 of the number of classes (RAW only).
        n_mels: Mel bands.
        upsample_factors: Factors whose product is the hop length, or the hop length itself, see
            `three_factors`.
        pad: Frames of context that the mel needs on each side.
        rnn_dims: Width of the GRUs.
        fc_dims: Width of the linear layers.
        compute_dims: Width of the residual network over frames.
        res_out_dims: Channels of its output.
        res_blocks: Number of its residual blocks.

    Raises:
        InputError: A value is impossible.
    """

    kind = "wavernn"

    def __init__(
        self,
        mode: str,
        bits: int,
        n_mels: int,
        upsample_factors: Sequence[int] | int,
        pad: int = 2,
        rnn_dims: int = 512,
        fc_dims: int = 512,
        compute_dims: int = 128,
        res_out_dims: int = 128,
        res_blocks: int = 10,
    ):
        if isinstance(upsample_factors, int):
            upsample_factors = three_factors(upsample_factors)
        upsample_factors = list(upsample_factors)
        super().__init__(locals())
        for factor in upsample_factors:
            require_at_least(1, "model", upsample_factors=factor)
        require_one_of(("RAW", "MOL"), "model", mode=mode)
        require_at_least(1, "model", bits=bits, n_mels=n_mels, rnn_dims=rnn_dims, fc_dims=fc_dims)
        require_layers("model", res_blocks=res_blocks)
        require_at_least(1, "model", compute_dims=compute_dims, res_out_dims=res_out_dims)
        if res_out_dims % 4:
            raise InputError(f"model.res_out_dims={res_out_dims}: give a multiple of 4")
        self.mode = mode
        self.pad = pad
        self.hop_length = math.prod(upsample_factors)
        self.n_out = 2**bits if mode == "RAW" else 3 * N_MIXTURES
        dim_aux = res_out_dims // 4
        self.upsample = Upsample(
            n_mels, upsample_factors, compute_dims, res_blocks, res_out_dims, pad
        )
        if self.upsample.reach > pad:
            raise InputError(
                f"model.pad={pad}: upsampling by {self.upsample.factors} reads "
                f"{self.upsample.reach} frames to each side; give at least as many"
            )
        self.input = nn.Linear(1 + n_mels + dim_aux, rnn_dims)
        self.rnn1 = nn.GRU(rnn_dims, rnn_dims, batch_first=True)
        self.rnn2 = nn.GRU(rnn_dims + dim_aux, rnn_dims, batch_first=True)
        self.fc1 = nn.Linear(rnn_dims + dim_aux, fc_dims)
        self.fc2 = nn.Linear(fc_dims + dim_aux, fc_dims)
        self.fc3 = nn.Linear(fc_dims, self.n_out)

    @classmethod
    def sizes(cls, state: State) -> dict:
        n_out = state["fc3.weight"].shape[0]
        compute_dims, n_mels, kernel_size = state["upsample.resnet.conv_in.weight"].shape
        smoothing = sorted(key for key in state if key.startswith("upsample.smoothing."))
        return {
            "mode": "MOL" if n_out == 3 * N_MIXTURES else "RAW",
            "bits": 9 if n_out == 3 * N_MIXTURES else n_out.bit_length() - 1,
            "n_mels": n_mels,
            "upsample_factors": [state[key].shape[-1] // 2 for key in smoothing],
            "pad": kernel_size // 2,
            "rnn_dims": state["rnn1.weight_hh_l0"].shape[1],
            "fc_dims": state["fc3.weight"].shape[1],
            "compute_dims": compute_dims,
            "res_out_dims": state["upsample.resnet.conv_out.weight"].shape[0],
            "res_blocks": n_listed(state, "upsample.resnet.layers"),
        }

    def forward(self, wav: Tensor, mel: Tensor) -> Tensor:
        """Compute the logits of every sample from the true samples before it (teacher forcing).

        Args:
            wav: Samples (B, N·hop) in −1…1; wav[t] is the sample before the one predicted at t
                (RAW: in mu-law's compressed scale).
            mel: Mel (B, n_mels, N + 2·pad).

        Returns:
            Logits (B, N·hop, n_out).
        """
        mel, aux = self.upsample(mel)  # (B, N·hop, n_mels), (B, N·hop, res_out_dims)
        aux1, aux2, aux3, aux4 = aux.chunk(4, dim=-1)
        x = self.input(torch.cat([wav[..., None], mel, aux1], dim=-1))
        x = x + self.rnn1(x)[0]
        x = x + self.rnn2(torch.cat([x, aux2], dim=-1))[0]
        x = F.relu(self.fc1(torch.cat([x, aux3], dim=-1)))
        x = F.relu(self.fc2(torch.cat([x, aux4], dim=-1)))
        return self.fc3(x)

    def log_prob(self, wav: Tensor, mel: Tensor) -> Tensor:
        """Compute the log probability of every sample, or (RAW) of its class.

        Args:
            wav: Samples of the mel (B, (N + 2·pad) · hop_length).
            mel: Mel (B, n_mels, N + 2·pad).

        Returns:
            Log probabilities (B, N · hop_length), given the mel and the samples before.
        """
        margin = self.pad * self.hop_length
        wav = wav[:, margin : wav.shape[1] - margin]
        if self.mode == "MOL":
            logits = self(F.pad(wav[:, :-1], (1, 0)), mel)
            return mixture_log_prob(logits.to(wav.dtype), wav)
        classes = mu_law_encode(wav, self.n_out)
        compressed = 2 * classes.to(wav.dtype) / (self.n_out - 1) - 1
        logits = self(F.pad(compressed[:, :-1], (1, 0)), mel)
        return -F.cross_entropy(logits.to(wav.dtype).transpose(1, 2), classes, reduction="none")

    @torch.no_grad()
    def initialize_output(self, wav: Tensor, mel: Tensor) -> None:
        """Initialise the output to the distribution of all samples, see `log_prob`."""
        self.fc3.weight *= 0.1
        if self.mode == "MOL":
            weights, means, log_scales = self.fc3.bias.chunk(3)
            weights.zero_()
            means.copy_(torch.linspace(-1, 1, N_MIXTURES) * wav.std())
            log_scales.fill_(math.log(wav.std() / 2))
        else:
            counts = torch.bincount(mu_law_encode(wav, self.n_out).flatten(), minlength=self.n_out)
            self.fc3.bias.copy_(torch.log((counts + 1) / (counts + 1).sum()))

    def begin(self, noise: list[torch.Generator]) -> "RunningWaveRNN":
        """Begin one sequence per generator, from silence."""
        return RunningWaveRNN(self, noise)


class RunningWaveRNN:
    """State of S sequences, which continue where the last call stopped.

    Args:
        network: The network.
        noise: A random generator for each sequence.

    Attributes:
        delay: Samples by which the sound is later than the mels.
    """

    delay = 0

    def __init__(self, network: WaveRNN, noise: list[torch.Generator]):
        self.network = network
        self.steps = RunningSteps(network, len(noise))
        n_numbers = N_MIXTURES + 1 if network.mode == "MOL" else 1
        self.draws = uniforms(noise, n_numbers, like=network.fc3.weight)

    def advance(self, mel: Tensor) -> Tensor:
        """Continue with padded mels (S, n_mels, N + 2·pad) -> wavs (S, N·hop)."""
        network = self.network
        n_samples = (mel.shape[-1] - 2 * network.pad) * network.hop_length
        wavs = mel.new_empty(n_samples, len(mel))

        def choose_value(step: int, logits: Tensor) -> Tensor:
            wavs[step] = sample_mixture(logits, next(self.draws))
            return wavs[step : step + 1]

        def choose_class(step: int, logits: Tensor) -> Tensor:
            wavs[step] = sample_classes(logits, next(self.draws)[:, 0])
            return 2 * wavs[step : step + 1] / (network.n_out - 1) - 1

        if network.mode == "MOL":
            self.steps.run(mel, choose_value)
            return wavs.t()
        self.steps.run(mel, choose_class)
        return mu_law_decode(wavs.t(), network.n_out)


def three_factors(hop_length: int) -> tuple[int, int, int]:
    """Find the three ascending factors of a hop length with the least sum: 256 -> 4, 8, 8."""
    require_at_least(1, "model", upsample_factors=hop_length)
    require_within(1, MAX_HOP_LENGTH + 1, "model", upsample_factors=hop_length)
    divisors = [n for n in range(1, hop_length + 1) if hop_length % n == 0]
    triples = [
        (a, b, hop_length // (a * b))
        for a in divisors
        for b in divisors
        if a <= b and hop_length % (a * b) == 0 and b <= hop_length // (a * b)
    ]
    return min(triples, key=sum)
