"""Training WaveRNN: the likelihood of recordings, sample after sample, given their mels."""

import itertools
import math
from pathlib import Path

import torch
from pytorch_lightning import LightningDataModule
from torch import Tensor

from vc_lightning.common import resources
from vc_lightning.data.vocoder_segments import SoundBatch
from vc_lightning.models.checkpoints import Card, read_wavernn
from vc_lightning.models.vocoders.multiband_wavernn import MultiBandWaveRNN
from vc_lightning.models.vocoders.wavernn import WaveRNN
from vc_lightning.training.base_module import LitNetwork

N_FIRST_BATCHES = 16  # from which the first output is estimated


class LitWaveRNN(LitNetwork):
    """WaveRNN, in one band or several, with teacher forcing on segments of recordings."""

    trains = (WaveRNN, MultiBandWaveRNN)
    shipped = resources.WAVERNN
    free_arguments = ("temperature",)
    convert_with = "vocoder=wavernn vocoder.path="

    def read(self, path: Path | str, freq: int) -> tuple[WaveRNN | MultiBandWaveRNN, Card]:
        """A WaveRNN file."""
        return read_wavernn(path)

    def begin_anew(self, data: LightningDataModule) -> None:
        """The first output is what the data are like on the whole."""
        batches = list(itertools.islice(data.train_dataloader(), N_FIRST_BATCHES))
        wav, mel = (torch.cat([getattr(b, name) for b in batches]) for name in ("wav", "mel"))
        self.network.initialize_output(wav, mel)

    def losses(self, network: WaveRNN | MultiBandWaveRNN, batch: SoundBatch) -> dict[str, Tensor]:
        """`loss`: bits that a sample still costs when mel and past are known."""
        return {"loss": -network.log_prob(batch.wav, batch.mel).mean() / math.log(2)}
