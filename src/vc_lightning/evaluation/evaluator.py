"""What a converter makes of pairs of speakers, judged by others than itself."""

import contextlib
import logging
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import chain
from pathlib import Path

import numpy as np
import torch
from torch import nn
from tqdm import tqdm

from vc_lightning.audio import pitch
from vc_lightning.audio.mel import MelSpectrogram
from vc_lightning.common.errors import InputError
from vc_lightning.conversion.converter import VoiceConverter
from vc_lightning.conversion.recordings import Voice
from vc_lightning.evaluation import domains, metrics, pocket_sphinx, robustness
from vc_lightning.evaluation import scorers as judges
from vc_lightning.evaluation.metrics import Figure
from vc_lightning.evaluation.pairs import Pair
from vc_lightning.evaluation.results import Outcome, Report, Ruler
from vc_lightning.evaluation.scorers import MissingJudgeError
from vc_lightning.models.speaker_encoder import similarity

log = logging.getLogger(__name__)

# What may be judged besides the voice.
PARTS = ("words", pocket_sphinx.PART, "naturalness", "prosody", "codes")


def evaluate(
    converter: VoiceConverter,
    pairs: Sequence[Pair],
    parts: Sequence[str],
    recogniser: str,
    seed: int,
    n_robustness: int,
) -> Report:
    """Converts every pair, then lets the judges hear it.

    Args: parts, of `PARTS`; recogniser, see `judges.Recogniser`; seed, of the vocoder;
        n_robustness, pairs of every domain that are converted under worse conditions, too.
    Raises: InputError naming a recording that can not be used, before anything is converted.
    """
    left_out = []
    if "words" in parts:  # a name that does not exist is told before the work
        parts = _able(parts, "words", lambda: judges.model_path(recogniser), left_out)
    if pocket_sphinx.PART in parts:
        parts = _able(parts, pocket_sphinx.PART, pocket_sphinx.require_installed, left_out)
    if "naturalness" in parts:
        parts = _able(parts, "naturalness", judges.require_listener, left_out)
    embeddings = embed_recordings(converter, pairs)
    ruler = real_pairs(pairs, embeddings)
    if ruler is None:
        left_out.append("acceptance: there are no real pairs of one speaker and of two")
    voices = {}
    outcomes = convert(converter, pairs, seed, voices)
    judge_voices(converter, outcomes, embeddings, ruler)
    trials = []
    if n_robustness:
        places = robustness.chosen(outcomes, n_robustness, domains.GROUP)
        tested = _progress(places, "worse conditions")
        trials, missing = robustness.convert(converter, outcomes, tested, voices, seed)
        left_out += missing
        harder = [outcome for trial in trials[1:] for _, outcome in trial.outcomes]
        judge_voices(converter, harder, embeddings, ruler)
    probed = None
    if "codes" in parts:
        probed = probe_codes(converter, pairs, embeddings)
        if probed is None:
            left_out.append("codes: two speakers with two recordings each are needed")
    judge_distortion(converter, outcomes)
    if "prosody" in parts:
        judge_prosody(converter, outcomes)
    # Last, as the judges' threads are in the way of everything that comes after them.
    if "naturalness" in parts:
        listener = judges.Listener()
        judge_naturalness(listener, outcomes, converter.mel)
        robustness.judge_naturalness(listener, trials, converter.sample_rate)
    if "words" in parts:
        listener = judges.Recogniser(recogniser)
        left_out += judge_words(listener, outcomes, converter.sample_rate)
        robustness.judge_words(listener, trials, converter.sample_rate)
    if pocket_sphinx.PART in parts:
        second = pocket_sphinx.PocketSphinx()
        left_out += pocket_sphinx.judge_words(
            second, _progress(outcomes, "words again"), converter.sample_rate
        )
    return Report(outcomes, ruler, probed, left_out, trials)


def _able(
    parts: Sequence[str], part: str, check: Callable[[], object], left_out: list[str]
) -> list[str]:
    """The parts without one whose judge is not installed, which is noted."""
    try:
        check()
    except MissingJudgeError as error:
        log.warning("%s", error)
        left_out.append(str(error))
        return [other for other in parts if other != part]
    return list(parts)


def _progress(items: Iterable, what: str) -> Iterable:
    return tqdm(items, desc=what, disable=None, leave=False)  # only where a person looks on


def embed_recordings(converter: VoiceConverter, pairs: Sequence[Pair]) -> dict[Path, np.ndarray]:
    """Embeddings (dim_emb,) of every recording that takes part."""
    paths = dict.fromkeys(chain.from_iterable(map(_recordings, pairs)))
    return {path: converter.embed(path) for path in _progress(paths, "recordings")}


def _recordings(pair: Pair) -> list[Path]:
    return [pair.source, pair.source_judge, *pair.voice, pair.target_judge]


