"""Prints the voice similarities of the shipped AutoVC on the test split of a manifest.

python checkpoints/measure_autovc.py MANIFEST.tsv [N_PAIRS] [FOLDER_FOR_THE_SOUND]
"""

import csv
import sys
from collections import defaultdict
from pathlib import Path

import numpy as np

from vc_lightning import VoiceConverter, audio
from vc_lightning.speaker_encoder import similarity

VOICE = slice(3, 8)  # utterances of the target that make the voice
HELD_OUT = 9  # utterance of each speaker that judges the similarity


def main(manifest: Path, n_pairs: int, folder: Path | None) -> None:
    """Converts between speakers that no training has seen, one utterance a pair."""
    speakers = defaultdict(list)
    with manifest.open(encoding="utf-8") as file:
        for row in csv.DictReader(file, delimiter="\t"):
            if row["split"] == "test":
                speakers[f"{row['speaker']} ({row['sex']})"].append(manifest.parent / row["path"])
    names = sorted(speakers)
    distances = range(1, len(names))
    pairs = [(a, names[(i + d) % len(names)]) for d in distances for i, a in enumerate(names)]
    converter = VoiceConverter.from_pretrained()
    rows = []
    print("| source → target | before: to target | to source | after: to target | to source |")
    print("|---|---|---|---|---|")
    for index, (source, target) in enumerate(pairs[:n_pairs]):
        path = speakers[source][index % 3]
        wav = converter.convert(path, speakers[target][VOICE])
        judges = [converter.embed(speakers[s][HELD_OUT]) for s in (target, source)]
        values = [similarity(converter.embed(w), judge) for w in (path, wav) for judge in judges]
        rows.append(values)
        print(f"| {source} → {target} |", " | ".join(f"{v:.2f}" for v in values), "|")
        if folder:
            folder.mkdir(parents=True, exist_ok=True)
            audio.save(folder / f"{index}.wav", wav, converter.sample_rate)
            copy = converter.resynthesize(path)
            audio.save(folder / f"{index}_copy.wav", copy, converter.sample_rate)
            (folder / f"{index}.txt").write_text(str(path))
    print("| mean |", " | ".join(f"{v:.2f}" for v in np.mean(rows, axis=0)), "|")


if __name__ == "__main__":
    arguments = [*sys.argv[1:], *["12", ""][len(sys.argv) - 2 :]]
    main(Path(arguments[0]), int(arguments[1]), Path(arguments[2]) if arguments[2] else None)
