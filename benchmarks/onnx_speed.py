"""Speed of the exported network compared with PyTorch's, on one thread.

    python benchmarks/onnx_speed.py

Prints milliseconds of CPU time for the example's six seconds of mel, and the largest difference of
the results. Random mels would not do: there the network's LSTM layers make much of rounding.
"""

import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnxruntime
import torch

from vc_lightning.audio.files import io
from vc_lightning.audio.mel import MelSpectrogram
from vc_lightning.common import resources
from vc_lightning.models import pitch_tracker
from vc_lightning.models.checkpoints import load_speaker_encoder, read_autovc
from vc_lightning.models.files.onnx_export import ConvertedMel, example_inputs, export_converter

SOURCE, TARGET = (resources.ROOT / "examples" / name for name in ("source.wav", "target.wav"))
ROUNDS = 20


def milliseconds(work: Callable[[], object]) -> float:
    """Compute the median CPU time, after two rounds to warm up."""
    times = []
    for _ in range(ROUNDS + 2):
        started = time.process_time()
        work()
        times.append(1000 * (time.process_time() - started))
    return statistics.median(times[2:])


@torch.inference_mode()
def main() -> None:
    torch.set_num_threads(1)
    autovc, card = read_autovc(resources.AUTOVC)
    network, mel, encoder = ConvertedMel(autovc), MelSpectrogram(**card.mel), load_speaker_encoder()
    source, target = io.load(SOURCE), io.load(TARGET)
    wav = mel.prepare(*source)
    f0 = torch.from_numpy(pitch_tracker.track(wav, mel.sample_rate, mel.hop_length)).float()
    known = {
        "mel": mel(torch.from_numpy(wav)),
        "source_embedding": torch.from_numpy(encoder.embed_utterance(source[0])),
        "target_embedding": torch.from_numpy(encoder.embed_utterance(target[0])),
        "harmonics": mel.harmonics(f0[None])[0],
    }
    inputs = {name: known[name][None] for name in example_inputs(autovc)[0]}
    arrays = {name: tensor.numpy() for name, tensor in inputs.items()}
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    with tempfile.TemporaryDirectory() as folder:
        path = export_converter(resources.AUTOVC, Path(folder) / "converter.onnx")
        session = onnxruntime.InferenceSession(str(path), options)
    difference = np.abs(session.run(None, arrays)[0] - network(**inputs).numpy()).max()
    print(f"PyTorch {torch.__version__}: {milliseconds(lambda: network(**inputs)):.0f} ms")
    version = onnxruntime.__version__
    print(f"ONNX Runtime {version}: {milliseconds(lambda: session.run(None, arrays)):.0f} ms")
    print(f"largest difference: {difference:.1e}")


if __name__ == "__main__":
    main()