def real_pairs(pairs: Sequence[Pair], embeddings: dict[Path, np.ndarray]) -> Ruler | None:
    """Every recording beside every speaker's judge; None where one kind of pairs is missing.

    Both are of one domain: speakers of two are told apart by their microphones.
    """
    heard, judging = {}, {}  # recording -> domain, speaker
    for pair in pairs:
        domain = pair.groups.get(domains.GROUP)
        source, target = (domain, pair.source_speaker), (domain, pair.target_speaker)
        judging |= {pair.source_judge: source, pair.target_judge: target}
        heard |= dict.fromkeys(pair.voice, target)
        heard[pair.source] = source
    scores = {True: [], False: []}
    for path, speaker in heard.items():
        for judge, other in judging.items():
            if path != judge and speaker[0] == other[0]:
                score = similarity(embeddings[path], embeddings[judge])
                scores[speaker == other].append(score)
    if not scores[True] or not scores[False]:
        return None
    return Ruler(scores[True], scores[False], *metrics.equal_error(scores[True], scores[False]))


def convert(
    converter: VoiceConverter,
    pairs: Sequence[Pair],
    seed: int,
    voices: dict[tuple[Path, ...], Voice],
) -> list[Outcome]:
    """Makes and times the conversions, and what the vocoder alone makes of their sources.

    Args: voices, that are known by their recordings; those that are not are added.
    """
    outcomes, sources = [], {}
    voices[pairs[0].voice] = converter.voice(pairs[0].voice)
    warm_up = converter.load(pairs[0].source)
    converter.convert_to(warm_up, voices[pairs[0].voice], seed)
    for pair in _progress(pairs, "conversions"):
        if pair.voice not in voices:
            voices[pair.voice] = converter.voice(pair.voice)
        if pair.source not in sources:
            wav = converter.load(pair.source)
            _, encoding = _timed(converter.embed, wav)
            _, analysis = _timed(converter.mel.extract, wav, converter.sample_rate)
            copy, copying = _timed(converter.resynthesize, wav, seed)
            parts = {
                "speaker_encoder": encoding,
                "mel": analysis,
                "vocoder": max(0.0, copying - analysis),
            }
            if converter.autovc.f0:
                hop_length = converter.mel.hop_length
                rate = converter.sample_rate
                f0, parts["pitch"] = _timed(pitch.track, wav, rate, hop_length)
                converter.analyzer.pitch_check(pair.source, f0, wav, rate, hop_length)
            sources[pair.source] = wav, copy, parts
        source_wav, copy, parts = sources[pair.source]
        with _stopwatch(converter.autovc) as network:
            wav, converting = _timed(converter.convert_to, source_wav, voices[pair.voice], seed)
        outcome = Outcome(pair, source_wav, copy, wav)
        duration = len(source_wav) / converter.sample_rate
        seconds = parts | {"autovc": sum(network), "conversion": converting}
        for part, value in seconds.items():
            outcome.note(f"speed/{part}", value / duration, duration)
        outcomes.append(outcome)
    return outcomes


def _timed(function: Callable, *arguments: object) -> tuple[object, float]:
    """What a function returns, and after how many seconds."""
    started = time.perf_counter()
    result = function(*arguments)
    return result, time.perf_counter() - started


@contextlib.contextmanager
def _stopwatch(network: nn.Module) -> Iterator[list[float]]:
    """Seconds that each call of a network's parts takes while this lasts."""
    started, seconds = [], []

    def now() -> float:
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        return time.perf_counter()

    hooks = []
    for part in network.children():  # a conversion calls them one after the other
        hooks.append(part.register_forward_pre_hook(lambda *_: started.append(now())))
        hooks.append(part.register_forward_hook(lambda *_: seconds.append(now() - started.pop())))
    try:
        yield seconds
    finally:
        for hook in hooks:
            hook.remove()


def judge_voices(
    converter: VoiceConverter,
    outcomes: Sequence[Outcome],
    embeddings: dict[Path, np.ndarray],
    ruler: Ruler | None,
) -> None:
    """Likeness to both speakers; a conversion in which no speech is found is like neither."""
    for outcome in _progress(outcomes, "voices"):
        target = embeddings[outcome.pair.target_judge]
        source = embeddings[outcome.pair.source_judge]
        outcome.note("similarity/before", similarity(embeddings[outcome.pair.source], target))
        try:
            voice = converter.embed(outcome.wav)
        except InputError:
            voice = None
        to_target, to_source = (
            -1.0 if voice is None else similarity(voice, other) for other in (target, source)
        )
        outcome.note("similarity/speech", float(voice is not None))
        outcome.note("similarity/nearer", float(to_target > to_source))
        if ruler is not None:
            outcome.note("similarity/accepted", float(to_target >= ruler.threshold))
        if voice is not None:
            outcome.note("similarity/to_target", to_target)
            outcome.note("similarity/to_source", to_source)


