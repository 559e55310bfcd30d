"""Results of some of the pairs of an evaluation, in memory and in files."""

import hashlib
import zipfile
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from vc_lightning.common import parts
from vc_lightning.common.errors import InputError
from vc_lightning.common.files import atomic_path, read_json, write_json
from vc_lightning.common.parts import Part
from vc_lightning.evaluation.pairs import Pair
from vc_lightning.evaluation.robustness import ConditionResults
from vc_lightning.evaluation.scores import ScoredConversion, Scores

CODES = "codes"


@dataclass(frozen=True)
class PartialResults:
    """Results of some pairs.

    Attributes:
        conversions: The conversions by the number of their pair.
        conditions: Results for clean sources, then for each worse condition.
        embeddings: By voice judge, speaker embeddings (dim_emb,) of their recordings.
        codes: Codes (n_channels, T/freq) of their recordings; empty if codes are not scored.
        left_out: Reasons why scores were left out, with the number of pairs, or 0 if it has none.
    """

    conversions: dict[int, ScoredConversion] = field(default_factory=dict)
    conditions: list[ConditionResults] = field(default_factory=list)
    embeddings: dict[str, dict[Path, np.ndarray]] = field(default_factory=dict)
    codes: dict[Path, np.ndarray] = field(default_factory=dict)
    left_out: Counter[str] = field(default_factory=Counter)

    @classmethod
    def merged(cls, results: "Iterable[PartialResults]") -> "PartialResults":
        """Merge the results of several parts."""
        whole = cls()
        conditions: dict[str, ConditionResults] = {}
        for part in results:
            whole.conversions.update(part.conversions)
            for judge, embeddings in part.embeddings.items():
                whole.embeddings.setdefault(judge, {}).update(embeddings)
            whole.codes.update(part.codes)
            whole.left_out.update(part.left_out)
            for of_part in part.conditions:
                same = conditions.setdefault(of_part.condition, ConditionResults(of_part.condition))
                same.conversions.update(of_part.conversions)
                same.refused.extend(of_part.refused)
        whole.conditions.extend(conditions.values())
        return whole


class PartFiles:
    """Files in which the parts of an evaluation keep their results.

    A part writes two files each time it has finished some pairs: arrays in a .npz file, then a
    .json file that completes them. Both are named by the part and the first pair.

    Args:
        folder: Folder of the report.
        pairs: All pairs of the evaluation.
        settings: All other values on which the results depend.
    """

    def __init__(self, folder: Path, pairs: Sequence[Pair], settings: object):
        self.folder = folder
        self.pairs = pairs
        text = repr((list(pairs), settings))
        self.evaluation = hashlib.sha256(text.encode(errors="surrogateescape")).hexdigest()[:16]

    def load(self, part: Part | None = None) -> tuple[list[PartialResults], list[int]]:
        """Read the results of a part, or of all, and list the numbers of the pairs without results.

        Raises:
            InputError: The folder holds results of another evaluation.
        """
        paths = sorted(self._folder.glob(f"results_{f'{part.stem}_' if part else ''}*.json"))
        results = [found for found in map(self._load, paths) if found is not None]
        done = {index for found in results for index in found.conversions}
        all_pairs = range(len(self.pairs))
        wanted = part.block(all_pairs) if part else all_pairs
        return results, [index for index in wanted if index not in done]

    def save(self, part: Part, results: PartialResults) -> None:
        """Write the results of some pairs of a part, without their sound."""
        path = self._folder / f"results_{part.stem}_{min(results.conversions):06d}.json"
        kinds = results.embeddings | {CODES: results.codes}
        names = list(dict.fromkeys(name for found in kinds.values() for name in found))
        arrays = {
            f"{kind}_{n}": found[name]
            for kind, found in kinds.items()
            for n, name in enumerate(names)
            if name in found
        }
        with atomic_path(path.with_suffix(".npz")) as temporary:
            np.savez(temporary, **arrays)  # type: ignore[arg-type]  # no array is "allow_pickle"
        content = {
            "evaluation": self.evaluation,
            "conversions": _as_json(results.conversions),
            "conditions": [
                {
                    "condition": same.condition,
                    "conversions": _as_json(same.conversions),
                    "refused": same.refused,
                }
                for same in results.conditions
            ],
            "recordings": [str(name) for name in names],
            "left_out": results.left_out,
        }
        write_json(path, content)

    @property
    def _folder(self) -> Path:
        return self.folder / parts.FOLDER

    def _load(self, path: Path) -> PartialResults | None:
        """Read results; None where their files are missing or damaged."""
        try:
            content = read_json(path)
            evaluation = content["evaluation"]
            with np.load(path.with_suffix(".npz"), allow_pickle=False) as file:
                arrays = dict(file)
            if evaluation == self.evaluation:
                return self._decoded(content, arrays)
        except (OSError, ValueError, KeyError, TypeError, IndexError, zipfile.BadZipFile):
            return None
        raise InputError(
            f"{path}: is from an evaluation of other pairs or settings; name a new output folder"
        )

    def _decoded(self, content: dict, arrays: dict[str, np.ndarray]) -> PartialResults:
        conditions = [
            ConditionResults(
                same["condition"], _from_json(same["conversions"], self.pairs), same["refused"]
            )
            for same in content["conditions"]
        ]
        names = list(map(Path, content["recordings"]))
        found: dict[str, dict[Path, np.ndarray]] = {}
        for key, array in arrays.items():
            kind, _, number = key.rpartition("_")
            found.setdefault(kind, {})[names[int(number)]] = array
        codes = found.pop(CODES, {})
        conversions = _from_json(content["conversions"], self.pairs)
        left_out = Counter(content["left_out"])
        return PartialResults(conversions, conditions, found, codes, left_out)


def _as_json(conversions: dict[int, ScoredConversion]) -> dict[int, dict[str, object]]:
    return {
        index: {"scores": c.scores, "transcripts": c.transcripts}
        for index, c in conversions.items()
    }


def _from_json(
    content: dict[str, dict[str, dict]], pairs: Sequence[Pair]
) -> dict[int, ScoredConversion]:
    return {
        int(index): ScoredConversion(
            pairs[int(index)], None, Scores.from_json(values["scores"]), values["transcripts"]
        )
        for index, values in content.items()
    }
