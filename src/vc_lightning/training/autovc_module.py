"""Training AutoVC: one LightningModule over the network and its loss."""

import logging
from collections.abc import Callable, Iterable
from dataclasses import replace
from itertools import chain
from pathlib import Path

import torch
from pytorch_lightning import LightningDataModule
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from vc_lightning.audio.mel import MelSpectrogram
from vc_lightning.common import resources
from vc_lightning.common.errors import InputError, require_flag, require_one_of, require_within
from vc_lightning.data.crops import Batch
from vc_lightning.models.autovc import KERNEL_SIZE, AutoVC
from vc_lightning.models.checkpoints import Card, load_autovc, read_autovc
from vc_lightning.training.base_module import LitNetwork
from vc_lightning.training.losses import (
    DISTANCES,
    Valid,
    autovc_losses,
    masked_mean,
    valid_elements,
)

log = logging.getLogger(__name__)

MIN_CODES_STD = 1e-4  # a hundredth of what trained networks have

DIM_HEAD = 256
MAX_WEIGHT = 1e6  # of a term of the loss: the others would be lost in rounding


class LitAutoVC(LitNetwork):
    """AutoVC with its reconstruction loss.

    Args:
        network, card, optimizer, scheduler, config: see `LitNetwork`.
        decoder_weight, content_weight: μ and λ of the loss
            postnet + μ · decoder + λ · content.
        content_per_std: whether the content term is divided by the codes' std, through which no
            gradient flows; else the network lowers the term by merely shrinking its codes.
        distance: between mels, "l2" or "l1".
        teacher_weight: of the term that teaches the codes to tell a teacher's features; 0 for no
            teacher.
        reconstruction_reaches_encoder: whether the reconstruction teaches the encoder as well;
            without it the codes hold what the teacher's features need, and no voice.
    """

    trains = (AutoVC,)
    shipped = resources.AUTOVC
    free_arguments = ("freq", "f0")
    convert_with = "ckpt="

    def __init__(
        self,
        network: AutoVC,
        card: Card,
        optimizer: Callable[..., Optimizer],
        scheduler: Callable[[Optimizer], LRScheduler],
        config: dict,
        decoder_weight: float,
        content_weight: float,
        content_per_std: bool,
        distance: str,
        teacher_weight: float,
        reconstruction_reaches_encoder: bool,
    ):
        super().__init__(network, card, optimizer, scheduler, config)
        weights = {"decoder_weight": decoder_weight, "content_weight": content_weight}
        require_within(0, MAX_WEIGHT, "loss", **weights, teacher_weight=teacher_weight)
        require_flag("loss.reconstruction_reaches_encoder", reconstruction_reaches_encoder)
        if not reconstruction_reaches_encoder and teacher_weight == 0:
            raise InputError(
                "loss.reconstruction_reaches_encoder=false: then only a teacher can teach the "
                "encoder; set teacher=whisper and loss.teacher_weight=1"
            )
        require_one_of(DISTANCES, "loss", distance=distance)
        self.decoder_weight = decoder_weight
        self.content_weight = content_weight
        self.content_per_std = content_per_std
        self.distance = distance
        self.teacher_weight = teacher_weight
        self.reconstruction_reaches_encoder = reconstruction_reaches_encoder
        self.head: TeacherHead | None = None
        self.mel = MelSpectrogram(**card.mel)
        # The mean of the data that training began with, whose error is the unit of `*_ratio`.
        self.register_buffer("mean_mel", torch.zeros(network.arguments["n_mels"]))

    def setup(self, stage: str) -> None:
        """Makes the head for the data's teacher, before weights are restored into it."""
        if self.teacher_weight == 0 or self.head is not None:
            return
        std = self.trainer.datamodule.teacher_std
        if len(std) == 0:
            raise InputError(
                f"loss.teacher_weight={self.teacher_weight}: there is no teacher; set "
                "teacher=whisper, or loss.teacher_weight=0"
            )
        self.head = TeacherHead(2 * self.network.arguments["dim_neck"], self.network.freq, std)

    def trained_parameters(self) -> Iterable[nn.Parameter]:
        """Those of the network, and of the head that is thrown away after the training."""
        return chain(self.network.parameters(), self.head.parameters() if self.head else ())

    def read(self, path: Path | str, freq: int) -> tuple[AutoVC, Card]:
        """An AutoVC file."""
        return read_autovc(path, freq)

    def adopt(self, source: AutoVC, card: Card, name: str) -> None:
        """Takes the weights of a network that fits, and warns where they have to learn anew."""
        if card.speaker_encoder != self.card.speaker_encoder:
            log.warning("%s is used to embeddings of another speaker encoder", name)
        if source.freq != self.network.freq:
            log.warning(
                "%s had freq %d, this training has %d", name, source.freq, self.network.freq
            )
        if self.network.f0 and not source.f0:
            log.info("%s was not told the pitch: its decoder now learns to listen to it", name)
            source = told_the_pitch(source)
        super().adopt(source, card, name)

    def require_same_network(self, source: nn.Module, name: str) -> None:
        """Like `LitNetwork.require_same_network`; f0 may be new, but nothing may be lost."""
        super().require_same_network(source, name)
        if source.f0 and not self.network.f0:
            raise InputError(f"{name}: is told the pitch; set model.f0=true")

    def begin(self, init_from: str | None, freq: int, data: LightningDataModule) -> str:
        """Like `LitNetwork.begin`; keeps the data's mean mel."""
        self.mean_mel.copy_(data.mean_mel())
        return super().begin(init_from, freq, data)

    def begin_anew(self, data: LightningDataModule) -> None:
        """The first output is the mean mel."""
        self.network.initialize_output(self.mean_mel)

    def losses(self, network: AutoVC, batch: Batch) -> dict[str, Tensor]:
        """The loss, its terms, each term as a ratio to a trivial answer, and the codes' spread."""
        speaker = batch.embedding
        harmonics = self.mel.harmonics(batch.f0) if network.f0 else None
        n_frames = batch.mel.shape[-1]
        codes = network.encode(batch.heard_mel, batch.heard_embedding)
        decoder_mel, postnet_mel = network.decode(
            codes if self.reconstruction_reaches_encoder else codes.detach(),
            n_frames,
            speaker,
            harmonics,
        )
        postnet_codes = None
        if self.content_weight > 0:
            postnet_codes = network.encode(postnet_mel, speaker).float()
        valid = of_all_processes(valid_elements(batch.lengths, n_frames, network.freq))
        terms = autovc_losses(
            batch.mel,
            decoder_mel.float(),
            postnet_mel.float(),
            codes.float(),
            postnet_codes,
            valid,
            self.distance,
        )
        yardsticks = self._yardsticks(batch, codes.detach().float(), terms, valid)
        unit = yardsticks["codes_std"].clamp(min=MIN_CODES_STD) if self.content_per_std else 1
        loss = terms["postnet"] + self.decoder_weight * terms["decoder"]
        if self.content_weight > 0:
            loss = loss + self.content_weight * terms["content"] / unit
        if self.head is not None:
            taught = self.head.losses(network.repeat_codes(codes, n_frames), batch.teacher, valid)
            loss = loss + self.teacher_weight * taught["teacher"]
            terms |= taught
        return {"loss": loss, **terms, **yardsticks}

    @torch.no_grad()
    def _yardsticks(
        self, batch: Batch, codes: Tensor, terms: dict, valid: Valid
    ) -> dict[str, Tensor]:
        """Ratios to predicting the mean mel and, for the content term, to constant codes."""
        deviation = DISTANCES[self.distance](batch.mel - self.mean_mel[:, None])
        mean_mel_error = masked_mean(deviation, valid.frames, valid.n_frames)
        # Mean of every channel, over the codes that hold sound.
        centre = (codes * valid.codes).sum(dim=(0, 2), keepdim=True) / valid.codes.sum()
        variance = masked_mean((codes - centre).square(), valid.codes, valid.n_codes)
        ratios = {
            "postnet_ratio": terms["postnet"].detach() / mean_mel_error,
            "decoder_ratio": terms["decoder"].detach() / mean_mel_error,
            "codes_std": variance.sqrt(),
        }
        if "content" in terms:
            constant_codes_error = masked_mean((codes - centre).abs(), valid.codes, valid.n_codes)
            content = terms["content"].detach()
            ratios["content_ratio"] = content / constant_codes_error.clamp(min=1e-8)
        return ratios


