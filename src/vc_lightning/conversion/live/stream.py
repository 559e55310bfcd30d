"""Live conversion: samples go in, samples in the other voice come out a moment later."""

import math

import numpy as np
import torch
from torch import Tensor

from vc_lightning.audio.files import io as audio
from vc_lightning.audio.highpass import RunningHighpass
from vc_lightning.audio.voice_activity import VAD_SAMPLE_RATE
from vc_lightning.common.errors import InputError, require_flag, require_seed, require_within
from vc_lightning.conversion.live.resampling import StreamResampler
from vc_lightning.conversion.live.source import RunningPitch, RunningSource
from vc_lightning.conversion.mel_converter import MelConverter, require_embedding
from vc_lightning.conversion.networks import Networks
from vc_lightning.conversion.voices.voice import Voice
from vc_lightning.models import pitch_tracker, swift_f0
from vc_lightning.models.running_recogniser import RunningRecogniser
from vc_lightning.models.vocoders import overlap
from vc_lightning.models.vocoders.base import PAST_FRAMES

BLOCK_RANGE = (0.01, 10)  # seconds
# Older sound changes codes so little that the mel of a step differs by 0.0002 to 0.0004.
REMEMBERED_SECONDS = 1.0  # by the live encoder
LISTENING_REMEMBERED_SECONDS = 0.75  # by the encoder where the recogniser hears
FADE_FRAMES = 4  # from the last step's look-ahead to this step's mel
MAX_AMPLITUDE = 8.0  # 18 dB above full scale; larger samples are not sound
SAMPLES_AT_ONCE = 2**16  # of one push


