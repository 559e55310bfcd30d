"""Utterances as columns: what the doctor counts, adds and compares."""

from collections.abc import Sequence

import numpy as np

from vc_lightning.audio.quality import Quality
from vc_lightning.data.manifest import Utterance

UNKNOWN = Quality(np.nan, 0, np.nan, np.nan, np.nan, np.nan)
MAX_NAMED = 3  # files or speakers in a sentence


class Columns:
    """One row an utterance; what is known of recordings stands at all their pieces.

    Args:
        qualities: of the recordings, by the hashes of their contents.
        voices: GE2E embeddings (n, embedding_size), those of `train` first; None where another
            encoder made them, whose cosines mean other things.
        mel: settings of the mels.

    Attributes:
        is_val, is_first: whether a row is of the validation, the first of its recording.
        speaker: index into `names`.
        seconds: of the utterance; `length`, `rate` (Hz), `snr_db`, `voiced`, `clipped` (shares):
            of its recording, NaN or 0 Hz where nothing is known.
    """

    def __init__(
        self,
        train: Sequence[Utterance],
        val: Sequence[Utterance],
        qualities: dict[str, Quality | None],
        voices: np.ndarray | None,
        mel: dict,
    ):
        self.utterances = [*train, *val]
        self.voices = voices
        self.is_val = np.arange(len(self.utterances)) >= len(train)
        paths = [utterance.path for utterance in self.utterances]
        first = {path: row for row, path in reversed(list(enumerate(paths)))}
        self.is_first = np.array([first[path] == row for row, path in enumerate(paths)])
        self.names = sorted({utterance.speaker for utterance in self.utterances})
        index = {name: i for i, name in enumerate(self.names)}
        self.speaker = np.array([index[utterance.speaker] for utterance in self.utterances])
        self.n_frames = np.array([utterance.n_frames for utterance in self.utterances])
        self.seconds = self.n_frames * mel["hop_length"] / mel["sample_rate"]
        known = [qualities.get(u.piece.content) or UNKNOWN for u in self.utterances]
        self.length = np.array([quality.seconds for quality in known])
        self.rate = np.array([quality.sample_rate for quality in known])
        self.snr_db = np.array([quality.snr_db for quality in known])
        self.voiced = np.array([quality.voiced for quality in known])
        self.clipped = np.array([quality.clipped for quality in known])

    def size(self, chosen: np.ndarray) -> tuple[int, int, float]:
        """Utterances, speakers and minutes of the rows that a mask (n,) chooses."""
        n_speakers = len(np.unique(self.speaker[chosen]))
        return int(chosen.sum()), n_speakers, float(self.seconds[chosen].sum() / 60)

    def by_speaker(self) -> list[np.ndarray]:
        """The rows of every speaker."""
        order = np.argsort(self.speaker, kind="stable")
        return np.split(order, np.searchsorted(self.speaker[order], np.arange(1, len(self.names))))

    def recordings(self, chosen: np.ndarray, badness: np.ndarray) -> str:
        """Counts and names the recordings of a mask (n,), those of the highest badness first."""
        rows = np.flatnonzero(chosen & self.is_first)
        rows = rows[np.argsort(-badness[rows], kind="stable")]
        minutes = self.seconds[chosen].sum() / 60
        return f"{number(len(rows), 'recording')} ({minutes:.1f} minutes; {self.paths(rows)})"

    def paths(self, rows: Sequence[int]) -> str:
        return listed([self.path(row) for row in rows[: MAX_NAMED + 1]])

    def path(self, row: int) -> str:
        """The last two parts of a file's path, which tell speaker and file in most corpora."""
        return "/".join(self.utterances[row].path.parts[-2:])


def number(count: int, noun: str) -> str:
    """ "1 file", "2 files"."""
    return f"{count} {noun}{'s' * (count != 1)}"


def listed(names: Sequence[str]) -> str:
    """The first names, and whether there are more."""
    return ", ".join(names[:MAX_NAMED]) + ", …" * (len(names) > MAX_NAMED)
