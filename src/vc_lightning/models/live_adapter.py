"""What a recogniser learned of speech that goes on: small changes of its weights."""

import copy
from collections.abc import Iterator

import torch
from torch import Tensor, nn

from vc_lightning.models.network import Network, State
from vc_lightning.models.recogniser import Recogniser, TransformerLayer

PRODUCTS = ("qkv", "out", "ffn1", "ffn2")  # of a layer
GAIN = 4.0  # of the changes


class LiveAdapter(Network):
    """Changes of low rank of a recogniser's products (LoRA, Hu et al. 2021, arXiv 2106.09685).

    A recogniser learned to hear whole recordings. With the changes, what it hears at the end of
    speech that goes on is closer to what it will have heard there when the speech is over.

    Args:
        dim: Size of the recogniser's features.
        n_layers: Its layers.
        rank: Rank of the changes.
    """

    kind = "live_adapter"

    def __init__(self, dim: int, n_layers: int, rank: int):
        super().__init__(locals())
        self.layers = nn.ModuleList(Layer(dim, rank) for _ in range(n_layers))
        self.norm = nn.LayerNorm(dim)

    @classmethod
    def sizes(cls, state: State) -> dict:
        rank, dim = state["layers.0.products.qkv.down"].shape
        n_layers = sum(key.endswith(".qkv.down") for key in state)
        return {"dim": dim, "n_layers": n_layers, "rank": rank}

    @torch.no_grad()
    def adapted(self, recogniser: Recogniser) -> Recogniser:
        """Return a recogniser with the changes; one of other sizes is returned as it is."""
        sizes = {name: recogniser.arguments[name] for name in ("dim", "n_layers")}
        if not sizes.items() <= self.arguments.items():
            return recogniser
        made = copy.deepcopy(recogniser)
        self.use_normalisations_in(made)
        for own, layer in self.beside(made):
            for name, change in own.changes():
                layer.get_submodule(name).get_parameter("weight").add_(change())
        return made

    def use_normalisations_in(self, recogniser: Recogniser) -> None:
        """Put the normalisations themselves, not copies, into a recogniser."""
        recogniser.norm = self.norm
        for own, layer in self.beside(recogniser):
            layer.attention_norm, layer.ffn_norm = own.attention_norm, own.ffn_norm

    def beside(self, recogniser: Recogniser) -> Iterator[tuple["Layer", TransformerLayer]]:
        """Yield each of the layers with that of a recogniser."""
        for own, layer in zip(self.layers, recogniser.layers, strict=True):
            assert isinstance(own, Layer)
            assert isinstance(layer, TransformerLayer)
            yield own, layer


class Layer(nn.Module):
    """The changes of one layer, and its normalisations.

    Args:
        dim: Width of the layer.
        rank: Rank of the changes.
    """

    def __init__(self, dim: int, rank: int):
        super().__init__()
        self.attention_norm = nn.LayerNorm(dim)
        self.ffn_norm = nn.LayerNorm(dim)
        dims = {"qkv": (dim, 3 * dim), "out": (dim, dim)}
        dims |= {"ffn1": (dim, 4 * dim), "ffn2": (4 * dim, dim)}
        self.products = nn.ModuleDict({name: Change(*dims[name], rank) for name in PRODUCTS})

    def changes(self) -> Iterator[tuple[str, "Change"]]:
        """Yield the name of each product with its change."""
        for name, change in self.products.items():
            assert isinstance(change, Change)
            yield name, change


class Change(nn.Module):
    """A matrix of low rank, at first zero.

    Args:
        dim_in: Columns.
        dim_out: Rows.
        rank: Its rank.
    """

    def __init__(self, dim_in: int, dim_out: int, rank: int):
        super().__init__()
        self.down = nn.Parameter(torch.randn(rank, dim_in) * dim_in**-0.5)
        self.up = nn.Parameter(torch.zeros(dim_out, rank))
        self.gain = GAIN / rank

    def forward(self) -> Tensor:
        """Return the matrix (dim_out, dim_in)."""
        return self.gain * self.up @ self.down

    def of(self, rows: Tensor) -> Tensor:
        """Multiply rows (..., dim_in) by the matrix -> (..., dim_out)."""
        return self.gain * rows @ self.down.t() @ self.up.t()
