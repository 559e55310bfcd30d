"""Mels reconstructed by a trained AutoVC, to train a vocoder on mels as blurred as its input."""

import copy
import logging
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

from vc_lightning.audio import pitch
from vc_lightning.audio.files import io
from vc_lightning.audio.mel import MelSpectrogram, require_same_settings
from vc_lightning.data.features.files import FeatureFiles, Segment, is_whole, save
from vc_lightning.models.checkpoints import identity, load_recogniser, read_autovc

log = logging.getLogger(__name__)


@torch.inference_mode()
def reconstruct(
    path: Path | str, segments: Iterable[Segment], files: FeatureFiles, mel: MelSpectrogram
) -> FeatureFiles:
    """Reconstruct the mels of recordings with AutoVC, each in its own voice.

    Reconstructions are cached like mels, in a folder named by the mels' key and the weights.

    Args:
        path: AutoVC weight file.
        segments: Segments to reconstruct.
        files: Reads the cached features, waveforms included.
        mel: Mel-spectrogram of the features.

    Returns:
        Feature files whose mels are the reconstructions.

    Raises:
        InputError: The file is unreadable, or was trained on mels of other settings.
    """
    network, card = read_autovc(path)
    require_same_settings(card.mel, mel.settings, f"data.mels_from={path}", "mel=")
    recogniser = load_recogniser() if network.listens else None
    reconstructed = copy.copy(files)
    name = identity("autovc", network.state_dict())
    mels = files.folders["mels"]
    reconstructed.folders = files.folders | {"mels": mels.with_name(f"{mels.name}-{name}")}
    by_content = defaultdict(list)
    for segment in segments:
        by_content[segment.content].append(segment)
    missing = [one for one in by_content if not is_whole(reconstructed.path("mels", one))]
    if missing:
        log.info("reconstructing the mels of %d of %d recordings", len(missing), len(by_content))
    for content in tqdm(missing, disable=not missing, desc="mels"):
        whole = files.read_whole("mels", content)  # (T, n_mels)
        for segment in by_content[content]:
            features = files.of(segment)
            embedding = features.read_embedding()[None]
            segment_mel = features.read_mel(0, segment.n_frames)[None]
            span = slice(segment.start, segment.start + segment.n_frames)
            wav = features.read_wav(0, segment.n_frames).numpy()
            harmonics = None
            if network.f0:
                f0 = pitch.track(wav, mel.sample_rate, mel.hop_length)[: segment.n_frames]
                harmonics = mel.harmonics(torch.from_numpy(f0)[None])
            heard = segment_mel
            if recogniser is not None:
                wav = io.resample(wav, mel.sample_rate, recogniser.sample_rate)
                rate = mel.sample_rate / mel.hop_length
                heard = torch.from_numpy(recogniser.hear(wav, segment.n_frames, rate).T)[None]
            postnet_mel = network(heard, embedding, embedding, harmonics)[1]
            whole[span] = postnet_mel[0].T.clamp(0, 1)
        save(reconstructed.path("mels", content), {"mel": whole.numpy().astype(np.float16)})
    return reconstructed