class VoiceStream:
    """Convert sound while it is being recorded, in steps of equal length.

    Every step encodes the last second of mel frames, and decodes the frames that are new or may
    still change (`RunningDecoder`). On whole recordings the network looks ahead 16 frames with the
    convolutions of its decoder and postnet, 6 more with those of its encoder, to the end with the
    backward half of its LSTM, and the vocoder looks ahead, too. Here the encoder gets
    `lookahead_seconds`, and after that the zeros that its convolutions are padded with, as at the
    end of a recording: it was trained so. Decoder and vocoder get the last frame over and over. The
    input ends at the newest frame and is a whole number of codes long.

    Where the network listens, its recogniser may hear the stream, too (`listens`, see
    `RunningRecogniser`), which keeps more words and takes a quarter of the time of a step. Else a
    live encoder predicts the codes from the mel.

    Sample n of the output is the conversion of sample n of the input: in total as many samples
    come out as went in. The result does not depend on the sizes of the blocks.

    Args:
        networks: The networks.
        voice: The target's voice.
        guidance: See `MelConverter`.
        sample_rate: Rate of the input and the output in Hz.
        block_seconds: Length of a step, rounded to whole mel frames.
        lookahead_seconds: Length of the mel after the kept frames that the network also gets.
        context_seconds: Length of the sound before a step that is remembered: by the recogniser all
            of it, by the encoder at most a second.
        listens: Whether the recogniser hears the stream, where the network has one.
        source: The speaker's voice; None: the stream estimates it.
        earlier: Speech of the speaker, float32 (n,), see `RecordingAnalyzer.end_of_speech`. The
            recogniser hears it before the stream, so that it knows voice and microphone. None:
            there is none.
        seed: Seed of the vocoder.

    Attributes:
        listens: Whether the recogniser hears the stream.

    Raises:
        InputError: A value is out of range.
    """

    def __init__(
        self,
        networks: Networks,
        voice: Voice,
        *,
        guidance: float,
        sample_rate: int,
        block_seconds: float,
        lookahead_seconds: float,
        context_seconds: float,
        listens: bool,
        source: Voice | None,
        earlier: np.ndarray | None,
        seed: int,
    ):
        mel, rate = networks.mel, networks.sample_rate
        require_within(
            audio.MIN_SAMPLE_RATE, audio.MAX_SAMPLE_RATE + 1, "", sample_rate=sample_rate
        )
        lengths = {"block_seconds": block_seconds, "context_seconds": context_seconds}
        require_within(*BLOCK_RANGE, "", **lengths)
        require_within(0, 10, "", lookahead_seconds=lookahead_seconds)
        require_flag("listens", listens)
        require_seed("seed", seed)
        self.networks = networks
        recogniser = networks.live_recogniser() if listens else None
        self.listens = recogniser is not None
        self._mel_converter = MelConverter(networks.autovc, mel, guidance)
        self.sample_rate = int(sample_rate)
        self._hop = mel.hop_length
        self._n_step = max(1, round(block_seconds * rate / self._hop))
        self._n_ahead = round(lookahead_seconds * rate / self._hop)
        remembered = LISTENING_REMEMBERED_SECONDS if self.listens else REMEMBERED_SECONDS
        n_context = round(min(context_seconds, remembered) * rate / self._hop)
        self._n_context = max(PAST_FRAMES, n_context)
        self._reach = math.ceil(mel.n_fft / 2 / self._hop)  # frames that share a sample
        # Samples beyond the end of a step that its last frame needs.
        self._delay = (self._reach - 1 + self._n_ahead) * self._hop + mel.n_fft // 2
        self._input = StreamResampler(self.sample_rate, rate)
        self._analysis = StreamResampler(rate, VAD_SAMPLE_RATE)
        self._output = StreamResampler(rate, self.sample_rate)
        if recogniser is not None:
            if earlier is not None:
                earlier = audio.resample(earlier, rate, recogniser.sample_rate)
            self._hearing = RunningRecogniser(recogniser, context_seconds, earlier)
            self._to_hearing = StreamResampler(rate, recogniser.sample_rate)
        dim_emb = networks.autovc.arguments["dim_emb"]
        self._source = RunningSource(
            networks.speaker_encoder,
            mel.level_dbfs,
            require_embedding((source or voice).embedding, dim_emb),
            is_known=source is not None,
        )
        self._pitch_range = RunningPitch(source.pitch if source else None)
        self._target = voice
        require_embedding(voice.embedding, dim_emb)
        self._vocoder = overlap.stream(networks.vocoder, self._hop, self._reach, seed)
        self._highpass = None
        if mel.highpass_hz is not None:
            self._highpass = RunningHighpass(rate, mel.highpass_hz)
        freq = networks.autovc.freq
        # Newest frames that the next step decodes again, so that it decodes whole codes.
        n_open = self._n_ahead + PAST_FRAMES
        n_open += -(n_open + self._n_step) % freq
        self._n_decoded = n_open + self._n_step  # of each step but the first
        self._decoder = self._mel_converter.live_decoder(n_open)
        self._raw = np.zeros(0, np.float32)  # at the networks' rate, waits for a whole step
        # Everything below counts frames from `_first` on; before the stream there is silence, in as
        # many whole codes as make the first step longer than `n_open`.
        n_before = freq * (1 + math.ceil((PAST_FRAMES + 1) / freq))
        self._first = -n_before
        self._mel = mel.window.new_zeros(1, mel.n_mels, n_before)
        self._f0 = np.zeros(n_before, np.float32)
        self._wav = np.zeros((n_before + self._reach) * self._hop, np.float32)
        self._wav_first = -n_before - self._reach  # in frames
        self._lookahead = self._mel[..., :0]  # the last step's mel of the next frames
        self._n_hops = 0  # that were returned
        self._n_final = 0  # frames that are final for the vocoder
        self._n_pitch_learned = 0
        self._n_in = self._n_out = 0
        self._is_closed = False

    @property
    def block_seconds(self) -> float:
        """Length of a step."""
        return self._n_step * self._hop / self.networks.sample_rate

    @property
    def block_samples(self) -> int:
        """Length of a step in samples, rounded up."""
        return math.ceil(self.block_seconds * self.sample_rate)

    @property
    def latency_seconds(self) -> float:
        """Longest time from a sample to its conversion without computing (algorithmic latency).

        It assumes that samples arrive in pieces much shorter than a step. With longer pieces it
        grows by up to one piece, unless `lookahead_latency_seconds` is a multiple of them.
        """
        return self.block_seconds + self.lookahead_latency_seconds

    @property
    def lookahead_latency_seconds(self) -> float:
        """Part of `latency_seconds` that does not depend on the length of a step."""
        before, after = self._input.delay, self._output.delay
        delay = self._delay / self.networks.sample_rate
        delay += (before + bool(before)) / self.sample_rate
        return delay + (after + bool(after)) / self.networks.sample_rate

    @property
    def level_dbfs(self) -> float:
        """Estimated level of the speech in the input."""
        return self._source.speech_dbfs

    @torch.inference_mode()
    def push(self, samples: np.ndarray) -> np.ndarray:
        """Take the next samples and return those whose conversion is complete.

        Args:
            samples: Floats (n,) of any length.

        Returns:
            float32 (m,); m differs from n in single calls, but not in total.

        Raises:
            InputError: The samples are not mono floats, or the stream was flushed.
        """
        self.networks.threads.choose()
        if self._is_closed:
            raise InputError("the stream was flushed; open another one")
        samples = np.asarray(samples)
        if samples.ndim != 1 or not np.issubdtype(samples.dtype, np.floating):
            raise InputError(
                f"a block has shape {samples.shape} and type {samples.dtype}; give floats (n,)"
            )
        self._n_in += len(samples)
        made = self._process(samples)
        self._n_out += len(made)
        return made

    @torch.inference_mode()
    def flush(self) -> np.ndarray:
        """End the stream and return the samples that are still missing, float32 (m,)."""
        if self._is_closed:
            return np.zeros(0, np.float32)
        missing = self._n_in - self._n_out
        pieces, n = [], 0
        silence = np.zeros(self.block_samples, np.float32)
        while n < missing:
            pieces.append(self._process(silence))
            n += len(pieces[-1])
        self._is_closed = True
        return np.concatenate([silence[:0], *pieces])[:missing]

    def _process(self, samples: np.ndarray) -> np.ndarray:
        pieces = [np.zeros(0, np.float32)]
        for start in range(0, len(samples), SAMPLES_AT_ONCE):
            block = self._repaired(samples[start : start + SAMPLES_AT_ONCE])
            self._raw = np.concatenate([self._raw, self._input.push(block)])
            while len(self._raw) >= self._n_wanted:
                unit, self._raw = np.split(self._raw, [self._n_wanted])
                pieces.append(self._output.push(self._step(unit)))
        return np.concatenate(pieces)

    def _repaired(self, samples: np.ndarray) -> np.ndarray:
        """Replace samples that are not finite by 0, and limit those far above full scale."""
        with np.errstate(over="ignore"):
            samples = samples.astype(np.float32)
        finite = np.nan_to_num(samples, nan=0, posinf=0, neginf=0)
        return finite.clip(-MAX_AMPLITUDE, MAX_AMPLITUDE)

    @property
    def _n_wanted(self) -> int:
        """Number of samples that the next step needs; the first one also fills the look-ahead."""
        n_step = self._n_step * self._hop
        return n_step if self._n_hops else n_step + self._delay

    def _step(self, unit: np.ndarray) -> np.ndarray:
        """Convert one step: take the next samples, return `_n_step` hops."""
        self._analyze(unit)
        mel = self._converted()
        n_new = self._n_hops + self._n_step + self._reach - self._n_final
        n_not_final = self._first + self._mel.shape[-1] - self._n_final
        begin = mel.shape[-1] - n_not_final  # of the new frames
        n_known = min(FADE_FRAMES, self._lookahead.shape[-1])
        if n_known:
            weight = torch.arange(1, n_known + 1, device=mel.device) / (n_known + 1)
            mel[..., begin : begin + n_known].copy_(
                torch.lerp(
                    self._lookahead[..., :n_known], mel[..., begin : begin + n_known], weight
                )
            )
        self._lookahead = mel[..., begin + n_new :].clone()
        n_past = min(PAST_FRAMES, begin)
        wav = self._vocoder.step(mel[..., begin - n_past :], n_past, n_new, self._n_step)
        self._n_hops += self._n_step
        self._n_final += n_new
        self._drop_old()
        return wav.float().cpu().numpy()

    def _analyze(self, unit: np.ndarray) -> None:
        """Scale and filter samples (n,); compute the mel and the pitch of the new frames."""
        mel, reach, hop = self.networks.mel, self._reach, self._hop
        gain_db = self._source.gain_db
        self._source.push(self._analysis.push(unit))
        gains = np.linspace(gain_db, self._source.gain_db, len(unit) + 1)[1:]
        unit = unit * (10 ** (gains / 20)) * mel.gain
        if self._highpass is not None:
            unit = self._highpass.push(unit)
        unit = unit.astype(np.float32)
        if self.listens:
            self._hearing.push(self._to_hearing.push(unit))
        self._wav = np.concatenate([self._wav, unit])
        n_frames = self._n_hops + self._n_step + self._reach + self._n_ahead  # of the stream
        n_known = self._first + self._mel.shape[-1]
        # Frames near the edges contain reflected samples and are left out.
        start = (n_known - reach - self._wav_first) * hop
        new = mel(self._tensor(self._wav[start:]))[..., reach : reach + n_frames - n_known]
        self._mel = torch.cat([self._mel, new], dim=-1)
        self._track(n_frames)

    def _track(self, n_frames: int) -> None:
        """Compute the pitch of the frames that are not final yet, up to frame n_frames."""
        n_known = self._n_pitch_learned
        first = max(self._wav_first, n_known - swift_f0.PAST_FRAMES - 1)
        stretch = self._wav[(first - self._wav_first) * self._hop :]
        f0 = pitch_tracker.track(stretch, self.networks.sample_rate, self._hop)
        f0 = f0[n_known - first : n_frames - first]
        self._f0 = np.concatenate([self._f0[: n_known - self._first], f0])
        n_final = max(n_known, n_frames - swift_f0.AHEAD_FRAMES)
        self._pitch_range.push(f0[: n_final - n_known])
        self._n_pitch_learned = n_final

    def _converted(self) -> Tensor:
        """Convert the newest frames of the mel -> (1, n_mels, `_n_decoded`), at first all."""
        freq = self.networks.autovc.freq
        n_frames = self._mel.shape[-1] // freq * freq
        n_decoded = self._n_decoded if self._n_hops else n_frames
        source = Voice(self._source.embedding, self._pitch_range.range)
        codes = self._codes(n_frames, source)[..., -n_decoded // freq :]
        f0 = self._f0[-n_decoded:]
        made = self._mel_converter.decode_live(self._decoder, codes, f0, source, self._target)
        return made.clamp(0, 1)

    def _codes(self, n_frames: int, source: Voice) -> Tensor:
        """Encode the newest frames -> codes (1, 2·dim_neck, n_frames / freq)."""
        if not self.listens:
            return self._mel_converter.encode_live(self._mel[..., -n_frames:], source)
        frames_per_second = self.networks.sample_rate / self._hop
        first = self._first + self._mel.shape[-1] - n_frames
        heard = self._hearing.features(first / frames_per_second, n_frames, frames_per_second)
        return self._mel_converter.encode(self._tensor(heard.T), source)

    def _drop_old(self) -> None:
        """Drop the frames and samples that no later step needs."""
        first = self._n_final - self._n_context
        if first > self._first:
            n = first - self._first
            self._mel, self._f0, self._first = self._mel[..., n:].clone(), self._f0[n:], first
        first = min(
            self._n_pitch_learned - swift_f0.PAST_FRAMES - 1, self._first + self._mel.shape[-1]
        )
        first -= self._reach
        if first > self._wav_first:
            self._wav = self._wav[(first - self._wav_first) * self._hop :]
            self._wav_first = first

    def _tensor(self, array: np.ndarray) -> Tensor:
        """Return an array as a batch of one on the device of the networks."""
        return torch.from_numpy(array).to(self.networks.device)[None]
