"""Training the source-filter vocoder: multi-resolution STFT, pitch and adversarial losses."""

import itertools
from collections.abc import Iterable, Sequence

import torch
from torch import Tensor, nn
from torch.func import functional_call

from vc_lightning.common.errors import InputError, require_at_least, require_within
from vc_lightning.data.crops.vocoder import VocoderBatch
from vc_lightning.data.modules.base import TrainingDataModule
from vc_lightning.models.checkpoints import load_fast_recogniser
from vc_lightning.models.critics.word import feature_distance
from vc_lightning.models.recogniser import MAX_FRAMES, Recogniser
from vc_lightning.models.vocoders.source_filter.network import SourceFilter
from vc_lightning.training.discriminator import discriminator_loss, generator_losses
from vc_lightning.training.tasks.base import MAX_WEIGHT, BaseModule, RunSettings, first_sound

FLOOR = 1e-3  # magnitude; quieter sound is inaudible


class SourceFilterModule(BaseModule[SourceFilter, VocoderBatch]):
    """`SourceFilter` with its discriminators, in one optimizer.

    Each step minimises the losses of both at once. The vocoder's adversarial loss does not change
    the discriminators, and the discriminators' loss does not change the vocoder.

    The arguments that are not listed here are those of `BaseModule`.

    Args:
        discriminators: Return the outputs of their layers, see `SpectrogramDiscriminators`.
        n_ffts: Window lengths of the spectral loss in samples.
        spectral_weight: Weight of the spectral loss, see `multi_resolution_loss`.
        pitch_weight: Weight of the cross-entropy of the pitch.
        adversarial_weight: Weight of the adversarial loss, see `generator_losses`.
        feature_weight: Weight of the feature-matching loss, see `generator_losses`.
        word_weight: Weight of what a recogniser hears in the sound otherwise than in the recording,
            see `word_loss`; the sound must have its sample rate, 16 kHz.
        adversarial_after: Number of steps without discriminators at the beginning.
    """

    trains = (SourceFilter,)
    free_arguments = ()

    def __init__(
        self,
        network: SourceFilter,
        run: RunSettings,
        discriminators: nn.Module,
        n_ffts: Sequence[int],
        spectral_weight: float,
        pitch_weight: float,
        adversarial_weight: float,
        feature_weight: float,
        word_weight: float,
        adversarial_after: int,
    ):
        super().__init__(network, run)
        require_within(
            0,
            MAX_WEIGHT,
            "task",
            spectral_weight=spectral_weight,
            pitch_weight=pitch_weight,
            adversarial_weight=adversarial_weight,
            feature_weight=feature_weight,
            word_weight=word_weight,
        )
        require_at_least(0, "task", adversarial_after=adversarial_after)
        self.discriminators = discriminators
        self.n_ffts = n_ffts
        self.spectral_weight = spectral_weight
        self.pitch_weight = pitch_weight
        self.adversarial_weight = adversarial_weight
        self.feature_weight = feature_weight
        self.adversarial_after = adversarial_after
        self.word_weight = word_weight
        self.recognisers: tuple[Recogniser, ...] = ()  # one; not a part of the checkpoints
        if word_weight > 0:
            self.recognisers = (load_fast_recogniser(),)
            rate = self.recognisers[0].sample_rate
            if network.sample_rate != rate:
                raise InputError(
                    f"task.word_weight={word_weight}: the recogniser hears sound at {rate} Hz, but "
                    f"mel.sample_rate={network.sample_rate}; set task.word_weight=0, or mel=autovc"
                )

    def initialize_from_data(self, data: TrainingDataModule) -> None:
        """Fit the filters to the average spectrum of the first batches."""
        self.network.initialize_output(*first_sound(data))

    def trained_parameters(self) -> Iterable[nn.Parameter]:
        """List the parameters of the vocoder and of the discriminators."""
        return itertools.chain(self.network.parameters(), self.discriminators.parameters())

    def losses(self, network: SourceFilter, batch: VocoderBatch) -> dict[str, Tensor]:
        """Compute the losses that need no discriminator: `loss`, `spectral`, `pitch`."""
        return self.losses_of_sound(network, batch)[0]

    def losses_of_sound(
        self, network: SourceFilter, batch: VocoderBatch
    ) -> tuple[dict[str, Tensor], Tensor, Tensor]:
        """Compute `losses`, the recorded and the generated sound (B, N · hop_length)."""
        crop_frames = batch.n_frames // batch.size
        if (crop_frames - 1) * network.hop_length <= max(self.n_ffts) // 2:
            shortest = max(self.n_ffts) // 2 // network.hop_length + 2
            raise InputError(
                f"data.crop_frames={crop_frames}: too short for the windows of the spectral loss "
                f"(task.n_ffts, up to {max(self.n_ffts)} samples); give at least {shortest}"
            )
        context = (batch.mel.shape[-1] - crop_frames) // 2
        inner = slice(context * network.hop_length, -context * network.hop_length or None)
        # Noise depends on the step only, so that a training run resumes exactly.
        generator = torch.Generator(batch.mel.device).manual_seed(self.global_step)
        generated = network(batch.mel, batch.f0, generator)
        recorded = batch.wav[:, : generated.shape[1]]
        generated, recorded = generated[:, inner], recorded[:, inner]
        spectral = multi_resolution_loss(generated, recorded, self.n_ffts)
        pitch = network.pitch.loss(batch.mel, batch.f0)
        losses = {"spectral": spectral, "pitch": pitch}
        losses["loss"] = self.spectral_weight * spectral + self.pitch_weight * pitch
        for recogniser in self.recognisers:
            losses["words"] = word_loss(recogniser.to(generated.device), generated, recorded)
            losses["loss"] = losses["loss"] + self.word_weight * losses["words"]
        return losses, recorded, generated

    def training_step(self, batch: VocoderBatch, batch_idx: int) -> Tensor:
        """Compute and log the losses of vocoder and discriminators for a training batch."""
        losses, recorded, generated = self.losses_of_sound(self.network, batch)
        if self.global_step >= self.adversarial_after:
            of_recorded = self.discriminators(recorded)
            fixed = {name: p.detach() for name, p in self.discriminators.named_parameters()}
            of_generated = functional_call(self.discriminators, fixed, (generated,))
            constant = [[x.detach() for x in layers] for layers in of_recorded]
            score, features = generator_losses(constant, of_generated)
            discriminator = discriminator_loss(of_recorded, self.discriminators(generated.detach()))
            losses |= {"score": score, "features": features, "discriminator": discriminator}
            losses["loss"] = (
                losses["loss"]
                + self.adversarial_weight * score
                + self.feature_weight * features
                + discriminator
            )
        self.log_losses("train", losses, batch)
        return losses["loss"]


