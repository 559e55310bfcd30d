"""Training WaveRNN on the likelihood of a recording's samples, given its mel."""

import math

from torch import Tensor

from vc_lightning.data.crops.vocoder import VocoderBatch
from vc_lightning.data.modules.base import TrainingDataModule
from vc_lightning.models.vocoders.wavernn.multiband import MultiBandWaveRNN
from vc_lightning.models.vocoders.wavernn.network import WaveRNN
from vc_lightning.training.tasks.base import BaseModule, first_sound


class WaveRNNModule(BaseModule[WaveRNN | MultiBandWaveRNN, VocoderBatch]):
    """WaveRNN, in one band or several, trained with teacher forcing on random crops.

    Its arguments are those of `BaseModule`.
    """

    trains = (WaveRNN, MultiBandWaveRNN)
    free_arguments = ("temperature",)

    def initialize_from_data(self, data: TrainingDataModule) -> None:
        """Initialise the output to the distribution of the samples in the first batches."""
        self.network.initialize_output(*first_sound(data))

    def losses(self, network: WaveRNN | MultiBandWaveRNN, batch: VocoderBatch) -> dict[str, Tensor]:
        """Compute `loss` in bits per sample, given the mel and the samples before it."""
        return {"loss": -network.log_prob(batch.wav, batch.mel).mean() / math.log(2)}
