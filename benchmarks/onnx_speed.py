"""Speed of the exported network compared with PyTorch's, on one thread.

    python benchmarks/onnx_speed.py

Prints milliseconds of CPU time for six seconds of mel, and the largest difference of the results.
"""

import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnxruntime
import torch

from vc_lightning.common import resources
from vc_lightning.models.checkpoints import read_autovc
from vc_lightning.models.files.onnx_export import ConvertedMel, example_inputs, export_converter

SECONDS = 6
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
    torch.manual_seed(0)
    autovc, card = read_autovc(resources.AUTOVC)
    network = ConvertedMel(autovc)
    n_frames = round(SECONDS * card.mel["sample_rate"] / card.mel["hop_length"])
    inputs = {
        name: torch.rand(1, example.shape[1], *[n_frames] * (example.ndim - 2))
        for name, example in example_inputs(autovc)[0].items()
    }
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
