"""Memory and time that cleaning a long recording takes (extra cleanup).

python benchmarks/cleanup_memory.py [MINUTES]
"""

import sys
import time
import tracemalloc
from collections.abc import Callable

import numpy as np
import pyloudnorm

from vc_lightning.audio import cleanup
from vc_lightning.audio.files import io
from vc_lightning.audio.spill_buffer import SpillBuffer
from vc_lightning.common.resources import ROOT


def main(minutes: float) -> None:
    """Print the peak memory of NumPy arrays and the CPU time of every step."""
    speech, rate = io.load(ROOT / "examples" / "source.wav")
    buffer = SpillBuffer()
    for _ in range(round(minutes * 60 * rate / len(speech))):
        buffer.append(speech)
    wav = buffer.array()
    print(f"{len(wav) / rate / 60:.1f} minutes at {rate} Hz")
    steps = {
        "cleanup.denoise=true": lambda wav: cleanup.denoised(wav, rate),
        "cleanup.trim=true": lambda wav: cleanup.trimmed(wav, rate),
        "cleanup.loudness=-23": lambda wav: cleanup.normalize_loudness(wav, rate, -23),
        "(pyloudnorm on the whole)": lambda wav: pyloudnorm.Meter(rate).integrated_loudness(
            wav.astype(np.float64)
        ),
    }
    for name, step in steps.items():
        step(speech)  # imports
        mebibytes, seconds = cost(step, wav)
        print(f"{name:<26} {mebibytes:6.0f} MiB {seconds:8.1f} s", flush=True)


def cost(step: Callable[[np.ndarray], object], wav: np.ndarray) -> tuple[float, float]:
    """Measure a step's peak memory in MiB, without temporary files, and its CPU time."""
    tracemalloc.start()
    started = time.process_time()
    step(wav)
    seconds = time.process_time() - started
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return peak / 2**20, seconds


if __name__ == "__main__":
    main(float(sys.argv[1]) if len(sys.argv) > 1 else 60)
