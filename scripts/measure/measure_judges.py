"""How well can the voice judges tell speakers apart, by domain?

    python scripts/measure/measure_judges.py SPLIT MANIFEST.tsv …

For every manifest, every two recordings of its split (at most ten of a speaker) are compared by
CAM++ and by GE2E. A row has the mean cosine of two recordings of one speaker and of two speakers,
the threshold at which equal shares of both are on the wrong side, and that share, the equal error
rate.
"""

import itertools
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np

from vc_lightning.conversion.converter import VoiceConverter
from vc_lightning.evaluation import domains, pairs
from vc_lightning.evaluation.scorers.networks.campplus import SpeakerJudge
from vc_lightning.evaluation.statistics import equal_error

MAX_RECORDINGS = 10  # of a speaker


def main(split: str, manifests: list[Path]) -> None:
    """Print one row for each judge and manifest."""
    converter, campplus = VoiceConverter.from_pretrained(), SpeakerJudge()
    rate = converter.sample_rate
    print(
        "| judge | domain | speakers | recordings | one speaker | two speakers | threshold | EER |"
    )
    print("|---|---|---:|---:|---|---|---:|---:|")
    for domain, manifest in zip(domains.names(manifests), manifests, strict=True):
        speakers = {
            speaker.name: [converter.load(path) for path in speaker.recordings[:MAX_RECORDINGS]]
            for speaker in pairs.speakers_of(manifest, None, split)
        }
        judges: dict[str, Callable[[np.ndarray], np.ndarray]] = {
            "CAM++": lambda wav: campplus.embed(wav, rate),
            "GE2E": converter.embed,
        }
        for judge, embed in judges.items():
            embedded = [(name, embed(wav)) for name, wavs in speakers.items() for wav in wavs]
            scores: dict[bool, list[float]] = {True: [], False: []}
            for (name, one), (other_name, other) in itertools.combinations(embedded, 2):
                scores[name == other_name].append(float(one @ other))
            same, different = scores[True], scores[False]
            threshold, error_rate = equal_error(same, different)
            print(
                f"| {judge} | {domain} | {len(speakers)} | {len(embedded)} "
                f"| {np.mean(same):.2f} ({len(same)}) | {np.mean(different):.2f} ({len(different)})"
                f" | {threshold:.2f} | {error_rate:.1%} |",
                flush=True,
            )


if __name__ == "__main__":
    main(sys.argv[1], [Path(name) for name in sys.argv[2:]])
