"""Voice conversion from recording to recording: frozen speaker encoder, AutoVC and vocoder."""

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from vc_lightning.audio import pitch
from vc_lightning.audio.mel import MelSpectrogram
from vc_lightning.audio.spill_buffer import SpillBuffer
from vc_lightning.common import resources
from vc_lightning.common.errors import InputError, require_seed, require_within
from vc_lightning.common.progress import Progress, no_progress, part_of
from vc_lightning.common.threads import ThreadChooser
from vc_lightning.conversion.analysis import REFERENCE_SECONDS, RecordingAnalyzer
from vc_lightning.conversion.live.pace import SHORTEST_SECONDS
from vc_lightning.conversion.live.stream import VoiceStream
from vc_lightning.conversion.mel_converter import MelConverter
from vc_lightning.conversion.networks import Networks
from vc_lightning.conversion.provenance import Provenance, fingerprint, of_conversion
from vc_lightning.conversion.recording import Recording, RecordingLike
from vc_lightning.conversion.voices.voice import Voice, VoiceSample
from vc_lightning.models import checkpoints
from vc_lightning.models.autovc import MAX_CONTRAST, AutoVC
from vc_lightning.models.files import hub
from vc_lightning.models.files.formats import Card
from vc_lightning.models.speaker_encoder import SpeakerEncoder
from vc_lightning.models.vocoders.base import Vocoder, vocode
from vc_lightning.models.vocoders.factory import default_vocoder

ANALYSIS_SHARE = 0.5  # of the computing time: embedding and pitch
NETWORK_SHARE = 0.45  # of the remaining time: AutoVC; the vocoder takes the rest


