"""Mels reconstructed by a trained AutoVC, to train a vocoder on mels like those of conversions."""

import copy
import logging
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from vc_lightning.audio.files import io
from vc_lightning.audio.mel import MelSpectrogram, require_same_settings
from vc_lightning.data.features.files import FeatureFiles, Segment, is_whole, save
from vc_lightning.models import pitch_tracker
from vc_lightning.models.autovc import AutoVC
from vc_lightning.models.checkpoints import identity, load_fast_recogniser, read_autovc

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
    recogniser = load_fast_recogniser() if network.listens else None
    reconstructed = copy.copy(files)
    name = identity("autovc", network.state_dict())
    mels = files.folders["mels"]
    reconstructed.folders = files.folders | {
        "mels": mels.with_name(f"{mels.name}-converted-{name}")
    }
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
                if files.has("pitches"):
                    f0 = features.read_f0(0, segment.n_frames)
                else:
                    track = pitch_tracker.track(wav, mel.sample_rate, mel.hop_length)
                    f0 = torch.from_numpy(track[: segment.n_frames])
                harmonics = mel.harmonics(f0[None])
            heard = segment_mel
            if recogniser is not None:
                wav = io.resample(wav, mel.sample_rate, recogniser.sample_rate)
                rate = mel.sample_rate / mel.hop_length
                heard = torch.from_numpy(recogniser.hear(wav, segment.n_frames, rate).T)[None]
            acoustics = features.acoustics[None] if network.arguments["dim_acoustics"] else None
            made = reconstructed_mel(network, heard, segment_mel, embedding, harmonics, acoustics)
            whole[span] = made[0].T.clamp(0, 1)
        save(reconstructed.path("mels", content), {"mel": whole.numpy().astype(np.float16)})
    return reconstructed


def reconstructed_mel(
    network: AutoVC,
    content: Tensor,
    mel: Tensor,
    embedding: Tensor,
    harmonics: Tensor | None,
    acoustics: Tensor | None,
) -> Tensor:
    """Convert a recording into its own voice, by all steps of a conversion.

    Each half attends to the frames of the other one, as no frame may find itself.

    Args:
        network: The network.
        content: (1, C, T), what its content encoder reads.
        mel: (1, n_mels, T), the recorded mel.
        embedding: (1, dim_emb), of the speaker.
        harmonics: (1, n_mels + 2, T), of the pitch, where the network needs it.
        acoustics: (1, A), of the recording, where the network needs them.

    Returns:
        (1, n_mels, T).
    """
    n_frames = mel.shape[-1]
    codes = network.encode(content, embedding)
    made = network.decode(codes, n_frames, embedding, harmonics, acoustics)[1]
    n_codes = codes.shape[-1] // 2
    if network.has_reference and n_codes > 0:
        half = n_codes * network.freq
        remembered = network.reference.remember(network.repeat_codes(codes, n_frames), mel)
        first = network.refined(codes[..., :n_codes], made[..., :half], remembered[..., half:])
        second = network.refined(codes[..., n_codes:], made[..., half:], remembered[..., :half])
        made = torch.cat([first, second], dim=-1)
    return network.sharpened(made)
