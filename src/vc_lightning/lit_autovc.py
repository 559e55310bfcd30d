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
from vc_lightning.checkpoints import Card, load_autovc, read_autovc
from vc_lightning.crops import Batch
from vc_lightning.errors import InputError, require_within
from vc_lightning.losses import Valid, autovc_losses, masked_mean, valid_elements
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
        config: what the run was told, kept in `last.ckpt` to be compared with on resuming.
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
        config: dict,
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
        self.config = config
        self.register_buffer("mean_mel", mean_mel)

    def forward(self, mel: Tensor, source_embedding: Tensor, target_embedding: Tensor) -> Tensor:
        """Converted mel (B, n_mels, T)."""
        return self.network(mel, source_embedding, target_embedding)[1]

    def losses(self, network: AutoVC, batch: Batch) -> dict[str, Tensor]:
        """The loss, its terms, each term as a ratio to a trivial answer, and the codes' spread."""
        speaker = batch.embedding
        decoder_mel, postnet_mel, codes = network(batch.heard_mel, batch.heard_embedding, speaker)
        postnet_codes = network.encode(postnet_mel, speaker)
        valid = of_all_processes(valid_elements(batch.lengths, batch.mel.shape[-1], network.freq))
        terms = autovc_losses(
            batch.mel,
            decoder_mel.float(),
            postnet_mel.float(),
            codes.float(),
            postnet_codes.float(),
            valid,
        )
        yardsticks = self._yardsticks(batch, codes.detach().float(), terms, valid)
        unit = yardsticks["codes_std"].clamp(min=MIN_CODES_STD) if self.content_per_std else 1
        loss = (
            terms["postnet"]
            + self.decoder_weight * terms["decoder"]
            + self.content_weight * terms["content"] / unit
        )
        return {"loss": loss, **terms, **yardsticks}

    @torch.no_grad()
    def _yardsticks(
        self, batch: Batch, codes: Tensor, terms: dict, valid: Valid
    ) -> dict[str, Tensor]:
        """Ratios to predicting the mean mel and, for the content term, to constant codes."""
        deviation = (batch.mel - self.mean_mel[:, None]).square()
        mean_mel_error = masked_mean(deviation, valid.frames, valid.n_frames)
        # Mean of every channel, over the codes that hold sound.
        centre = (codes * valid.codes).sum(dim=(0, 2), keepdim=True) / valid.codes.sum()
        constant_codes_error = masked_mean((codes - centre).abs(), valid.codes, valid.n_codes)
        variance = masked_mean((codes - centre).square(), valid.codes, valid.n_codes)
        return {
            "postnet_ratio": terms["postnet"].detach() / mean_mel_error,
            "decoder_ratio": terms["decoder"].detach() / mean_mel_error,
            "content_ratio": terms["content"].detach() / constant_codes_error.clamp(min=1e-8),
            "codes_std": variance.sqrt(),
        }

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        losses = self.losses(self.network, batch)
        self.log_losses("train", losses, batch)
        return losses["loss"]

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        self.log_losses("val_original", self.losses(self.network, batch), batch)

    def log_losses(self, split: str, losses: dict[str, Tensor], batch: Batch) -> None:
        """Logs every value of `losses` as split/name, the mean over all processes."""
        values = torch.stack([value.detach() for value in losses.values()])
        training = split == "train"
        if training and self.trainer.world_size > 1:
            values = self.trainer.strategy.reduce(values, reduce_op="mean")
        named = {f"{split}/{name}": v for name, v in zip(losses, values, strict=True)}
        self.log_dict(named, batch_size=len(batch.lengths), sync_dist=not training)

    def configure_gradient_clipping(
        self,
        optimizer: Optimizer,
        gradient_clip_val: float | None,
        gradient_clip_algorithm: str | None,
    ) -> None:
        """Clips by the norm that is logged; Lightning's own refuses Adam's fused form."""
        limit = float("inf") if gradient_clip_val is None else gradient_clip_val
        norm = torch.nn.utils.clip_grad_norm_(self.network.parameters(), limit)
        self.log("train/grad_norm", norm)
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
        """Lets `last.ckpt` be read like any other weight file, and compared with on resuming."""
        checkpoint["card"] = asdict(self.current_card("average"))
        checkpoint["config"] = self.config


def of_all_processes(valid: Valid) -> Valid:
    """Replaces the counts by their mean over all processes.

    Each process divides its sums by them and DDP averages the gradients, which is then the
    gradient of one process on the joint batch, however unequal the shares are.
    """
    if not (torch.distributed.is_available() and torch.distributed.is_initialized()):
        return valid
    counts = torch.stack([valid.n_frames, valid.n_codes])
    torch.distributed.all_reduce(counts)
    n_frames, n_codes = counts / torch.distributed.get_world_size()
    return replace(valid, n_frames=n_frames, n_codes=n_codes)


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


def network_like(path: str | None, freq: int) -> AutoVC:
    """A new AutoVC of the sizes that a weight file has; "shipped" is the shipped one."""
    if path is None:
        raise InputError("model=pretrained: name the weights by init_from=")
    network = load_autovc(resources.AUTOVC if path == "shipped" else path, freq)
    return network.train()


def require_same_network(source: AutoVC, network: AutoVC, name: str) -> None:
    """Raises InputError naming the sizes in which two networks differ; freq is no weight's size."""
    differing = [
        f"{key} {source.arguments[key]} != {value}"
        for key, value in network.arguments.items()
        if key != "freq" and source.arguments[key] != value
    ]
    if differing:
        raise InputError(f"{name}: is another network ({', '.join(differing)})")