@torch.inference_mode()
def probe_codes(
    converter: VoiceConverter, pairs: Sequence[Pair], embeddings: dict[Path, np.ndarray]
) -> tuple[Figure, float, int] | None:
    """See `metrics.speaker_probe`; None where there are too few recordings."""
    speakers = {}
    for pair in pairs:
        sources = dict.fromkeys([pair.source, pair.source_judge], pair.source_speaker)
        speakers |= sources | dict.fromkeys([*pair.voice, pair.target_judge], pair.target_speaker)
    names = list(speakers.values())
    speakers = {path: name for path, name in speakers.items() if names.count(name) > 1}
    n_speakers = len(set(speakers.values()))
    if n_speakers < 2:
        return None
    codes = []
    for path in _progress(speakers, "codes"):
        mel = converter.mel.extract(converter.load(path), converter.sample_rate)
        batch = [torch.from_numpy(x).to(converter.device)[None] for x in (mel, embeddings[path])]
        codes.append(converter.autovc.encode(*batch)[0].float().cpu().numpy())
    return *metrics.speaker_probe(codes, list(speakers.values())), n_speakers


def judge_distortion(converter: VoiceConverter, outcomes: Sequence[Outcome]) -> None:
    """Mel-cepstral distortion to the target, where it says the same."""
    for outcome in outcomes:
        if outcome.pair.parallel is None or not outcome.values["similarity/speech"]:
            continue
        sounds = converter.load(outcome.pair.parallel), outcome.source_wav, outcome.wav
        target, before, after = (converter.mel.extract(w, converter.sample_rate) for w in sounds)
        outcome.note("distortion/before", metrics.mel_cepstral_distortion(target, before))
        outcome.note("distortion/conversion", metrics.mel_cepstral_distortion(target, after))


def judge_prosody(converter: VoiceConverter, outcomes: Sequence[Outcome]) -> None:
    """Pitch of conversions beside that of their sources, and of the targets' recordings."""
    rate, hop_length = converter.sample_rate, converter.mel.hop_length
    known = {}

    def contour(path: Path) -> np.ndarray:
        if path not in known:
            known[path] = pitch.track(converter.load(path), rate, hop_length)
        return known[path]

    for outcome in _progress(outcomes, "prosody"):
        pair = outcome.pair
        source = contour(pair.source)
        target = np.concatenate([contour(path) for path in (*pair.voice, pair.target_judge)])
        after = pitch.track(outcome.wav, rate, hop_length)
        outcome.note("prosody/correlation", metrics.f0_correlation(source, after))
        outcome.note("prosody/voiced_agreement", metrics.voiced_agreement(source, after))
        for name, f0 in {"source": source, "conversion": after, "target": target}.items():
            outcome.note(f"prosody/range_{name}", metrics.f0_range(f0))
        outcome.note("prosody/distance_before", metrics.f0_distance(source, target))
        outcome.note("prosody/distance", metrics.f0_distance(after, target))


def judge_naturalness(
    listener: judges.Listener, outcomes: Sequence[Outcome], mel: MelSpectrogram
) -> None:
    """DNSMOS of the recordings, of their copies by the vocoder alone, and of the conversions.

    All at one level, that of the mels, which the latter two have anyway.
    """
    known, sample_rate = {}, mel.sample_rate
    for outcome in _progress(outcomes, "naturalness"):
        source = outcome.pair.source
        if source not in known:
            both = mel.leveled(outcome.source_wav, sample_rate), outcome.copy
            known[source] = [listener.naturalness(wav, sample_rate) for wav in both]
        outcome.note("naturalness/recording", known[source][0])
        outcome.note("naturalness/vocoder", known[source][1])
        outcome.note("naturalness/conversion", listener.naturalness(outcome.wav, sample_rate))


def judge_words(
    recogniser: judges.Recogniser, outcomes: Sequence[Outcome], sample_rate: int
) -> list[str]:
    """Errors against what the recogniser hears in the source; returns what was left out."""
    known, foreign = {}, []
    for outcome in _progress(outcomes, "words"):
        language = outcome.pair.language
        if not recogniser.understands(language):
            foreign.append(language)
            continue
        source = outcome.pair.source
        if source not in known:
            both = outcome.source_wav, outcome.copy
            known[source] = [recogniser.transcript(wav, sample_rate, language) for wav in both]
        reference, copy = known[source]
        after = ""  # where there is no speech, Whisper makes up some
        if outcome.values["similarity/speech"]:
            after = recogniser.transcript(outcome.wav, sample_rate, language)
        outcome.words = {"source": reference, "vocoder": copy, "conversion": after}
        if not reference:
            continue
        for prefix, heard in {"": after, "vocoder_": copy}.items():
            for name, count in (
                ("word_errors", judges.word_errors),
                ("character_errors", judges.character_errors),
            ):
                n_errors, length = count(reference, heard)
                outcome.note(f"words/{prefix}{name}", n_errors / length, length)
    if not foreign:
        return []
    languages = ", ".join(sorted(set(foreign)))
    return [f"words: {recogniser.name} does not understand {languages} (pairs: {len(foreign)})"]
