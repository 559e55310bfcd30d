"""The networks of a conversion: AutoVC, speaker encoder, vocoder and, for some, a recogniser."""

import numpy as np
import torch
from torch import nn

from vc_lightning.audio.files import io
from vc_lightning.audio.mel import MelSpectrogram, require_same_settings
from vc_lightning.common.errors import InputError
from vc_lightning.common.threads import ThreadChooser
from vc_lightning.models import checkpoints
from vc_lightning.models.autovc import AutoVC
from vc_lightning.models.files.formats import Card
from vc_lightning.models.recogniser import Recogniser
from vc_lightning.models.speaker_encoder import SpeakerEncoder
from vc_lightning.models.vocoders.base import Vocoder


class Networks(nn.Module):
    """The frozen networks of a conversion, with the mel-spectrogram that they share.

    Args:
        autovc: The conversion network.
        card: Header of its file.
        speaker_encoder: The speaker encoder that it was trained with.
        encoder_identity: Identity of the speaker encoder's weights, see `checksums.identity`.
        mel: Mel-spectrogram with the settings of the network.
        vocoder: Vocoder for such mels.
        recogniser: The recogniser that AutoVC listens through; None if it reads mels.
        threads: Chooses their number; one that already measures what other programs do.

    Raises:
        InputError: The parts do not belong together.
    """

    def __init__(
        self,
        autovc: AutoVC,
        card: Card,
        speaker_encoder: SpeakerEncoder,
        encoder_identity: str,
        mel: MelSpectrogram,
        vocoder: Vocoder,
        recogniser: Recogniser | None,
        threads: ThreadChooser | None = None,
    ):
        super().__init__()
        require_same_settings(card.mel, mel.settings, "the AutoVC checkpoint", "mel=")
        require_same_settings(vocoder.mel_settings, mel.settings, "the vocoder", "the checkpoint")
        checkpoints.require_same_encoder(card.speaker_encoder, encoder_identity, "the checkpoint")
        if autovc.arguments["dim_emb"] != speaker_encoder.linear.out_features:
            raise InputError(
                f"the checkpoint takes embeddings of {autovc.arguments['dim_emb']} numbers, the "
                f"speaker encoder gives {speaker_encoder.linear.out_features}; give its own one by "
                "speaker_encoder="
            )
        heard = recogniser.arguments["dim"] if recogniser else 0
        if autovc.arguments["dim_features"] != heard:
            raise InputError(
                f"the checkpoint listens to {autovc.arguments['dim_features']} features of a "
                f"recogniser, which gives {heard}; use the recogniser that it was trained with"
            )
        self.autovc = autovc
        self.card = card
        self.speaker_encoder = speaker_encoder
        self.encoder_identity = encoder_identity
        self.mel = mel
        self.vocoder = vocoder
        self.threads = threads or ThreadChooser()
        self.recogniser = recogniser
        self._live_recogniser: Recogniser | None = None
        self.eval().requires_grad_(False)

    def heard(self, wav: np.ndarray, n_frames: int) -> np.ndarray:
        """Let the recogniser hear samples (n,) of a mel's level -> features (n_frames, dim).

        Args:
            wav: Samples at the rate of the mels, filtered as for them.
            n_frames: Frames of the mel.
        """
        recogniser, mel = self.recogniser, self.mel
        assert recogniser is not None
        wav = io.resample(wav, mel.sample_rate, recogniser.sample_rate)
        return recogniser.hear(wav, n_frames, mel.sample_rate / mel.hop_length)

    def live_recogniser(self) -> Recogniser | None:
        """Return the recogniser of streams, which is made for the first one, see `LiveAdapter`."""
        if self._live_recogniser is None and self.recogniser is not None:
            adapter = checkpoints.load_live_adapter().to(self.device)
            self._live_recogniser = adapter.adapted(self.recogniser)
        return self._live_recogniser

    @property
    def hears_fast(self) -> bool:
        """Whether hearing takes about as long as pitch and speaker embedding do."""
        return self.recogniser is not None and self.recogniser.is_fast

    def with_vocoder(self, vocoder: Vocoder) -> "Networks":
        """Return the same networks with another vocoder.

        Raises:
            InputError: It is for other mels.
        """
        own = (self.autovc, self.card, self.speaker_encoder, self.encoder_identity, self.mel)
        networks = Networks(*own, vocoder, self.recogniser)
        networks._live_recogniser = self._live_recogniser
        return networks.to(self.device)

    @property
    def sample_rate(self) -> int:
        """Sample rate in Hz of the mels, and of the sound that the vocoder makes."""
        return self.mel.sample_rate

    @property
    def device(self) -> torch.device:
        """Device of the networks."""
        return next(self.autovc.parameters()).device