class TeacherHead(nn.Module):
    """Predicts a teacher's features from the codes; of use in training only.

    Args:
        dim_codes: channels of the codes.
        freq: frames that one code stands for; a frame's place among them is an input, too.
        std: standard deviation (D,) of the features.
    """

    def __init__(self, dim_codes: int, freq: int, std: Tensor):
        super().__init__()
        self.freq = freq
        self.convolution1 = nn.Conv1d(dim_codes + freq, DIM_HEAD, KERNEL_SIZE, padding="same")
        self.convolution2 = nn.Conv1d(DIM_HEAD, len(std), KERNEL_SIZE, padding="same")
        self.register_buffer("std", std)

    def forward(self, codes: Tensor) -> Tensor:
        """codes of every frame (B, C, T) -> the features in units of their std (B, D, T)."""
        places = torch.arange(codes.shape[-1], device=codes.device) % self.freq
        places = F.one_hot(places, self.freq).T.expand(len(codes), -1, -1)  # (B, freq, T)
        hidden = self.convolution1(torch.cat([codes, places.to(codes.dtype)], dim=1))
        return self.convolution2(F.relu(hidden))

    def losses(self, codes: Tensor, features: Tensor, valid: Valid) -> dict[str, Tensor]:
        """Mean squared error to features (B, T, D), and its ratio to predicting their mean."""
        features = features.transpose(1, 2) / self.std[:, None]
        error = (self(codes).float() - features).square()
        teacher = masked_mean(error, valid.frames, valid.n_frames)
        unit = masked_mean(features.square(), valid.frames, valid.n_frames)
        return {"teacher": teacher, "teacher_ratio": teacher.detach() / unit}


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


@torch.no_grad()
def told_the_pitch(network: AutoVC) -> AutoVC:
    """A network without f0 as one that has it and does not listen to it yet."""
    listening = AutoVC(**network.arguments | {"f0": True})
    weights = network.state_dict()
    name = "decoder.lstm1.weight_ih_l0"  # (4*dim_pre, codes and embedding, now and harmonics)
    n_new = listening.state_dict()[name].shape[1] - weights[name].shape[1]
    weights[name] = F.pad(weights[name], (0, n_new))
    listening.load_state_dict(weights)
    return listening


def network_like(path: str | None, freq: int) -> AutoVC:
    """A new AutoVC of the sizes that a weight file has; "shipped" is the shipped one."""
    if path is None:
        raise InputError("model=pretrained: name the weights by init_from=")
    network = load_autovc(resources.AUTOVC if path == "shipped" else path, freq)
    return network.train()
