"""Recordings converted into the voices of other speakers, for the content encoder to hear."""

import logging
import os
import random
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor
from tqdm import tqdm

from vc_lightning.audio import pitch
from vc_lightning.audio.files import io
from vc_lightning.audio.mel import MelSpectrogram, require_same_settings
from vc_lightning.common import resources
from vc_lightning.common.errors import InputError
from vc_lightning.data.features.files import (
    ARRAYS,
    OF_EVERY_COPY,
    CachedFeatures,
    FeatureFiles,
    Segment,
    is_whole,
    save,
)
from vc_lightning.data.features.processes import in_processes
from vc_lightning.data.manifest import Utterance
from vc_lightning.models.autovc import AutoVC
from vc_lightning.models.checkpoints import identity, load_fast_recogniser, read_autovc
from vc_lightning.models.recogniser import Recogniser
from vc_lightning.models.vocoders.base import Vocoder, vocode
from vc_lightning.models.vocoders.factory import default_vocoder

log = logging.getLogger(__name__)

MIN_VOICE_FRAMES = 125  # of an utterance that shows a voice: 2 s at 62.5 frames a second
MAX_VOICE_FRAMES = 625  # of it that are attended to


def convert(
    path: Path | str,
    utterances: Sequence[Utterance],
    files: FeatureFiles,
    mel: MelSpectrogram,
    num_workers: int,
    show_progress: bool = True,
) -> FeatureFiles:
    """Convert each recording into the voice of another speaker.

    The conversions are cached like copies of the recordings, named by the weights. The voice of
    each is an utterance of another speaker, chosen by the hash of the recording.

    Args:
        path: AutoVC weight file; "shipped" for the shipped one.
        utterances: The utterances to convert; they are also the voices.
        files: Reads the cached features.
        mel: Mel-spectrogram of the features.
        num_workers: Number of processes; 0 converts in this one.
        show_progress: Whether to show the progress bar.

    Returns:
        Feature files that have the conversions as a further copy, the last one.

    Raises:
        InputError: The file is unreadable, was trained on mels of other settings, or needs features
            that the data do not have; nobody else has an utterance of two seconds; or a process
            died.
    """
    network, card = read_autovc(resources.AUTOVC if path == "shipped" else path)
    key = f"data.conversions_from={path}"
    require_same_settings(card.mel, mel.settings, key, "mel=")
    if network.listens != files.has("heard") or (network.f0 and not files.has("pitches")):
        raise InputError(
            f"{key}: needs other features than the network that is trained; give weights of the "
            "same `model=`, or null"
        )
    voices = [u for u in utterances if u.segment.n_frames >= MIN_VOICE_FRAMES]
    if len({u.speaker for u in voices}) < 2:
        raise InputError(f"{key}: needs two speakers, each with 2 s of speech; set it to null")
    recogniser = load_fast_recogniser() if network.listens else None
    found = files.with_conversions(identity("autovc", network.state_dict()))
    writer = ConversionWriter(found, network, default_vocoder(mel), recogniser, mel, voices)
    by_content = defaultdict(list)
    for utterance in utterances:
        by_content[utterance.segment.content].append(utterance)
    missing = [one for content, one in by_content.items() if not writer.has_written(content)]
    if not missing:
        return found
    log.info("converting %d of %d recordings", len(missing), len(by_content))
    random.Random(os.urandom(8)).shuffle(missing)  # processes that convert the same share the work
    done = in_processes(writer.write, missing, num_workers)
    for _ in tqdm(
        done, desc="conversions", total=len(missing), unit="file", disable=not show_progress
    ):
        pass
    return found


@dataclass(frozen=True)
class ConversionWriter:
    """Converts recordings by all steps of a conversion, and writes their features.

    Attributes:
        files: Names the files; their last copy are the conversions.
        network: Converts.
        vocoder: Makes the sound that the recogniser hears.
        recogniser: Of a network that listens, else None.
        mel: The mel-spectrogram.
        voices: Utterances that show the voices.
    """

    files: FeatureFiles
    network: AutoVC
    vocoder: Vocoder
    recogniser: Recogniser | None
    mel: MelSpectrogram
    voices: Sequence[Utterance]

    def has_written(self, content: str) -> bool:
        """Return whether the conversion of a recording is there."""
        files = self.files
        needed = [feature for feature in OF_EVERY_COPY if files.has(feature)]
        return all(is_whole(files.path(one, content, files.converted)) for one in needed)

    @torch.inference_mode()
    def write(self, utterances: Sequence[Utterance]) -> None:
        """Convert all utterances of a recording into one voice, unless that was done meanwhile."""
        files, copy = self.files, self.files.converted
        content = utterances[0].segment.content
        if self.has_written(content):
            return
        others = [voice for voice in self.voices if voice.speaker != utterances[0].speaker]
        voice = random.Random(content).choice(others)
        target = files.of(voice.segment)
        mels = files.read_whole("mels", content)  # (T, n_mels)
        heard = files.read_whole("heard", content) if self.recogniser else None
        for segment in (u.segment for u in utterances):
            span = slice(segment.start, segment.start + segment.n_frames)
            converted = self._converted(files.of(segment), target)
            mels[span] = converted[0].T
            if heard is not None:
                heard[span] = self._hear(converted, segment)
        embeddings = files.read_whole("voices", content)
        embeddings[:] = target.read_embedding()
        save(files.path("mels", content, copy), {ARRAYS["mels"]: mels.half().numpy()})
        if heard is not None:
            save(files.path("heard", content, copy), {ARRAYS["heard"]: heard.half().numpy()})
        save(files.path("voices", content, copy), {ARRAYS["voices"]: embeddings.numpy()})

    def _converted(self, source: CachedFeatures, target: CachedFeatures) -> Tensor:
        """Convert an utterance -> mel (1, n_mels, T)."""
        network, n = self.network, source.n_frames
        content = self._content(source, n)
        embedding = target.read_embedding()[None]
        harmonics = None
        if network.f0:
            contours = [one.read_f0(0, one.n_frames).numpy() for one in (source, target)]
            own, wanted = (pitch.range_of([contour]) for contour in contours)
            moved = pitch.moved(contours[0], own, wanted)
            harmonics = self.mel.harmonics(torch.from_numpy(moved)[None])
        codes = network.encode(content, source.read_embedding()[None])
        made = network.decode(codes, n, embedding, harmonics)[1]
        if network.has_reference:
            shown = min(target.n_frames, MAX_VOICE_FRAMES)
            shown_mel = target.read_mel(0, shown)[None]
            reference = network.remember(self._content(target, shown), embedding, shown_mel)
            made = network.refined(codes, made, reference)
        return network.sharpened(made).clamp(0, 1)

    def _content(self, one: CachedFeatures, n_frames: int) -> Tensor:
        """Read what the content encoder reads (1, C, n_frames)."""
        if self.network.listens:
            return one.read_heard(0, n_frames)[None]
        return one.read_mel(0, n_frames)[None]

    def _hear(self, converted: Tensor, segment: Segment) -> Tensor:
        """Make sound of a mel (1, n_mels, T), and hear it -> (T, D)."""
        assert self.recogniser is not None
        rate, hop, n = self.mel.sample_rate, self.mel.hop_length, segment.n_frames
        sound = vocode(self.vocoder, [converted[0]], [n * hop], n, seed=0)[0]
        sound = io.resample(sound, rate, self.recogniser.sample_rate)
        return torch.from_numpy(self.recogniser.hear(sound, n, rate / hop))
