"""Write an evaluation for TensorBoard: means, histograms, sound and mels."""

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch.utils.tensorboard import SummaryWriter

from vc_lightning.audio.mel import MelSpectrogram
from vc_lightning.common.plots import histogram, mel_figure, pixels
from vc_lightning.evaluation import robustness, worst
from vc_lightning.evaluation.results import (
    Evaluation,
    ScoredConversion,
    Sounds,
    figures,
    reported,
)
from vc_lightning.evaluation.sound_files import plain, title

MAX_SHOWN = 12  # conversions in addition to the worst ones
SIMILARITY_EDGES = np.arange(0.3, 1.01, 0.05).round(2).tolist()


def show(
    evaluation: Evaluation,
    writer: SummaryWriter,
    text: str,
    mel: MelSpectrogram,
    ranked: Sequence[tuple[int, ScoredConversion]],
    read_sounds: Callable[[int, ScoredConversion], Sounds],
) -> None:
    """Write the means of all groups, histograms, and sound and mels of some conversions.

    Args:
        evaluation: The results.
        writer: Writes TensorBoard's files.
        text: Text of report.md.
        mel: The mel-spectrogram of the converter.
        ranked: The worst conversions, see `worst.ranked`, which have tags of their own.
        read_sounds: Reads the sound of a conversion, given the number of its pair.
    """
    writer.add_text("report", text)
    _show_means(evaluation, writer)
    for name, image in similarity_pictures(evaluation).items():
        writer.add_image(f"similarity/{name}", image, dataformats="HWC")
    places = [(f"worst_{place:02d}_", *one) for place, one in enumerate(ranked, start=1)]
    for prefix, _, conversion in places:
        writer.add_text(prefix.rstrip("_"), worst.reason(conversion))
    first = [("", *one) for one in enumerate(evaluation.conversions)][:MAX_SHOWN]
    for prefix, index, conversion in [*places, *first]:
        tag = f"{prefix}{title(index, conversion)}"
        sounds = vars(read_sounds(index, conversion))
        for name, wav in sounds.items():
            sound = torch.from_numpy(np.array(wav)).clamp(-1, 1)
            writer.add_audio(f"{tag}/{name}", sound, sample_rate=mel.sample_rate)
        if conversion.scores.has_speech:
            mels = {
                name: torch.from_numpy(mel.extract(wav, mel.sample_rate))[None]
                for name, wav in sounds.items()
            }
            figure = mel_figure(mels, mel.hop_length / mel.sample_rate)
            writer.add_image(f"mel/{tag}", pixels(figure), dataformats="HWC")
    writer.flush()


def _show_means(evaluation: Evaluation, writer: SummaryWriter) -> None:
    for kind, by_name in evaluation.groups().items():
        for name, conversions in by_name.items():
            group = f"{plain(kind)}_{plain(name)}" if kind else "all"
            for key, value in reported(figures(conversions)).items():
                writer.add_scalar(f"{group}/{key}", value.mean)
    if evaluation.probe:
        writer.add_scalar("codes/accuracy", evaluation.probe.accuracy.mean)
        writer.add_scalar("codes/chance", evaluation.probe.chance)
    for condition in evaluation.conditions:
        for key, value in reported(robustness.summary(condition)).items():
            writer.add_scalar(f"robustness_{plain(condition.condition)}/{key}", value.mean)


def similarity_pictures(evaluation: Evaluation) -> dict[str, np.ndarray]:
    """Draw histograms (height, width, 3) of the similarities of conversions and of real pairs.

    Args:
        evaluation: The results; bars below its verification threshold are red.

    Returns:
        The histograms by name.
    """
    to_target = [c.scores.similarity_to_target for c in evaluation.conversions]
    scores = {"conversions": [np.nan if score is None else score for score in to_target]}
    threshold = -np.inf
    if evaluation.verification:
        threshold = evaluation.verification.threshold
        scores["one_speaker"] = evaluation.verification.same
        scores["two_speakers"] = evaluation.verification.different
    return {
        name: pixels(
            histogram(
                f"Similarity, {name.replace('_', ' ')}, red below the threshold",
                *("cosine", "pairs", np.array(values), SIMILARITY_EDGES),
                lambda values: values < threshold,
            )
        )
        for name, values in scores.items()
    }
