"""A network that tells speakers apart by their mels, and judges training mels by what it hears."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vc_lightning.common.errors import require_at_least
from vc_lightning.models.network import Network, State

DILATIONS = (1, 2, 3, 4)
MEL_GAIN = 5.0  # brings mels of 0 to 1, less their mean, to a variance of about 1
DIM_ATTENTION = 64
MIN_VARIANCE = 1e-5


class SpeakerCritic(Network):
    """Convolutions over time, attentive statistics, and an embedding (after ECAPA-TDNN).

    See Desplanques et al. 2020, arXiv 2005.07143. The mean over time is taken from every band, so
    that the critic hears voices and not microphones. Training compares what it hears in a converted
    mel and in the recording, layer by layer; no conversion needs it.

    Args:
        n_mels: Mel bands.
        dim: Width of the convolutions.
        dim_joined: Width of what their outputs are joined to.
        dim_emb: Size of the embedding.

    Raises:
        InputError: A size is below 1.
    """

    kind = "speaker_critic"
    sizes_of_mels = ("n_mels",)

    def __init__(self, n_mels: int = 80, dim: int = 192, dim_joined: int = 384, dim_emb: int = 128):
        super().__init__(locals())
        require_at_least(1, "model", **self.arguments)
        self.input = nn.Conv1d(n_mels, dim, 5, padding=2)
        self.convolutions = nn.ModuleList(
            nn.Conv1d(dim, dim, 3, padding=dilation, dilation=dilation) for dilation in DILATIONS
        )
        self.norms = nn.ModuleList(nn.BatchNorm1d(dim) for _ in range(1 + len(DILATIONS)))
        self.joined = nn.Conv1d(dim * (1 + len(DILATIONS)), dim_joined, 1)
        self.attention = nn.Sequential(
            nn.Conv1d(dim_joined, DIM_ATTENTION, 1),
            nn.Tanh(),
            nn.Conv1d(DIM_ATTENTION, dim_joined, 1),
        )
        self.norm = nn.BatchNorm1d(2 * dim_joined)
        self.linear = nn.Linear(2 * dim_joined, dim_emb)

    @classmethod
    def sizes(cls, state: State) -> dict:
        dim, n_mels, _ = state["input.weight"].shape
        dim_emb, n_statistics = state["linear.weight"].shape
        return {"n_mels": n_mels, "dim": dim, "dim_joined": n_statistics // 2, "dim_emb": dim_emb}

    def forward(self, mel: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Hear the speaker of mels.

        Args:
            mel: (B, n_mels, T).

        Returns:
            Embeddings of unit length (B, dim_emb), and the layers' outputs (B, dim, T).
        """
        x = MEL_GAIN * (mel - mel.mean(dim=-1, keepdim=True))
        x = self.norms[0](F.relu(self.input(x)))
        layers = [x]
        for convolution, norm in zip(self.convolutions, self.norms[1:], strict=True):
            x = x + norm(F.relu(convolution(x)))
            layers.append(x)
        x = F.relu(self.joined(torch.cat(layers, dim=1)))
        weights = self.attention(x).softmax(dim=-1)
        mean = (weights * x).sum(dim=-1)
        variance = (weights * x.square()).sum(dim=-1) - mean.square()
        statistics = torch.cat([mean, variance.clamp(min=MIN_VARIANCE).sqrt()], dim=1)
        return F.normalize(self.linear(self.norm(statistics)), dim=1), layers


def critic_losses(
    heard: tuple[Tensor, list[Tensor]], wanted: tuple[Tensor, list[Tensor]]
) -> tuple[Tensor, Tensor]:
    """Compare what the critic hears in mels and in those of the same recorded speech.

    Args:
        heard: What `SpeakerCritic` returns for mels.
        wanted: What it returns for the recordings, without gradient.

    Returns:
        Mean absolute difference of the layers' outputs, and 1 − cosine of the embeddings.
    """
    (embedding, layers), (wanted_embedding, wanted_layers) = heard, wanted
    differences = [F.l1_loss(a, b) for a, b in zip(layers, wanted_layers, strict=True)]
    return torch.stack(differences).mean(), 1 - (embedding * wanted_embedding).sum(dim=1).mean()
