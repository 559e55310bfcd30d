"""Training AutoVC: reconstruction through the bottleneck, and a teacher of the codes."""

import logging
import random
from collections.abc import Callable, Iterable
from itertools import chain

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from vc_lightning.audio.mel import MelSpectrogram
from vc_lightning.common import resources
from vc_lightning.common.errors import (
    InputError,
    require_at_least,
    require_flag,
    require_one_of,
    require_within,
)
from vc_lightning.data.crops.mel import CropBatch
from vc_lightning.data.modules.base import TrainingDataModule
from vc_lightning.models.autovc import AutoVC
from vc_lightning.models.checkpoints import load_speaker_critic
from vc_lightning.models.files.formats import Card
from vc_lightning.models.speaker_critic import SpeakerCritic, critic_losses
from vc_lightning.training.lightning_types import datamodule_of
from vc_lightning.training.losses import (
    DISTANCES,
    Valid,
    autovc_losses,
    average_counts,
    masked_mean,
    valid_elements,
)
from vc_lightning.training.tasks.base import MAX_WEIGHT, BaseModule
from vc_lightning.training.teacher_head import TeacherHead
from vc_lightning.training.transfer import (
    add_f0_conditioning,
    add_reference,
    can_listen,
    listening_like,
)

log = logging.getLogger(__name__)

MIN_CODES_STD = 1e-4  # a hundredth of that of trained networks
MIN_FEATURES_STD = 1e-3
LIVE_EVERY = 2  # crops of a batch, of which one trains the live encoder
MIN_LIVE_FRAMES = 32  # of crops that are cut like the input of a stream


