"""Write an evaluation for TensorBoard: means, histograms, sound and mels."""

from functools import partial

import numpy as np
import torch
from torch.utils.tensorboard import SummaryWriter

from vc_lightning.common.plots import histogram, pixels
from vc_lightning.evaluation import robustness
from vc_lightning.evaluation.report import pictures, worst
from vc_lightning.evaluation.report.contents import Contents
from vc_lightning.evaluation.report.sound_files import plain, title
from vc_lightning.evaluation.scorers.voices import EVERYWHERE
from vc_lightning.evaluation.scores import VOICE_JUDGES, figures
from vc_lightning.evaluation.summary import Evaluation

MAX_SHOWN = 12  # conversions in addition to the worst ones
SIMILARITY_EDGES = np.arange(0.3, 1.01, 0.05).round(2).tolist()


def show(contents: Contents, writer: SummaryWriter, text: str) -> None:
    """Write the means of all groups, histograms, and sound and mels of some conversions.

    Args:
        contents: Contents of the report; the worst conversions have tags of their own.
        writer: Writes TensorBoard's files.
        text: Text of report.md.
    """
    evaluation, mel = contents.evaluation, contents.converter.mel
    writer.add_text("report", text)
    _show_means(evaluation, writer)
    for name, image in similarity_pictures(evaluation).items():
        writer.add_image(name, image, dataformats="HWC")
    places = [(f"worst_{place:02d}_", *one) for place, one in enumerate(contents.ranked, start=1)]
    for prefix, _, conversion in places:
        writer.add_text(prefix.rstrip("_"), worst.reason(conversion))
    first = [("", *one) for one in enumerate(evaluation.conversions)][:MAX_SHOWN]
    for prefix, index, conversion in [*places, *first]:
        tag = f"{prefix}{title(index, conversion)}"
        sounds = contents.sounds(index, conversion)
        for name, wav in sounds.named().items():
            sound = torch.from_numpy(np.array(wav)).clamp(-1, 1)
            writer.add_audio(f"{tag}/{name}", sound, sample_rate=mel.sample_rate)
        if conversion.scores.has_speech:
            writer.add_image(f"mel/{tag}", pixels(pictures.mels(sounds, mel)), dataformats="HWC")
    writer.flush()


def _show_means(evaluation: Evaluation, writer: SummaryWriter) -> None:
    for kind, by_name in evaluation.groups().items():
        for name, conversions in by_name.items():
            group = f"{plain(kind)}_{plain(name)}" if kind else "all"
            for key, value in figures(conversions).items():
                writer.add_scalar(f"{group}/{key}", value.mean)
    if evaluation.probe:
        writer.add_scalar("codes/accuracy", evaluation.probe.accuracy.mean)
        writer.add_scalar("codes/chance", evaluation.probe.chance)
    for condition in evaluation.conditions:
        for key, value in robustness.summary(condition).items():
            writer.add_scalar(f"robustness_{plain(condition.condition)}/{key}", value.mean)


def similarity_pictures(evaluation: Evaluation) -> dict[str, np.ndarray]:
    """Draw histograms (height, width, 3) of the similarities of conversions and of real pairs.

    Args:
        evaluation: The results; bars below its verification threshold are red.

    Returns:
        The histograms by name.
    """
    found = {}
    for judge in VOICE_JUDGES:
        to_target = [c.scores.value(f"{judge}/to_target") for c in evaluation.conversions]
        scores = {"conversions": [np.nan if score is None else score for score in to_target]}
        verified = evaluation.verified.get(judge)
        if not verified and np.isnan(scores["conversions"]).all():
            continue
        threshold = -np.inf
        if verified:
            threshold = verified[EVERYWHERE].threshold
            scores["one_speaker"] = verified[EVERYWHERE].same
            scores["two_speakers"] = verified[EVERYWHERE].different
        for name, values in scores.items():
            found[f"{judge}_similarity/{name}"] = pixels(
                histogram(
                    f"{judge}, {name.replace('_', ' ')}, red below the threshold",
                    *("cosine", "pairs", np.array(values), SIMILARITY_EDGES),
                    partial(np.greater, threshold),
                )
            )
    return found
