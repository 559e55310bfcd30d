"""Training AutoVC: one LightningModule over the network and its loss."""

import logging
from collections.abc import Callable
from dataclasses import asdict, replace

import torch
from pytorch_lightning import LightningModule
from torch import Tensor
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from vc_lightning import resources
from vc_lightning.autovc import AutoVC
from vc_lightning.checkpoints import Card, read_autovc, read_training
from vc_lightning.data import Batch
from vc_lightning.errors import InputError, require_within
from vc_lightning.losses import autovc_losses, code_mask, masked_mean, valid_mask
from vc_lightning.mel import require_same_settings

log = logging.getLogger(__name__)

MIN_CODES_STD = 1e-4  # a hundredth of what trained networks have


class LitAutoVC(LightningModule):
    """AutoVC with its reconstruction loss, Adam and the Noam schedule.

    Args:
        network: the AutoVC to train.
        card: what its weight files will say of it (mel settings, speaker encoder, data).
        optimizer: from parameters to an optimizer; `scheduler`: from that to a schedule that
            steps after every optimizer step.
        decoder_weight, content_weight: μ and λ of the loss
            postnet + μ · decoder + λ · content.
        content_per_std: whether the content term is divided by the codes' std, through which no
            gradient flows; else the network lowers the term by merely shrinking its codes.
        mean_mel: (n_mels,), the training data's mean, whose error is the unit of `*_ratio`.
    """

    def __init__(
        self,
        network: AutoVC,
        card: Card,
        optimizer: Callable[..., Optimizer],
        scheduler: Callable[[Optimizer], LRScheduler],
        decoder_weight: float,
        content_weight: float,
        content_per_std: bool,
        mean_mel: Tensor,
    ):
        super().__init__()
        weights = {"decoder_weight": decoder_weight, "content_weight": content_weight}
        require_within(0, float("inf"), "loss", **weights)
        self.network = network
        self.card = card
        self.make_optimizer = optimizer
        self.make_scheduler = scheduler
        self.decoder_weight = decoder_weight
        self.content_weight = content_weight
        self.content_per_std = content_per_std
        self.register_buffer("mean_mel", mean_mel)

    def forward(self, mel: Tensor, source_embedding: Tensor, target_embedding: Tensor) -> Tensor:
        """Converted mel (B, n_mels, T)."""
        return self.network(mel, source_embedding, target_embedding)[1]

    def losses(self, network: AutoVC, batch: Batch) -> dict[str, Tensor]:
        """The loss, its terms, each term as a ratio to a trivial answer, and the codes' spread."""
        speaker = batch.embedding
        decoder_mel, postnet_mel, codes = network(batch.heard_mel, batch.heard_embedding, speaker)
        postnet_codes = network.encode(postnet_mel, speaker)
        terms = autovc_losses(
            batch.mel,
            decoder_mel.float(),
            postnet_mel.float(),
            codes.float(),
            postnet_codes.float(),
            batch.lengths,
            network.freq,
        )
        yardsticks = self._yardsticks(batch, codes.detach().float(), terms)
        unit = yardsticks["codes_std"].clamp(min=MIN_CODES_STD) if self.content_per_std else 1
        loss = (
            terms["postnet"]
            + self.decoder_weight * terms["decoder"]
            + self.content_weight * terms["content"] / unit
        )
        return {"loss": loss, **terms, **yardsticks}

    @torch.no_grad()
    def _yardsticks(self, batch: Batch, codes: Tensor, terms: dict) -> dict[str, Tensor]:
        """Ratios to predicting the mean mel and, for the content term, to constant codes."""
        frames = valid_mask(batch.lengths, batch.mel.shape[-1])
        mean_mel_error = masked_mean((batch.mel - self.mean_mel[:, None]).square(), frames)
        blocks = code_mask(batch.lengths, self.network.freq, codes)
        # Mean of every channel, over the codes that hold sound.
        centre = (codes * blocks).sum(dim=(0, 2), keepdim=True) / blocks.sum()
        constant_codes_error = masked_mean((codes - centre).abs(), blocks)
        return {
            "postnet_ratio": terms["postnet"].detach() / mean_mel_error,
            "decoder_ratio": terms["decoder"].detach() / mean_mel_error,
            "content_ratio": terms["content"].detach() / constant_codes_error.clamp(min=1e-8),
            "codes_std": masked_mean((codes - centre).square(), blocks).sqrt(),
        }

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        losses = self.losses(self.network, batch)
        self.log_losses("train", losses, batch)
        return losses["loss"]

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        self.log_losses("val_original", self.losses(self.network, batch), batch)

    def log_losses(self, split: str, losses: dict[str, Tensor], batch: Batch) -> None:
        """Logs every value of `losses` as split/name."""
        named = {f"{split}/{name}": value.detach() for name, value in losses.items()}
        self.log_dict(named, batch_size=len(batch.lengths))

    def on_before_optimizer_step(self, optimizer: Optimizer) -> None:
        """Logs the gradient's norm before the Trainer clips it, and the learning rate."""
        gradients = [p.grad for p in self.network.parameters() if p.grad is not None]
        self.log("train/grad_norm", torch.nn.utils.get_total_norm(gradients))
        self.log("train/lr", optimizer.param_groups[0]["lr"])

    def configure_optimizers(self) -> dict:
        try:
            optimizer = self.make_optimizer(self.network.parameters())
            schedule = {"scheduler": self.make_scheduler(optimizer), "interval": "step"}
        except (TypeError, ValueError) as error:
            raise InputError(f"optimizer or scheduler: {error}") from error
        return {"optimizer": optimizer, "lr_scheduler": schedule}

    def current_card(self, weights: str) -> Card:
        """The card of the weights as they are now."""
        return replace(self.card, step=self.global_step, weights=weights)

    def on_save_checkpoint(self, checkpoint: dict) -> None:
        """Lets `last.ckpt` be read like any other weight file."""
        checkpoint["card"] = asdict(self.current_card("average"))


