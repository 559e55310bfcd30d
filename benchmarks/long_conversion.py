"""Memory and time of converting a long recording with convert.py.

    python benchmarks/long_conversion.py [MINUTES …] [vocoder=wavernn …]

The recording is a repeated example, in stereo at 44.1 kHz. Arguments with `=` are passed to
convert.py.
"""

import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import soundfile

from vc_lightning.audio.files import io
from vc_lightning.common.resources import ROOT

RATE = 44_100
FIELDS = {"VmRSS": "in all", "RssAnon": "without files"}  # files may be paged out


def main(arguments: list[str]) -> None:
    """Print a row for every length."""
    lengths = [float(argument) for argument in arguments if "=" not in argument] or [1, 10, 60]
    settings = [argument for argument in arguments if "=" in argument]
    with tempfile.TemporaryDirectory() as name:
        for minutes in lengths:
            source = write_recording(Path(name) / "long.flac", minutes)
            seconds, peaks = watched(
                [
                    *(sys.executable, ROOT / "convert.py", f"source={source}"),
                    *(f"target={ROOT / 'examples' / 'target.wav'}", f"output={name}/out.wav"),
                    *settings,
                ]
            )
            found = soundfile.info(Path(name) / "out.wav").duration / 60
            memory = ", ".join(f"{peak} MiB {FIELDS[field]}" for field, peak in peaks.items())
            print(f"{found:.0f} minutes: {seconds:.0f} s; at most {memory}", flush=True)


def write_recording(path: Path, minutes: float) -> Path:
    """Write so many minutes of speech."""
    speech = io.resample(*io.load(ROOT / "examples" / "source.wav"), RATE)
    stereo = np.stack([speech, speech], axis=1)
    left = round(minutes * 60 * RATE)
    with soundfile.SoundFile(path, "w", RATE, 2) as file:
        while left > 0:
            file.write(stereo[:left])
            left -= len(stereo)
    return path


def watched(command: list[str | Path]) -> tuple[float, dict[str, int]]:
    """Measure the seconds and the peak memory in MiB of a command."""
    started = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    status = Path(f"/proc/{process.pid}/status")
    peaks = dict.fromkeys(FIELDS, 0)
    while process.poll() is None:
        lines = dict(line.split(":", 1) for line in status.read_text().splitlines())
        for field in FIELDS.keys() & lines.keys():  # a process that ends has none
            peaks[field] = max(peaks[field], int(lines[field].split()[0]) // 1024)
        time.sleep(0.2)
    if process.returncode != 0:
        raise SystemExit(process.returncode)
    return time.perf_counter() - started, peaks


if __name__ == "__main__":
    main(sys.argv[1:])