def word_loss(recogniser: Recogniser, generated: Tensor, recorded: Tensor) -> Tensor:
    """Compare what a recogniser hears in sound (B, n) and in recordings, see `feature_distance`.

    It hears their first 30 s.
    """

    def features(wav: Tensor) -> Tensor:
        mel = recogniser.mel(wav)[..., : 2 * MAX_FRAMES]
        return recogniser(mel).float().transpose(1, 2)

    with torch.no_grad():
        wanted = features(recorded)
    return feature_distance(features(generated), wanted)


def multi_resolution_loss(generated: Tensor, recorded: Tensor, n_ffts: Sequence[int]) -> Tensor:
    """Compute the multi-resolution STFT loss.

    See Yamamoto et al. 2020, arXiv 1910.11480, equations 4 to 6.

    Args:
        generated: Waveform (B, n) of the vocoder.
        recorded: Recorded waveform (B, n).
        n_ffts: Window lengths in samples; the hop is a quarter of the window.

    Returns:
        Spectral convergence plus the mean difference of log-magnitudes, averaged over the lengths.
    """
    terms = []
    for n_fft in n_ffts:
        window = torch.hann_window(n_fft, device=generated.device)
        a, b = (
            torch.stft(x.float(), n_fft, n_fft // 4, window=window, return_complex=True)
            .abs()
            .clamp(min=FLOOR)
            for x in (generated, recorded)
        )
        terms.append((a - b).norm() / b.norm() + (a.log() - b.log()).abs().mean())
    return torch.stack(terms).mean()
