"""What the checks of the audit take, a table of utterances, and what they find."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from vc_lightning.audio.checks.quality import Quality
from vc_lightning.data.manifest import Utterance

SERIOUS, WARNING, HINT = SEVERITIES = ("serious", "warning", "hint")
UNKNOWN = Quality(np.nan, 0, np.nan, np.nan, np.nan, np.nan)
MAX_NAMED = 3  # files or speakers that a sentence names


@dataclass(frozen=True)
class Finding:
    """A problem and its remedy.

    Attributes:
        severity: One of `SEVERITIES`.
        problem: One sentence.
        remedy: What to do about it, one sentence.
    """

    severity: str
    problem: str
    remedy: str


class UtteranceTable:
    """One row per utterance; values of a recording are repeated for each of its segments.

    Args:
        train: Training utterances.
        val: Validation utterances.
        qualities: Qualities of the recordings by content hash; None where not measured.
        embeddings: GE2E embeddings (n, E), those of `train` first; None for another encoder, whose
            cosines have another scale.
        mel: Settings of the mels.

    Attributes:
        utterances: The utterances (n,), those of `train` first.
        embeddings, mel: See the arguments.
        names: Names of the speakers, sorted.
        is_val: Whether the utterance belongs to the validation set (n,).
        is_first: Whether the row is the first of its recording (n,).
        speaker: Index of the speaker in `names` (n,).
        n_frames: Number of mel frames (n,).
        seconds: Length of the utterance (n,).
        length: Length of the recording in seconds (n,); NaN where unknown.
        rate: Sample rate of the recording in Hz (n,); 0 where unknown.
        snr_db: Signal-to-noise ratio of the recording (n,); NaN where unknown.
        voiced: Share of speech in the recording (n,); NaN where unknown.
        clipped: Share of clipped samples in the recording (n,); NaN where unknown.
    """

    def __init__(
        self,
        train: Sequence[Utterance],
        val: Sequence[Utterance],
        qualities: dict[str, Quality | None],
        embeddings: np.ndarray | None,
        mel: dict,
    ):
        self.utterances = [*train, *val]
        self.embeddings = embeddings
        self.mel = mel
        self.is_val = np.arange(len(self.utterances)) >= len(train)
        paths = [utterance.path for utterance in self.utterances]
        first = {path: row for row, path in reversed(list(enumerate(paths)))}
        self.is_first = np.array([first[path] == row for row, path in enumerate(paths)])
        self.names = sorted({utterance.speaker for utterance in self.utterances})
        index = {name: i for i, name in enumerate(self.names)}
        self.speaker = np.array([index[utterance.speaker] for utterance in self.utterances])
        self.n_frames = np.array([utterance.n_frames for utterance in self.utterances])
        self.seconds = self.n_frames * mel["hop_length"] / mel["sample_rate"]
        known = [qualities.get(u.segment.content) or UNKNOWN for u in self.utterances]
        self.length = np.array([quality.seconds for quality in known])
        self.rate = np.array([quality.sample_rate for quality in known])
        self.snr_db = np.array([quality.snr_db for quality in known])
        self.voiced = np.array([quality.voiced for quality in known])
        self.clipped = np.array([quality.clipped for quality in known])

    def size(self, chosen: np.ndarray) -> tuple[int, int, float]:
        """Count utterances, speakers and minutes of the rows in a mask (n,)."""
        n_speakers = len(np.unique(self.speaker[chosen]))
        return int(chosen.sum()), n_speakers, float(self.seconds[chosen].sum() / 60)

    def by_speaker(self) -> list[np.ndarray]:
        """List the rows of every speaker."""
        order = np.argsort(self.speaker, kind="stable")
        return np.split(order, np.searchsorted(self.speaker[order], np.arange(1, len(self.names))))

    def recordings(self, chosen: np.ndarray, badness: np.ndarray) -> str:
        """Count and name the recordings in a mask (n,), the highest `badness` (n,) first."""
        rows = np.flatnonzero(chosen & self.is_first)
        rows = rows[np.argsort(-badness[rows], kind="stable")]
        minutes = self.seconds[chosen].sum() / 60
        return f"{number(len(rows), 'recording')} ({minutes:.1f} minutes; {self.paths(rows)})"

    def paths(self, rows: np.ndarray) -> str:
        """Name the files of the first `MAX_NAMED` of some rows."""
        return listed([self.path(row) for row in rows[: MAX_NAMED + 1]])

    def path(self, row: int) -> str:
        """Return the last two parts of a row's path, speaker and file in most corpora."""
        return "/".join(self.utterances[row].path.parts[-2:])


def number(count: int, noun: str) -> str:
    """Count things: "1 file", "2 files"."""
    return f"{count} {noun}{'s' * (count != 1)}"


def listed(names: Sequence[str]) -> str:
    """Join the first names, with an ellipsis where there are more."""
    return ", ".join(names[:MAX_NAMED]) + ", …" * (len(names) > MAX_NAMED)