class AutoVCModule(BaseModule[AutoVC, CropBatch]):
    """AutoVC with its reconstruction loss: postnet + μ · decoder + λ · content + ν · teacher.

    The arguments that are not listed here are those of `BaseModule`.

    Args:
        decoder_weight: μ, weight of the decoder's reconstruction.
        content_weight: λ, weight of the difference between the codes of input and output.
        content_per_std: Whether the content term is divided by the codes' detached std; otherwise
            the network can lower the term by merely shrinking its codes.
        distance: Distance between mels, "l2" or "l1".
        teacher_weight: ν, weight of the error of the teacher's features predicted from the codes; 0
            for no teacher.
        reconstruction_reaches_encoder: Whether gradients of the reconstruction reach the encoder.
            If not, only the teacher trains the encoder, so that codes hold words but no voice;
            without a teacher, the encoder of `init_from` is frozen.
        live_weight: Weight of the difference between the codes of a listening network and those
            that its live encoder predicts from the mel; its gradient reaches the live encoder only.
        reference_weight: Weight of the mels that a network with `dim_reference` refines by other
            frames of the target; its gradient reaches the `ReferenceAttention` only. 0 leaves it
            as it is.
        critic_feature_weight: Weight of the difference between what the speaker critic hears in
            these mels and in the recording, see `critic_losses`.
        critic_similarity_weight: Weight of 1 − cosine of the critic's two embeddings.
        reference_only: Whether everything but the `ReferenceAttention` stays as it is.
        align_steps: First steps of a network that listens, if it starts from the weights of one
            that reads mels: the new encoder only learns the codes of the old one, which becomes
            the live encoder, so that the decoder understands them.
    """

    align_until: Tensor

    mean_mel: Tensor
    trains = (AutoVC,)
    shipped = resources.AUTOVC
    free_arguments = ("freq", "f0", "contrast")
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
        live_weight: float,
        align_steps: int,
        reference_weight: float = 0.0,
        critic_feature_weight: float = 0.0,
        critic_similarity_weight: float = 0.0,
        reference_only: bool = False,
    ):
        super().__init__(network, card, optimizer, scheduler, config)
        weights = {"decoder_weight": decoder_weight, "content_weight": content_weight}
        weights |= {"teacher_weight": teacher_weight, "live_weight": live_weight}
        weights |= {"reference_weight": reference_weight}
        critic = {
            "critic_feature_weight": critic_feature_weight,
            "critic_similarity_weight": critic_similarity_weight,
        }
        require_within(0, MAX_WEIGHT, "task", **weights, **critic)
        require_at_least(0, "task", align_steps=align_steps)
        require_flag("task.reconstruction_reaches_encoder", reconstruction_reaches_encoder)
        require_one_of(tuple(DISTANCES), "task", distance=distance)
        require_flag("task.reference_only", reference_only)
        if reference_only and not (network.has_reference and reference_weight > 0):
            raise InputError(
                "task.reference_only=true: there is nothing to train; it needs model.dim_reference "
                "and task.reference_weight above 0, as model=autovc_listening has them"
            )
        self.decoder_weight = decoder_weight
        self.content_weight = content_weight
        self.content_per_std = content_per_std
        self.distance = distance
        self.reference_only = reference_only
        self.teacher_weight = 0.0 if reference_only else teacher_weight
        self.reconstruction_reaches_encoder = reconstruction_reaches_encoder
        self.live_weight = 0.0 if reference_only else live_weight
        self.align_steps = align_steps
        self.reference_weight = reference_weight if network.has_reference else 0.0
        self.critic_feature_weight = critic_feature_weight
        self.critic_similarity_weight = critic_similarity_weight
        self.critics: tuple[SpeakerCritic, ...] = ()  # one; not a part of the checkpoints
        if self.reference_weight > 0 and max(critic.values()) > 0:
            self.critics = (load_speaker_critic(card.mel),)
        self.head: TeacherHead | None = None
        self.mel = MelSpectrogram(**card.mel)
        # Mean mel of the data that training began with; its error is the unit of `*_ratio`.
        self.register_buffer("mean_mel", torch.zeros(network.arguments["n_mels"]))
        self.register_buffer("align_until", torch.zeros((), dtype=torch.long))

    @property
    def encoder_is_frozen(self) -> bool:
        """Whether no term of the loss trains the encoder."""
        return self.teacher_weight == 0 and not self.reconstruction_reaches_encoder

    def on_train_start(self) -> None:
        """Keep what is frozen in eval mode, so that its BatchNorm statistics stay."""
        if self.reference_only:
            self.network.eval()
        elif self.encoder_is_frozen:
            self.network.encoder.eval()

    def setup(self, stage: str) -> None:
        """Freeze an untrained encoder, and build the teacher's head before a checkpoint is loaded.

        Raises:
            InputError: The data have no teacher, but `teacher_weight` needs one.
        """
        if self.encoder_is_frozen:
            self.network.encoder.requires_grad_(False)
        if self.network.has_reference and self.reference_weight == 0:
            self.network.reference.requires_grad_(False)
        if self.reference_only:
            self.network.requires_grad_(False)
            self.network.reference.requires_grad_(True)
        if self.teacher_weight == 0 or self.head is not None:
            return
        std = datamodule_of(self.trainer).teacher_std
        if len(std) == 0:
            raise InputError(
                f"task.teacher_weight={self.teacher_weight}: there is no teacher; set "
                "teacher=whisper, or task.teacher_weight=0"
            )
        self.head = TeacherHead(2 * self.network.arguments["dim_neck"], self.network.freq, std)

    def on_load_checkpoint(self, checkpoint: dict) -> None:
        """Read checkpoints of version 0.3.0 and before, when no network listened."""
        super().on_load_checkpoint(checkpoint)
        checkpoint["state_dict"].setdefault("align_until", self.align_until)

    def trained_parameters(self) -> Iterable[nn.Parameter]:
        """List the parameters of the network and of the teacher's head."""
        return chain(self.network.parameters(), self.head.parameters() if self.head else ())

    def copy_weights(self, source: AutoVC, card: Card, name: str) -> None:
        """Copy the weights of a matching network, and log the differences that are allowed."""
        if card.speaker_encoder != self.card.speaker_encoder:
            log.warning("%s was trained with embeddings of another speaker encoder", name)
        if source.freq != self.network.freq:
            log.warning(
                "%s had freq %d, this training has %d", name, source.freq, self.network.freq
            )
        if self.network.listens and not source.listens:
            log.info(
                "%s reads mels: its encoder becomes the live encoder, and the new one learns its "
                "codes for %d steps",
                name,
                self.align_steps,
            )
            source = listening_like(source, self.network)
            self.align_until.fill_(self.align_steps)
        if self.network.f0 and not source.f0:
            log.info("%s has no F0 inputs: its decoder gets them, with zero weights", name)
            source = add_f0_conditioning(source)
        if self.network.has_reference and not source.has_reference:
            log.info("%s does not attend to the target's frames: it begins to learn that", name)
            source = add_reference(source, self.network.arguments["dim_reference"])
        super().copy_weights(source, card, name)

    def require_same_network(self, source: AutoVC, name: str) -> None:
        """Raise InputError like `BaseModule`; F0 inputs may be added, but not removed."""
        if self.network.listens and not source.listens and can_listen(source, self.network):
            return
        if self.network.has_reference and not source.has_reference:
            source = add_reference(source, self.network.arguments["dim_reference"])
        super().require_same_network(source, name)
        if source.f0 and not self.network.f0:
            raise InputError(f"{name}: has F0 inputs; set model.f0=true")

    def initialize(self, init_from: str | None, freq: int, data: TrainingDataModule) -> str:
        """Store the data's mean mel, and initialise the network like `BaseModule`."""
        self.mean_mel.copy_(data.mean_mel())
        network = self.network
        if network.listens:  # weights of a network that listens replace this
            mean, std = data.heard_statistics
            network.features_mean.copy_(mean)
            network.features_std.copy_(std.clamp(min=MIN_FEATURES_STD))
        if network.arguments["dim_acoustics"]:
            network.clean.copy_(data.clean_acoustics())
        return super().initialize(init_from, freq, data)

    def initialize_from_data(self, data: TrainingDataModule) -> None:
        """Initialise the output to the mean mel.

        Raises:
            InputError: No term of the loss would train the new encoder.
        """
        if self.encoder_is_frozen:
            raise InputError(
                "task.reconstruction_reaches_encoder=false: only a teacher can train a new "
                "encoder; set teacher=whisper and task.teacher_weight=1, or start from trained "
                "weights with init_from="
            )
        self.network.initialize_output(self.mean_mel)

    def losses(self, network: AutoVC, batch: CropBatch) -> dict[str, Tensor]:
        """Compute the loss, its terms, and `normalized_losses`."""
        speaker = batch.target_embedding
        harmonics = self.mel.harmonics(batch.f0) if network.f0 else None
        n_frames = batch.target_mel.shape[-1]
        content = batch.heard if network.listens else batch.input_mel
        codes = network.encode(content, batch.input_embedding)
        aligns = bool(self.global_step < self.align_until)
        with torch.set_grad_enabled(torch.is_grad_enabled() and not aligns):
            decoder_mel, postnet_mel = network.decode(
                codes if self.reconstruction_reaches_encoder else codes.detach(),
                n_frames,
                speaker,
                harmonics,
                batch.acoustics if network.arguments["dim_acoustics"] else None,
            )
        postnet_codes = None
        if self.content_weight > 0:
            postnet_codes = network.encode(postnet_mel, speaker).float()
        valid = average_counts(valid_elements(batch.lengths, n_frames, network.freq))
        terms = autovc_losses(
            batch.target_mel,
            decoder_mel.float(),
            postnet_mel.float(),
            codes.float(),
            postnet_codes,
            valid,
            self.distance,
        )
        normalized = self.normalized_losses(batch, codes.detach().float(), terms, valid)
        unit = normalized["codes_std"].clamp(min=MIN_CODES_STD) if self.content_per_std else 1
        loss = terms["postnet"] + self.decoder_weight * terms["decoder"]
        if self.content_weight > 0:
            loss = loss + self.content_weight * terms["content"] / unit
        if self.head is not None:
            frame_codes = network.repeat_codes(codes, n_frames)
            teacher_losses = self.head.losses(frame_codes, batch.teacher, valid)
            loss = loss + self.teacher_weight * teacher_losses["teacher"]
            terms |= teacher_losses
        if network.listens and (aligns or self.live_weight > 0):
            terms["live"] = self.live_loss(network, batch, codes.float(), aligns)
            loss = loss + (1 if aligns else self.live_weight) * terms["live"]
        if self.reference_weight > 0 and not aligns:
            found = self.reference_losses(network, batch, codes, postnet_mel, valid)
            loss = loss + self.reference_weight * found["refined"]
            if self.critics:
                loss = loss + self.critic_feature_weight * found["critic_features"]
                loss = loss + self.critic_similarity_weight * found["critic_distance"]
            terms |= found
        return {"loss": loss, **terms, **normalized}

    def reference_losses(
        self, network: AutoVC, batch: CropBatch, codes: Tensor, mel: Tensor, valid: Valid
    ) -> dict[str, Tensor]:
        """Compare refined mels with the recordings.

        Args:
            network: A network with `dim_reference`.
            batch: The batch.
            codes: (B, C, ⌈T/freq⌉), codes of the input.
            mel: (B, n_mels, T), the postnet's mels.
            valid: Masks of the elements that count.

        Returns:
            `refined`, the mean absolute error, and with a critic `critic_features` and
            `critic_distance`, see `critic_losses`.
        """
        reference_mel = batch.reference_mel
        content = batch.reference_heard if network.listens else reference_mel
        with torch.no_grad():
            spoken = network.encode(content, batch.target_embedding)
            spoken = network.repeat_codes(spoken, reference_mel.shape[-1])
        reference = network.reference.remember(spoken, reference_mel)
        frames = torch.arange(reference_mel.shape[-1], device=mel.device)
        is_frame = frames < batch.reference_lengths[:, None]
        refined = network.refined(codes.detach(), mel.detach(), reference, is_frame).float()
        difference = (refined - batch.target_mel).abs()
        losses = {"refined": masked_mean(difference, valid.frames, valid.n_frames)}
        for critic in self.critics:
            features, distance = critic_losses(
                critic.to(mel.device), refined * valid.frames, batch.target_mel * valid.frames
            )
            losses |= {"critic_features": features, "critic_distance": distance}
        return losses

    def live_loss(self, network: AutoVC, batch: CropBatch, codes: Tensor, aligns: bool) -> Tensor:
        """Compare codes with those of the live encoder: a mean absolute error.

        The live encoder learns from every second crop, to save time, and these crops are cut at a
        random frame: in a stream, the sound also ends soon after the frames that are needed. While
        the new encoder is being aligned, it learns from the live encoder instead, and from all
        crops, whole.

        Args:
            network: A network that listens.
            batch: The batch.
            codes: (B, C, ⌈T/freq⌉), codes of what the recogniser hears.
            aligns: Whether the gradient reaches `codes` instead of the live encoder.
        """
        learns = torch.is_grad_enabled() and not aligns
        part = slice(None, None, LIVE_EVERY if learns else 1)
        n_frames = batch.target_mel.shape[-1]
        shortest = max(MIN_LIVE_FRAMES, network.freq)
        if learns and n_frames > shortest:  # depends on the step only, for exact resume
            n_frames = random.Random(self.global_step).randint(shortest, n_frames)
            n_frames -= n_frames % network.freq
        input_mel, embedding = batch.input_mel[part, :, :n_frames], batch.input_embedding[part]
        with torch.set_grad_enabled(learns):
            live = network.encode_live(input_mel, embedding).float()
        wanted = codes if aligns else codes[part, :, : live.shape[-1]].detach()
        lengths = batch.lengths[part].clamp(max=n_frames)
        valid = valid_elements(lengths, n_frames, network.freq)
        return masked_mean((live - wanted).abs(), valid.codes, valid.n_codes)

    @torch.no_grad()
    def normalized_losses(
        self, batch: CropBatch, codes: Tensor, terms: dict, valid: Valid
    ) -> dict[str, Tensor]:
        """Divide each term by that of a constant output, and compute the codes' std.

        Args:
            batch: The batch.
            codes: (B, C, ⌈T/freq⌉), codes of the input.
            terms: See `autovc_losses`.
            valid: Masks of the elements that count.

        Returns:
            `postnet_ratio` and `decoder_ratio`, relative to the error of the mean mel;
            `content_ratio`, relative to that of constant codes; `codes_std`.
        """
        deviation = DISTANCES[self.distance](batch.target_mel - self.mean_mel[:, None])
        mean_mel_error = masked_mean(deviation, valid.frames, valid.n_frames)
        # (1, C, 1), mean of every channel over the codes that are not padding
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