class VoiceConverter(nn.Module):
    """Converter of recordings to other voices, also to voices outside its training data.

    Args:
        networks: The networks.
        guidance: Strength of the extrapolation away from the source's voice, see `MelConverter`; 0
            keeps the network's mel.
        checkpoint: Name of the weights in the provenance of conversions, see `fingerprint`.

    Raises:
        InputError: `guidance` is out of range.
    """

    def __init__(self, networks: Networks, guidance: float, checkpoint: str):
        super().__init__()
        require_within(0, 10, "", guidance=guidance)
        self.networks = networks
        self.guidance = guidance
        self.checkpoint = checkpoint
        self.analyzer = RecordingAnalyzer(networks)
        self.eval()

    @classmethod
    def from_pretrained(
        cls, name: str | None = None, *, revision: str | None = None
    ) -> "VoiceConverter":
        """Load the shipped converter, or one from a hub.

        Args:
            name: OWNER/REPO or OWNER/REPO/FILE on the hub; None for the shipped one.
            revision: Branch, tag or commit there.

        Raises:
            InputError: The file cannot be downloaded or read.
        """
        if name is None:
            return cls.from_checkpoint(resources.AUTOVC)
        return cls.from_checkpoint(str(hub.named(name, revision)))

    @classmethod
    def from_checkpoint(
        cls,
        path: Path | str,
        *,
        vocoder: Callable[[MelSpectrogram], Vocoder] | None = None,
        speaker_encoder: Path | str = resources.SPEAKER_ENCODER,
        freq: int = 32,
        guidance: float | None = None,
        contrast: float | None = None,
    ) -> "VoiceConverter":
        """Load a converter from any AutoVC file, ours or public.

        Args:
            path: A file, or an address on a hub (`hf://OWNER/REPO[/FILE][@REVISION]`).
            vocoder: Function that makes a vocoder for a mel-spectrogram; None for `vocoder=auto`.
            speaker_encoder: Weight file of the speaker encoder that the network was trained with.
            freq: Frames per code, for public files, which do not store it.
            guidance: See the class; None for the value in conf/converter.yaml.
            contrast: See `AutoVC.sharpened`; None for that of the weights.

        Raises:
            InputError: A file is unreadable, the files do not belong together, or a value is out of
                range.
        """
        threads = ThreadChooser()  # measures what other programs do meanwhile
        path = hub.local_path(path)
        autovc, card = checkpoints.read_autovc(path, freq)
        encoder, encoder_card = checkpoints.read_speaker_encoder(speaker_encoder)
        try:
            mel = MelSpectrogram(**card.mel)
        except (TypeError, ValueError) as error:
            raise InputError(f"{path}: its mel settings are not usable ({error})") from error
        if contrast is not None:
            require_within(0, MAX_CONTRAST, "", contrast=contrast)
            autovc.contrast = contrast
        if guidance is None:
            guidance = resources.settings("", "converter")["guidance"]
        networks = Networks(
            autovc,
            card,
            encoder,
            encoder_card.speaker_encoder,
            mel,
            (vocoder or default_vocoder)(mel),
            checkpoints.load_fast_recogniser() if autovc.listens else None,
            threads,
        )
        name = fingerprint(path)
        return cls(networks, guidance, name)

    @property
    def autovc(self) -> AutoVC:
        """The conversion network."""
        return self.networks.autovc

    @property
    def card(self) -> Card:
        """Header of the conversion network's file."""
        return self.networks.card

    @property
    def speaker_encoder(self) -> SpeakerEncoder:
        """The speaker encoder."""
        return self.networks.speaker_encoder

    @property
    def mel(self) -> MelSpectrogram:
        """The mel-spectrogram."""
        return self.networks.mel

    @property
    def vocoder(self) -> Vocoder:
        """The vocoder."""
        return self.networks.vocoder

    @property
    def sample_rate(self) -> int:
        """Sample rate in Hz of the arrays that `convert` takes and returns."""
        return self.networks.sample_rate

    def note(self) -> Provenance:
        """Make the provenance note for a conversion made now."""
        return of_conversion(self.checkpoint, type(self.vocoder).__name__, self.guidance)

    # Conversion ----------------------------------------------------------------------------------

    def convert(
        self, source: RecordingLike, targets: RecordingLike | Sequence[RecordingLike], seed: int = 0
    ) -> np.ndarray:
        """Convert a recording to the voice of others.

        Args:
            source: A path, or float samples (n,) at `sample_rate`, of any length.
            targets: One or several recordings of one speaker, whose embeddings are averaged.
            seed: Seed of the vocoder.

        Returns:
            Samples, float32 (n,) at `sample_rate`, as long as the source.

        Raises:
            InputError: A recording cannot be used; the message names it.
        """
        return self.convert_to(source, self.voice(targets), seed)

    def convert_to(
        self, source: RecordingLike, target: Voice, seed: int = 0, progress: Progress = no_progress
    ) -> np.ndarray:
        """Convert a recording to a voice; see `convert`.

        Args:
            source: See `convert`.
            target: The target voice, a result of `voice`.
            seed: Seed of the vocoder.
            progress: Called with the share of the work that is done, up to 1.
        """
        analyzed = self.analyze(source, part_of(progress, 0, ANALYSIS_SHARE))
        rest = part_of(progress, ANALYSIS_SHARE, 1)
        return self.convert_analyzed([analyzed], [target], seed, rest)[0]

    @torch.inference_mode()
    def convert_analyzed(
        self,
        sources: Sequence[Recording],
        targets: Sequence[Voice],
        seed: int = 0,
        progress: Progress = no_progress,
    ) -> list[np.ndarray]:
        """Convert analyzed recordings, each to its own target, in one vocoder batch.

        Args:
            sources: Results of `analyze`.
            targets: One voice per source.
            seed: Seed of the vocoder.
            progress: Called with the share of the work that is done, up to 1.

        Returns:
            One conversion per source, see `convert`.
        """
        require_seed("seed", seed)
        self.networks.threads.choose()
        mels = []
        done, total = 0, sum(source.n_frames for source in sources)
        for source, target in zip(sources, targets, strict=True):
            buffer = SpillBuffer()
            for piece in self.converted_mel(source, target):
                buffer.append(piece[0].clamp(0, 1).t().cpu().numpy())
                done += piece.shape[-1]
                progress(NETWORK_SHARE * done / total)
            mels.append(torch.from_numpy(buffer.array()).t().to(self.networks.device))
        return vocode(
            self.vocoder,
            mels,
            [len(source.wav) for source in sources],
            self.analyzer.chunk_frames,
            seed,
            part_of(progress, NETWORK_SHARE, 1),
        )

    def converted_mel(self, source: Recording, target: Voice) -> Iterator[Tensor]:
        """Convert the mel of a recording, see `MelConverter.convert_recording`."""
        return MelConverter(self.autovc, self.mel, self.guidance).convert_recording(source, target)

    @torch.inference_mode()
    def codes(self, recording: Recording) -> np.ndarray:
        """Compute the codes of a recording, without those of the contexts of its chunks.

        Args:
            recording: A result of `analyze`.

        Returns:
            float32 (2·dim_neck, ⌈T/freq⌉).
        """
        freq = self.autovc.freq
        converter = MelConverter(self.autovc, self.mel)
        found = []
        for chunk, content, _ in recording.parts():
            heard = content.to(self.networks.device)
            codes = converter.encode(heard, recording)[0].float().cpu().numpy()
            first = (chunk.start - chunk.first) // freq
            found.append(codes[:, first : first + math.ceil((chunk.stop - chunk.start) / freq)])
        return np.concatenate(found, axis=1)

    def stream(
        self,
        voice: Voice,
        block_seconds: float | None = None,
        *,
        sample_rate: int | None = None,
        lookahead_seconds: float | None = None,
        context_seconds: float | None = None,
        listens: bool = False,
        source: Voice | None = None,
        earlier: np.ndarray | None = None,
        seed: int = 0,
    ) -> VoiceStream:
        """Open a live conversion, see `VoiceStream`.

        Args:
            voice: The target voice.
            block_seconds: Length of a step; None for `pace.SHORTEST_SECONDS`.
            sample_rate: Rate in Hz of input and output; None for `sample_rate`.
            lookahead_seconds: Sound after a step that the network also gets; None for the value in
                conf/live.yaml.
            context_seconds: Sound before a step that it also gets; None likewise.
            listens: Whether the recogniser hears every step, see `VoiceStream`; `pace.affordable`
                measures whether the computer is fast enough.
            source: Voice of the speaker; None: the stream estimates it.
            earlier: Earlier speech of the speaker, float32 (n,), a result of `end_of_speech`, best
                by the same microphone. Where the recogniser hears the stream, it hears this before,
                and loses fewer of the first words.
            seed: Seed of the vocoder.

        Returns:
            An object with `push(samples)` and `flush()`.

        Raises:
            InputError: A value is out of range.
        """
        settings = resources.settings("", "live")
        if lookahead_seconds is None:
            lookahead_seconds = settings["lookahead_seconds"]
        if context_seconds is None:
            context_seconds = settings["context_seconds"]
        return VoiceStream(
            self.networks,
            voice,
            guidance=self.guidance,
            sample_rate=self.sample_rate if sample_rate is None else sample_rate,
            block_seconds=SHORTEST_SECONDS if block_seconds is None else block_seconds,
            lookahead_seconds=lookahead_seconds,
            context_seconds=context_seconds,
            listens=listens,
            source=source,
            earlier=earlier,
            seed=seed,
        )

    @torch.inference_mode()
    def resynthesize(self, recording: RecordingLike | Recording, seed: int = 0) -> np.ndarray:
        """Pass a recording through mel and vocoder only (copy synthesis).

        Args:
            recording: A result of `analyze`, or what it takes.
            seed: Seed of the vocoder.

        Returns:
            Samples, float32 (n,) at `sample_rate`, as long as the recording.

        Raises:
            InputError: The recording cannot be used; the message names it.
        """
        require_seed("seed", seed)
        wav, level = self.analyzer.leveled(recording)
        mel = self.analyzer.mel_of(wav, level)
        return vocode(self.vocoder, [mel], [len(wav)], self.analyzer.chunk_frames, seed)[0]

    # Recordings ----------------------------------------------------------------------------------

    def voice(self, recordings: RecordingLike | Sequence[RecordingLike]) -> Voice:
        """Make a voice for `convert_to` from recordings of one speaker.

        Args:
            recordings: One or several recordings, each a path or samples as for `convert`.

        Raises:
            InputError: There is no recording, or one of them cannot be used.
        """
        if isinstance(recordings, Path | str | np.ndarray):
            recordings = [recordings]
        if not recordings:
            raise InputError("there is no target recording; give at least one")
        return self.voice_from(self.sample(recording) for recording in recordings)

    def voice_from(self, samples: Iterable[VoiceSample | Recording]) -> Voice:
        """Make a voice from analyzed recordings of one speaker.

        Args:
            samples: Results of `sample` or `analyze`.
        """
        kept = [  # the sound is not kept
            self.analyzer.sample_of(one) if isinstance(one, Recording) else one for one in samples
        ]
        references = [one.reference for one in kept if one.reference is not None]
        n_frames = self.analyzer.frames(REFERENCE_SECONDS)
        return Voice(
            self.speaker_encoder.average([one.embedding for one in kept]),
            pitch.range_of([one.f0 for one in kept]),
            np.concatenate(references)[:n_frames] if references else None,
        )

    def sample(self, recording: RecordingLike, name: Path | str | None = None) -> VoiceSample:
        """Analyze a recording of a target's voice, see `RecordingAnalyzer.sample`."""
        return self.analyzer.sample(recording, name)

    def analyze(
        self,
        recording: RecordingLike,
        progress: Progress = no_progress,
        name: Path | str | None = None,
        embeds: bool = False,
    ) -> Recording:
        """Analyze a recording for conversions, see `RecordingAnalyzer.analyze`."""
        self.networks.threads.choose()
        return self.analyzer.analyze(recording, progress, name, embeds)

    def embed(self, recording: RecordingLike) -> np.ndarray:
        """Compute the speaker embedding (dim_emb,) of a recording."""
        return self.analyzer.embed(recording)

    def end_of_speech(self, recording: RecordingLike | Recording) -> np.ndarray:
        """Return the end of a speaker's speech, for `stream`; see the analyzer's."""
        return self.analyzer.end_of_speech(recording)

    def load(self, recording: RecordingLike) -> np.ndarray:
        """Load and check a recording as float32 (n,) at `sample_rate`."""
        return self.analyzer.load(recording)
