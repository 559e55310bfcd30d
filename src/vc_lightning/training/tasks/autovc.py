"""Training AutoVC: reconstruction through the bottleneck, and a teacher of the codes."""

import logging
from collections.abc import Iterable
from itertools import chain

import torch
from torch import Tensor, nn

from vc_lightning.audio.mel import MelSpectrogram
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
from vc_lightning.models.checkpoints import (
    load_fast_recogniser,
    load_speaker_critic,
    load_voice_critic,
)
from vc_lightning.models.critics.word import WordCritic
from vc_lightning.models.files.formats import Card
from vc_lightning.training.lightning_types import datamodule_of
from vc_lightning.training.losses import (
    DISTANCES,
    Critics,
    Valid,
    autovc_losses,
    average_counts,
    codes_std,
    conversion_losses,
    hear,
    live_loss,
    normalized_losses,
    reference_losses,
    refined_mel,
    valid_elements,
    word_loss,
)
from vc_lightning.training.tasks.base import MAX_WEIGHT, BaseModule, RunSettings
from vc_lightning.training.teacher_head import TeacherHead
from vc_lightning.training.transfer import (
    add_f0_conditioning,
    add_reference,
    can_listen,
    listening_like,
    widened,
)

log = logging.getLogger(__name__)

PARTS = {  # of the network, that can be trained alone, and their modules
    "encoders": ("encoder", "live_encoder"),
    "decoder": ("decoder", "postnet"),
    "reference": ("reference",),
    "mels": ("decoder", "postnet", "reference"),
}
OF_REFINED_MELS = tuple(part for part, modules in PARTS.items() if "reference" in modules)
MIN_CODES_STD = 1e-4  # a hundredth of that of trained networks
MIN_FEATURES_STD = 1e-3


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
        word_weight: Weight of what a listening network's recogniser hears otherwise in the mels
            than in the recording, see `word_loss`; its gradient reaches decoder and postnet, and
            the `ReferenceAttention` through refined mels.
        voice_weight: Weight of 1 − cosine of the speaker embeddings of conversions' sound and of
            their target, see `VoiceCritic`.
        conversion_weight: Weight, times their own weights, of what speaker critic, voice critic and
            recogniser hear in conversions between the crops of a batch, see `conversion_losses`;
            only where the `ReferenceAttention` trains alone or with the decoder.
        decoder_similarity_weight: Where the decoder trains alone: weight of 1 − cosine of the
            speaker critic's embeddings of conversions between the crops of a batch and of their
            voice; above 0, `word_weight` also counts for these conversions.
        part: The only part of the network that trains, one of `PARTS`: the content encoders, by
            teacher and live encoder; decoder and postnet, by the mels; the
            `ReferenceAttention`, by the mels that it refines; or "mels", decoder, postnet and
            attention, by these mels, too. None for all at once.
        align_steps: First steps of a network that listens, if it starts from the weights of one
            that reads mels: the new encoder only learns the codes of the old one, which becomes
            the live encoder, so that the decoder understands them.
        head_steps: First steps in which the teacher's gradient does not reach the encoder: the head
            is new, even if the encoder is not, and must learn its codes before it can improve them.
    """

    align_until: Tensor
    mean_mel: Tensor
    trains = (AutoVC,)
    free_arguments = ("freq", "contrast")

    def __init__(
        self,
        network: AutoVC,
        run: RunSettings,
        decoder_weight: float,
        content_weight: float,
        content_per_std: bool,
        distance: str,
        teacher_weight: float,
        reconstruction_reaches_encoder: bool,
        live_weight: float,
        align_steps: int,
        head_steps: int,
        reference_weight: float,
        critic_feature_weight: float,
        critic_similarity_weight: float,
        word_weight: float,
        voice_weight: float,
        conversion_weight: float,
        decoder_similarity_weight: float,
        part: str | None,
    ):
        super().__init__(network, run)
        require_within(
            0,
            MAX_WEIGHT,
            "task",
            decoder_weight=decoder_weight,
            content_weight=content_weight,
            teacher_weight=teacher_weight,
            live_weight=live_weight,
            reference_weight=reference_weight,
            critic_feature_weight=critic_feature_weight,
            critic_similarity_weight=critic_similarity_weight,
            word_weight=word_weight,
            voice_weight=voice_weight,
            conversion_weight=conversion_weight,
            decoder_similarity_weight=decoder_similarity_weight,
        )
        require_at_least(0, "task", align_steps=align_steps, head_steps=head_steps)
        require_flag("task.reconstruction_reaches_encoder", reconstruction_reaches_encoder)
        require_one_of(tuple(DISTANCES), "task", distance=distance)
        if part is not None:
            require_one_of(tuple(PARTS), "task", part=part)
        if content_weight > 0 and network.listens:
            raise InputError(
                f"task.content_weight={content_weight}: a network that listens cannot encode the "
                "mels that it makes; set task.content_weight=0, as task=autovc_taught does"
            )
        if word_weight > 0 and not network.listens:
            raise InputError(
                f"task.word_weight={word_weight}: only a network that listens has a recogniser; "
                "set task.word_weight=0, or model=autovc_listening"
            )
        if part in OF_REFINED_MELS and not (network.has_reference and reference_weight > 0):
            raise InputError(
                f"task.part={part}: there is nothing to train; it needs model.dim_reference and "
                "task.reference_weight above 0, as model=autovc_listening has them"
            )
        if part == "encoders" and teacher_weight == 0:
            raise InputError(
                "task.part=encoders: only a teacher trains the encoders alone; set teacher=whisper "
                "and task.teacher_weight=1, as experiment=taught does"
            )
        self.decoder_weight = decoder_weight
        self.content_weight = content_weight
        self.content_per_std = content_per_std
        self.distance = distance
        self.part = part
        is_whole, of_encoders = part is None, part in (None, "encoders")
        self.teacher_weight = teacher_weight if of_encoders else 0.0
        self.live_weight = live_weight if of_encoders else 0.0
        self.reconstruction_reaches_encoder = reconstruction_reaches_encoder and is_whole
        self.align_steps = align_steps if of_encoders else 0
        self.head_steps = head_steps
        self.reference_weight = 0.0
        if network.has_reference and (is_whole or part in OF_REFINED_MELS):
            self.reference_weight = reference_weight
        self.critic_feature_weight = critic_feature_weight
        self.critic_similarity_weight = critic_similarity_weight
        self.word_weight = 0.0 if part == "encoders" else word_weight
        self.voice_weight = voice_weight
        self.conversion_weight = conversion_weight
        self.decoder_similarity_weight = decoder_similarity_weight
        self.head: TeacherHead | None = None
        self.mel = MelSpectrogram(**self.card.mel)
        hears_refined = max(critic_feature_weight, critic_similarity_weight) > 0
        needs_speaker = self.reference_weight > 0 and hears_refined
        needs_speaker |= self.converted_weights.get("converted_distance", 0.0) > 0
        needs_voice = self.converted_weights.get("converted_voice", 0.0) > 0
        if needs_voice and not network.f0:
            raise InputError(
                f"task.voice_weight={voice_weight}: the voice critic hears sound at the pitch of "
                "the recordings; set task.voice_weight=0, or model.f0=true"
            )
        self.critics = Critics(
            speaker=load_speaker_critic(self.card.mel) if needs_speaker else None,
            words=WordCritic(load_fast_recogniser(), self.mel) if self.word_weight > 0 else None,
            voice=load_voice_critic(self.card) if needs_voice else None,
        )
        # Mean mel of the data that training began with; its error is the unit of `*_ratio`.
        self.register_buffer("mean_mel", torch.zeros(network.arguments["n_mels"]))
        self.register_buffer("align_until", torch.zeros((), dtype=torch.long))

    @property
    def converted_weights(self) -> dict[str, float]:
        """Weights of the terms of `conversion_losses`; none where nothing is converted."""
        weight = self.conversion_weight
        if self.part in OF_REFINED_MELS and weight > 0:
            return {
                "converted_distance": weight * self.critic_similarity_weight,
                "converted_words": weight * self.word_weight,
                "converted_voice": weight * self.voice_weight,
            }
        if self.part == "decoder" and self.decoder_similarity_weight > 0:
            return {
                "converted_distance": self.decoder_similarity_weight,
                "converted_words": self.word_weight,
            }
        return {}

    @property
    def encoder_is_frozen(self) -> bool:
        """Whether no term of the loss trains the encoder."""
        return self.teacher_weight == 0 and not self.reconstruction_reaches_encoder

    def is_frozen(self, name: str) -> bool:
        """Return whether a part of the network, such as "decoder", stays as it is."""
        if name == "encoder" and self.encoder_is_frozen:
            return True
        if name == "reference" and self.reference_weight == 0:
            return True
        return self.part is not None and name not in PARTS[self.part]

    def on_train_start(self) -> None:
        """Keep what is frozen in eval mode, so that its BatchNorm statistics stay."""
        for name, child in self.network.named_children():
            if self.is_frozen(name):
                child.eval()

    def setup(self, stage: str) -> None:
        """Freeze what is not trained, and build the teacher's head before a checkpoint is loaded.

        Raises:
            InputError: The data have no teacher, but `teacher_weight` needs one.
        """
        for name, child in self.network.named_children():
            if self.is_frozen(name):
                child.requires_grad_(False)
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

    def adapted(self, source: AutoVC, card: Card, name: str) -> AutoVC:
        """Add what only this network has, so that mels stay the same, and log what differs."""
        network = self.network
        if card.speaker_encoder != self.card.speaker_encoder:
            log.warning("%s was trained with embeddings of another speaker encoder", name)
        if source.freq != network.freq:
            log.warning("%s had freq %d, this training run has %d", name, source.freq, network.freq)
        dim_neck, dim_reference = (network.arguments[k] for k in ("dim_neck", "dim_reference"))
        if source.arguments["dim_neck"] < dim_neck:
            log.info("%s has a narrower bottleneck: it gets further channels", name)
            source = widened(source, dim_neck)
        if network.listens and not source.listens and can_listen(source, network):
            log.info(
                "%s reads mels: its encoder becomes the live encoder, and the new one learns its "
                "codes for %d steps",
                name,
                self.align_steps,
            )
            source = listening_like(source, network)
            self.align_until.fill_(self.align_steps)
        if network.f0 and not source.f0:
            log.info("%s has no F0 inputs: its decoder gets them, with zero weights", name)
            source = add_f0_conditioning(source)
        if network.has_reference and not source.has_reference:
            log.info("%s does not attend to the target's frames: it begins to learn that", name)
            source = add_reference(source, dim_reference)
        return source

    def require_same_network(self, source: AutoVC, name: str) -> None:
        """Raise InputError like `BaseModule`."""
        if source.f0 and not self.network.f0:
            raise InputError(f"{name}: has F0 inputs; set model.f0=true")
        super().require_same_network(source, name)

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
        n_frames = batch.target_mel.shape[-1]
        content = batch.heard if network.listens else batch.input_mel
        codes = network.encode(content, batch.input_embedding)
        aligns = bool(self.global_step < self.align_until)
        valid = average_counts(valid_elements(batch.lengths, n_frames, network.freq))
        terms = {"codes_std": codes_std(codes.float(), valid)}
        if self.part != "encoders":
            terms |= self.mel_losses(network, batch, codes, valid, aligns)
        if self.head is not None:
            # Times 0, not only detached: DDP waits for a gradient of every parameter.
            reaches = float(self.global_step >= self.head_steps)
            taught = codes.detach() + reaches * (codes - codes.detach())
            frame_codes = network.repeat_codes(taught, n_frames)
            terms |= self.head.losses(frame_codes, batch.teacher, valid)
        if network.listens and (aligns or self.live_weight > 0):
            terms["live"] = live_loss(network, batch, codes.float(), aligns, self.global_step)
        weights = {
            "postnet": 1.0,
            "decoder": self.decoder_weight,
            "content": self.content_weight,
            "teacher": self.teacher_weight,
            "live": 1.0 if aligns else self.live_weight,
            "refined": self.reference_weight,
            "critic_features": self.critic_feature_weight,
            "critic_distance": self.critic_similarity_weight,
            "words": self.word_weight,
            **self.converted_weights,
        }
        weighted = {name: weights[name] * terms[name] for name in weights if name in terms}
        if self.content_per_std and "content" in weighted:
            unit = terms["codes_std"].clamp(min=MIN_CODES_STD)
            weighted["content"] = weighted["content"] / unit
        return {"loss": torch.stack(list(weighted.values())).sum(), **terms}

    def mel_losses(
        self, network: AutoVC, batch: CropBatch, codes: Tensor, valid: Valid, aligns: bool
    ) -> dict[str, Tensor]:
        """Compute the terms that need mels: of decoder and postnet, refined, and converted.

        Args:
            network: The network.
            batch: The batch.
            codes: (B, C, ⌈T/freq⌉), codes of the input.
            valid: Masks of the elements that count.
            aligns: Whether only the encoder learns, see `align_steps`.
        """
        n_frames = batch.target_mel.shape[-1]
        self.critics.to(batch.target_mel.device)
        with torch.set_grad_enabled(torch.is_grad_enabled() and not aligns):
            decoder_mel, postnet_mel = network.decode(
                codes if self.reconstruction_reaches_encoder else codes.detach(),
                n_frames,
                batch.target_embedding,
                self.mel.harmonics(batch.f0) if network.f0 else None,
                batch.acoustics if network.arguments["dim_acoustics"] else None,
            )
        postnet_codes = None
        if self.content_weight > 0:
            postnet_codes = network.encode(postnet_mel, batch.target_embedding).float()
        terms = autovc_losses(
            batch.target_mel,
            decoder_mel.float(),
            postnet_mel.float(),
            codes.float(),
            postnet_codes,
            valid,
            self.distance,
        )
        mean_mel = self.mean_mel[:, None].expand_as(batch.target_mel)
        terms |= normalized_losses(
            terms, batch.target_mel, mean_mel, codes.float(), valid, self.distance
        )
        made = [] if self.part in OF_REFINED_MELS else [postnet_mel.float()]
        if self.reference_weight > 0 and not aligns:
            to_refine = postnet_mel if self.part == "mels" else postnet_mel.detach()
            made.append(refined_mel(network, batch, codes, to_refine))
        if aligns:
            return terms
        heard = hear(self.critics, batch, valid, len(made))
        if self.reference_weight > 0:
            terms |= reference_losses(made[-1], batch, valid, self.critics, heard)
        if self.critics.words and heard.words is not None:
            terms["words"] = word_loss(self.critics.words, made, valid, heard.words)
        if self.converted_weights:
            judged = (self.mel, valid, self.critics, heard)
            terms |= conversion_losses(
                network,
                batch,
                codes,
                *judged,
                refines=self.part in OF_REFINED_MELS,
                decoder_learns=self.part != "reference",
            )
        return terms
