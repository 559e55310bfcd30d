"""Conversions of held-out recordings by the network that is being trained."""

from torch import Tensor

from vc_lightning.audio import pitch
from vc_lightning.audio.mel import MelSpectrogram
from vc_lightning.conversion.mel_converter import MelConverter
from vc_lightning.conversion.voices.voice import Voice
from vc_lightning.data.crops.mel import Example
from vc_lightning.models.autovc import AutoVC


def convert(
    network: AutoVC, mel: MelSpectrogram, source: Example, target: Example, max_frames: int
) -> Tensor:
    """Convert the source to the target's voice, in the target's pitch range.

    Args:
        network: AutoVC in eval mode.
        mel: Mel-spectrogram of the examples.
        source: Utterance to convert.
        target: Utterance of the target voice.
        max_frames: Frames of the source that are converted; later ones are cut off.

    Returns:
        The converted mel (1, n_mels, T).
    """
    device = next(network.parameters()).device
    voices = [
        Voice(example.embedding.numpy(), pitch.range_of([example.f0.numpy()]))
        for example in (source, target)
    ]
    content = (source.heard if network.listens else source.mel)[None, :, :max_frames].to(device)
    return MelConverter(network, mel).convert(content, source.f0[:max_frames].numpy(), *voices)
