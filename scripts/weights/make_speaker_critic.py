"""Make checkpoints/speaker_critic.safetensors: train it to tell the speakers of a corpus apart.

python scripts/weights/make_speaker_critic.py MANIFEST.tsv 4500

The manifest has the columns path, speaker, split and, optionally, snr_db. Clean recordings of the
split train are used, at most eight of each speaker.
"""

import csv
import logging
import random
import sys
from collections import defaultdict
from pathlib import Path

import numpy as np
import torch
from torch.nn import functional as F

from vc_lightning.audio.files import io
from vc_lightning.audio.mel import MelSpectrogram
from vc_lightning.common import resources
from vc_lightning.common.errors import InputError
from vc_lightning.models import checkpoints
from vc_lightning.models.critics.speaker import SpeakerCritic
from vc_lightning.models.files.formats import Card

MIN_SNR_DB = 33
MAX_RECORDINGS = 8  # of a speaker
MIN_FRAMES = 100
CROP_FRAMES = (100, 128, 160)
N_BATCH = 32
LR, WARMUP, LAST_LR = 2e-3, 200, 0.02  # the last one as a share
SCALE, MARGIN, MARGIN_STEPS = 20.0, 0.2, 1000  # additive margin softmax, arXiv 1801.05599
LOG_EVERY = 200


def read(manifest: Path, mel: MelSpectrogram) -> dict[str, list[np.ndarray]]:
    """Compute the mels (n_mels, T) of each training speaker's clean recordings."""
    with manifest.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file, delimiter="\t"))
    paths = defaultdict(list)
    for row in rows:
        if row["split"] == "train" and float(row.get("snr_db") or 99) >= MIN_SNR_DB:
            paths[row["speaker"]].append(manifest.parent / row["path"])
    mels = {}
    for speaker, own in paths.items():
        found = []
        for path in random.sample(own, min(len(own), MAX_RECORDINGS)):
            try:
                wav = mel.prepare(*io.load(path))
            except InputError as error:
                logging.warning("skipped %s", error)
                continue
            one = mel(torch.from_numpy(wav)[None])[0].numpy()
            if one.shape[1] >= MIN_FRAMES:
                found.append(one.astype(np.float16))
        if found:
            mels[speaker] = found
    return mels


def crop(mels: list[np.ndarray], n_frames: int) -> np.ndarray:
    """Cut a random crop (n_mels, n_frames); a short recording is repeated."""
    mel = random.choice(mels)
    start = random.randrange(max(1, mel.shape[1] - n_frames + 1))
    return np.resize(mel[:, start : start + n_frames].T, (n_frames, len(mel))).T.astype(np.float32)


def augmented(mels: torch.Tensor) -> torch.Tensor:
    """Change the dynamics and the filter of mels (B, n_mels, T), and add noise to them."""
    size = len(mels)
    mels = mels * (1 + 0.1 * torch.randn(size, 1, 1))
    mels = mels + 0.02 * torch.randn(size, mels.shape[1], 1)
    return mels + 0.01 * torch.randn_like(mels) * torch.rand(size, 1, 1)


def train(mels: dict[str, list[np.ndarray]], n_mels: int, n_steps: int) -> SpeakerCritic:
    """Train a critic to name the speakers of crops."""
    critic = SpeakerCritic(n_mels)
    speakers = sorted(mels)
    names = torch.nn.Parameter(0.1 * torch.randn(len(speakers), critic.arguments["dim_emb"]))
    optimizer = torch.optim.AdamW([*critic.parameters(), names], lr=LR, weight_decay=1e-3)
    for step in range(n_steps):
        for group in optimizer.param_groups:
            group["lr"] = LR * min(1, (step + 1) / WARMUP) * max(LAST_LR, 1 - step / n_steps)
        n_frames = random.choice(CROP_FRAMES)
        chosen = torch.tensor([random.randrange(len(speakers)) for _ in range(N_BATCH)])
        crops = [crop(mels[speakers[index]], n_frames) for index in chosen]
        with torch.autocast("cpu", torch.bfloat16):
            embeddings = critic(augmented(torch.from_numpy(np.stack(crops))))[0]
        cosines = embeddings.float() @ F.normalize(names, dim=1).T
        margin = MARGIN * min(1, step / MARGIN_STEPS)
        logits = SCALE * (cosines - margin * F.one_hot(chosen, len(speakers)))
        loss = F.cross_entropy(logits, chosen)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if (step + 1) % LOG_EVERY == 0:
            named = (cosines.argmax(dim=1) == chosen).float().mean()
            print(f"{step + 1}: loss {loss.item():.3f}, named {named:.2f}", flush=True)
    return critic.eval()


def main(manifest: Path, n_steps: int) -> None:
    """Train the critic and write its weights as float16."""
    random.seed(0)
    torch.manual_seed(0)
    settings = resources.settings("mel", "autovc")
    mels = read(manifest, MelSpectrogram(**settings))
    print(f"{sum(map(len, mels.values()))} recordings of {len(mels)} speakers", flush=True)
    critic = train(mels, settings["n_mels"], n_steps)
    card = Card(
        critic.kind,
        critic.arguments,
        settings,
        step=n_steps,
        trained_on="see checkpoints/README.md",
        licence="CC BY-SA 4.0",
    )
    checkpoints.save(resources.SPEAKER_CRITIC, critic.state_dict(), card, torch.float16)


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