def initialize(
    network: AutoVC, card: Card, init_from: str | None, freq: int, mean_mel: Tensor
) -> str:
    """Fills the network from `init_from` and says with what.

    The shipped weights are taken only where they fit; a file that was asked for must fit.
    """
    if init_from is None:
        network.initialize_output(mean_mel)
        return "weights: from scratch"
    path = resources.AUTOVC if init_from == "shipped" else init_from
    source, source_card = read_autovc(path, freq)
    try:
        require_same_network(source, network, f"init_from={path}")
        require_same_settings(source_card.mel, card.mel, f"init_from={path}", "this training")
    except InputError as error:
        if init_from != "shipped":
            raise
        network.initialize_output(mean_mel)
        return f"weights: from scratch; the shipped ones do not fit: {error}"
    if source_card.speaker_encoder != card.speaker_encoder:
        log.warning("init_from=%s is used to embeddings of another speaker encoder", path)
    if source.freq != network.freq:
        log.warning(
            "init_from=%s had freq %d, this training has %d", path, source.freq, network.freq
        )
    network.load_state_dict(source.state_dict())
    return f"weights: from {path}, step {source_card.step}"


def require_same_network(source: AutoVC, network: AutoVC, name: str) -> None:
    """Raises InputError naming the sizes in which two networks differ; freq is no weight's size."""
    differing = [
        f"{key} {source.arguments[key]} != {value}"
        for key, value in network.arguments.items()
        if key != "freq" and source.arguments[key] != value
    ]
    if differing:
        raise InputError(f"{name}: is another network ({', '.join(differing)})")


def require_same_training(path: str, card: Card) -> None:
    """Raises InputError unless the checkpoint to resume is of this network, mel and encoder."""
    stored = read_training(path)
    for name in ("network", "mel", "speaker_encoder"):
        if getattr(stored, name) != getattr(card, name):
            raise InputError(
                f"ckpt_path={path}: its {name} is {getattr(stored, name)}, this training's is "
                f"{getattr(card, name)}; resume with the settings that it was made with"
            )
