"""Speed of WaveRNN on this machine, compared with that of its matrix products.

    python benchmarks/vocoder_speed.py
    python benchmarks/vocoder_speed.py --public FOLDER --seconds 4,20 --training
    python benchmarks/vocoder_speed.py --stream-minutes 60 model=wavernn_multiband mel=autovc
    python benchmarks/vocoder_speed.py --weights FILE --output FOLDER

Without weights the network is random, which does not change its speed. It has the public size, or
that of the arguments with `=`, which are those of train.py.
`--public` names a clone of github.com/fatchord/WaveRNN, whose `generate` then gets the same weights
and mels (batched, target 11 000, overlap 550), in turns with ours; `--training` also compares steps
of training. With weights the sound of the example is compared with the recording, too; `--output`
keeps it for listening and scoring. OMP_NUM_THREADS=1 is faster while another program keeps a core
busy.

`--products` prints only how fast PyTorch and ONNX Runtime multiply the weights of a step of the
public size with 1 to 64 columns: a step cannot be faster than its products. `--cpu-time` counts CPU
time in place of wall time: for one thread on a machine that runs other programs.
"""

import argparse
import re
import resource
import statistics
import sys
import time
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from hydra.utils import instantiate
from torch import Tensor, nn
from torch.nn import functional as F

from vc_lightning.audio.files import io
from vc_lightning.audio.mel import MelSpectrogram
from vc_lightning.common import resources
from vc_lightning.models import checkpoints
from vc_lightning.models.vocoders.griffin_lim.network import log_spectral_distance
from vc_lightning.models.vocoders.wavernn import batched_generation
from vc_lightning.models.vocoders.wavernn.multiband import MultiBandWaveRNN
from vc_lightning.models.vocoders.wavernn.network import WaveRNN
from vc_lightning.models.vocoders.wavernn.recurrence import RunningSteps, product_dtype

sys.path.insert(0, str(Path(__file__).parent))

from train_speed import composed, matmul_gflops

Network = WaveRNN | MultiBandWaveRNN
Public = Any  # the public network; its code has no types

PUBLIC_SIZE = ["experiment=wavernn", "model=wavernn", "mel=wavernn"]
BATCH, SEGMENT = 32, 5  # sequences and frames of a step of the public training
TARGET, OVERLAP = 11_000, 550  # samples, of the public generate
TEACHER_FRAMES = 40


class Timer:
    """The clock of all measurements."""

    now: Callable[[], float] = time.perf_counter


def public_network(folder: str, network: WaveRNN, sample_rate: int) -> Public:
    """Build the public network with our weights; drop what it prints and saves."""
    display = types.ModuleType("utils.display")
    vars(display).update(time=time, progbar=lambda *_: "", stream=lambda *_: None)
    dsp = types.ModuleType("utils.dsp")
    vars(dsp).update(save_wav=lambda *_: None, decode_mu_law=lambda wav, *_: wav)
    package = types.ModuleType("utils")
    package.__path__ = [str(Path(folder) / "utils")]
    sys.modules |= {"utils": package, "utils.display": display, "utils.dsp": dsp}
    sys.path.insert(0, folder)
    vars(np).setdefault("cumproduct", np.cumprod)  # its name before NumPy 2
    from models.fatchord_version import WaveRNN as PublicWaveRNN

    sizes = network.arguments
    public = PublicWaveRNN(
        rnn_dims=sizes["rnn_dims"],
        fc_dims=sizes["fc_dims"],
        bits=sizes["bits"],
        pad=sizes["pad"],
        upsample_factors=sizes["upsample_factors"],
        feat_dims=sizes["n_mels"],
        compute_dims=sizes["compute_dims"],
        res_out_dims=sizes["res_out_dims"],
        res_blocks=sizes["res_blocks"],
        hop_length=network.hop_length,
        sample_rate=sample_rate,
        mode=sizes["mode"],
    )
    state = {public_name(name): value for name, value in network.state_dict().items()}
    public.load_state_dict(state | {"step": torch.zeros(1, dtype=torch.long)})
    return public.eval()


def public_name(name: str) -> str:
    name = re.sub(r"^input\.", "I.", name)
    return re.sub(r"smoothing\.(\d+)", lambda match: f"up_layers.{2 * int(match[1]) + 1}", name)


def of_one_band(network: Network, option: str) -> WaveRNN:
    """Return the network for an option that takes no multi-band one."""
    if isinstance(network, WaveRNN):
        return network
    raise SystemExit(f"{option} takes no {network.kind}: leave it out")


def flops_per_sample(network: Network) -> float:
    """Count the floating-point operations of a sample, two for each weight of a step."""
    of_frames = ("upsample.", "frames.", "predictor.", "envelope")
    weights = (p for n, p in network.named_parameters() if not n.startswith(of_frames))
    n_bands = network.bands if isinstance(network, MultiBandWaveRNN) else 1
    return 2 * sum(p.numel() for p in weights if p.ndim > 1) / n_bands


def seconds_of(call: Callable[..., object], *arguments: object) -> float:
    start = Timer.now()
    call(*arguments)
    return Timer.now() - start


class Report:
    """Print a line for each way to generate sound."""

    def __init__(self, network: Network, sample_rate: int):
        self.network = network
        self.sample_rate = sample_rate
        print("sound    what                        s     kHz  real-time factor  GFLOP/s")

    def line(self, what: str, n_frames: int, seconds: float, remark: str = "") -> None:
        n_samples = n_frames * self.network.hop_length
        sound = n_samples / self.sample_rate
        gflops = flops_per_sample(self.network) * n_samples / seconds / 1e9
        print(
            f"{sound:5.1f} s  {what:22} {seconds:6.2f} {n_samples / seconds / 1e3:7.1f} "
            f"{seconds / sound:17.3f} {gflops:8.0f}  {remark}",
            flush=True,
        )


def compare(report: Report, public: Public | None, lengths: list[int], repeats: int) -> None:
    """Time our `generate` and the public one in turns."""
    network = report.network
    for n_frames in lengths:
        mel = torch.rand(1, network.arguments["n_mels"], n_frames)
        ours, theirs = [], []
        for _ in range(repeats):
            ours.append(seconds_of(network.generate, mel))
            if public:
                arguments = (mel, "", True, TARGET, OVERLAP, False)
                theirs.append(seconds_of(public.generate, *arguments))
        median = statistics.median(ours)
        if public:
            of_public = statistics.median(theirs)
            report.line("public", n_frames, of_public)
            report.line("ours", n_frames, median, f"{of_public / median:.1f} times as fast")
        else:
            report.line("ours", n_frames, median)


def compare_folds(
    report: Report,
    mel_spectrogram: MelSpectrogram,
    mel: Tensor,
    recording: Tensor | None,
    output: Path | None,
) -> None:
    """Measure speed and, with trained weights, the distance to the recording, by fold length."""
    n_frames = mel.shape[-1]
    for fold_frames in (4, 8, 12, 24, 48, n_frames):
        if fold_frames == n_frames and recording is None:
            continue  # takes minutes; without trained weights there is no sound to compare
        start = Timer.now()
        wav = report.network.generate(mel, fold_frames=(fold_frames, fold_frames))[0]
        seconds = Timer.now() - start
        remark = ""
        if recording is not None:
            length = min(len(wav), len(recording))
            spectra = (mel_spectrogram.log_magnitude(x[:length]) for x in (wav, recording))
            distance = log_spectral_distance(*spectra)
            remark = f"{distance:.2f} dB from the recording"
        if output:
            io.save(output / f"folds_{fold_frames}.wav", wav.numpy(), report.sample_rate)
        milliseconds = 1000 * fold_frames * report.network.hop_length / report.sample_rate
        report.line(f"folds of {milliseconds:.0f} ms", n_frames, seconds, remark)


def measure_stream(network: Network, sample_rate: int, minutes: float) -> None:
    """Measure the time to the first piece of a stream, and the memory of the rest."""
    n_frames = int(60 * minutes * sample_rate / network.hop_length)
    mel = torch.rand(network.arguments["n_mels"], 1).expand(1, -1, n_frames)
    before = peak_megabytes()
    start = Timer.now()
    pieces = network.generate_stream(mel)
    first = next(pieces)
    waited = Timer.now() - start
    n_samples = first.shape[1] + sum(piece.shape[1] for piece in pieces)
    seconds = Timer.now() - start
    assert n_samples == n_frames * network.hop_length
    print(
        f"\nstream of {minutes:g} min: first sound after {waited:.2f} s, real-time factor "
        f"{seconds / minutes / 60:.3f}, peak memory {before:.0f} -> {peak_megabytes():.0f} MB"
    )


def peak_megabytes() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def measure_logits(network: WaveRNN, mel: Tensor, wav: Tensor) -> None:
    """Measure the distance of the fast recurrence's logits from `forward` in float64.

    Args:
        network: The network.
        mel: Mel (1, n_mels, T).
        wav: Past samples (≥ T·hop) that both receive.
    """
    mel = mel[..., : TEACHER_FRAMES + 2 * network.pad]
    start = network.pad * network.hop_length
    wav = wav[None, start : start + TEACHER_FRAMES * network.hop_length]
    with torch.inference_mode():
        expected = network.double()(F.pad(wav[:, :-1], (1, 0)).double(), mel.double())
    network.float()
    spread = expected.std(dim=1).mean()
    for dtype in dict.fromkeys((torch.float32, product_dtype(network))):
        logits: list[Tensor] = []

        def choose(step: int, now: Tensor, logits: list[Tensor] = logits) -> Tensor:
            logits.append(now.clone())
            return wav[:, step : step + 1]

        RunningSteps(network, len(mel), dtype).run(mel, choose)
        error = (torch.stack(logits, dim=1) - expected).square().mean().sqrt()
        print(
            f"teacher-forced logits, products in {str(dtype)[6:]}: root mean square error "
            f"{error:.1e}, {error / spread:.1e} of their spread"
        )


def compare_training(network: Network, public: Public | None) -> None:
    """Time steps of training with Adam, forward and backward, on a batch of noise."""
    n_frames = SEGMENT + 2 * network.pad
    mel = torch.rand(BATCH, network.arguments["n_mels"], n_frames)
    wav = 0.1 * torch.randn(BATCH, n_frames * network.hop_length)

    def ours() -> Tensor:
        return -network.log_prob(wav, mel).mean()

    ways: dict[str, tuple[nn.Module, Callable[[], Tensor], bool]] = {
        "ours, float32": (network, ours, False),
        "ours, bfloat16": (network, ours, True),
    }
    if public:
        from utils.distribution import discretized_mix_logistic_loss

        def theirs() -> Tensor:
            inner = wav[:, : SEGMENT * network.hop_length]
            return discretized_mix_logistic_loss(public(inner, mel), inner[..., None])

        ways["public, float32"] = (public, theirs, False)
    print(f"\ntraining on {BATCH} segments of {SEGMENT} frames  s/step  samples/s")
    for name, (trained, loss, bf16) in ways.items():
        optimizer = torch.optim.Adam(trained.train().parameters())
        seconds = min(seconds_of(training_step, optimizer, loss, bf16) for _ in range(3))
        n_samples = BATCH * SEGMENT * network.hop_length
        print(f"{name:36} {seconds:9.2f} {n_samples / seconds:10.0f}", flush=True)


def training_step(optimizer: torch.optim.Optimizer, loss: Callable[[], Tensor], bf16: bool) -> None:
    optimizer.zero_grad()
    with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
        value = loss()
    value.backward()
    optimizer.step()


def compare_products(network: WaveRNN) -> None:
    """Time the three large products of a step, one after the other, by number of folds."""
    hidden, fc_dims = network.rnn1.hidden_size, network.fc1.out_features
    shapes = ((6 * hidden + fc_dims, hidden), (3 * hidden + fc_dims, hidden), (fc_dims, fc_dims))
    weights = [torch.randn(shape) / shape[1] ** 0.5 for shape in shapes]
    counts = (1, 4, 16, 64)
    print("\nmilliseconds per step of so many folds, products alone")
    print(f"{'':36}" + "".join(f"{count:8}" for count in counts))
    for name, make in PRODUCTS.items():
        row = []
        for n_segments in counts:
            states = [torch.rand(n_segments, weight.shape[1]) for weight in weights]
            calls = [make(*pair) for pair in zip(weights, states, strict=True)]
            row.append(1000 * sum(min(seconds_of(call) for _ in range(20)) for call in calls))
        print(f"{name:36}" + "".join(f"{value:8.2f}" for value in row), flush=True)


def columns_product(dtype: torch.dtype) -> Callable[[Tensor, Tensor], Callable[[], object]]:
    """Compute weights @ columns, as `RunningSteps` does."""

    def make(weight: Tensor, states: Tensor) -> Callable[[], object]:
        weight, states = weight.to(dtype), states.t().contiguous().to(dtype)
        return lambda: torch.mm(weight, states)

    return make


def rows_product(dtype: torch.dtype) -> Callable[[Tensor, Tensor], Callable[[], object]]:
    """Compute rows @ weightsᵀ, as `nn.Linear` does."""

    def make(weight: Tensor, states: Tensor) -> Callable[[], object]:
        weight, states = weight.to(dtype), states.to(dtype)
        return lambda: F.linear(states, weight)

    return make


def onnx_product(int8: bool) -> Callable[[Tensor, Tensor], Callable[[], object]]:
    """Compute it by ONNX Runtime; int8 includes the quantisation of the states in every step."""

    def make(weight: Tensor, states: Tensor) -> Callable[[], object]:
        import onnxruntime
        from onnx import TensorProto, helper, numpy_helper

        matrix = weight.t().numpy()
        if int8:
            scale = np.abs(matrix).max(axis=0, keepdims=True) / 127
            matrix = np.round(matrix / scale).astype(np.int8)
            nodes = [
                helper.make_node("DynamicQuantizeLinear", ["x"], ["q", "s", "z"]),
                helper.make_node("MatMulInteger", ["q", "w", "z"], ["i"]),
                helper.make_node("Cast", ["i"], ["f"], to=TensorProto.FLOAT),
                helper.make_node("Mul", ["s", "scale"], ["both"]),
                helper.make_node("Mul", ["f", "both"], ["y"]),
            ]
            constants = [numpy_helper.from_array(matrix, "w")]
            constants.append(numpy_helper.from_array(scale.astype(np.float32), "scale"))
        else:
            nodes = [helper.make_node("MatMul", ["x", "w"], ["y"])]
            constants = [numpy_helper.from_array(np.ascontiguousarray(matrix), "w")]
        graph = helper.make_graph(
            nodes,
            "product",
            [helper.make_tensor_value_info("x", TensorProto.FLOAT, states.shape)],
            [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
            constants,
        )
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = torch.get_num_threads()
        session = onnxruntime.InferenceSession(
            model.SerializeToString(), options, providers=["CPUExecutionProvider"]
        )
        return lambda: session.run(None, {"x": states.numpy()})

    return make


PRODUCTS = {
    "PyTorch, float32, columns": columns_product(torch.float32),
    "PyTorch, float32, rows": rows_product(torch.float32),
    "PyTorch, bfloat16, columns (ours)": columns_product(torch.bfloat16),
    "PyTorch, bfloat16, rows": rows_product(torch.bfloat16),
    "ONNX Runtime, float32": onnx_product(int8=False),
    "ONNX Runtime, int8": onnx_product(int8=True),
}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--public", help="folder with the public models/ and utils/")
    parser.add_argument("--seconds", default="4,20", help="of sound, separated by commas")
    parser.add_argument("--repeats", type=int, default=3, help="their median is printed")
    parser.add_argument("--weights", type=Path, help="a WaveRNN file, ours or public")
    parser.add_argument("--output", type=Path, help="folder for sound of different folds")
    parser.add_argument("--stream-minutes", type=float, default=1)
    parser.add_argument("--products", action="store_true", help="only products of a step")
    parser.add_argument("--cpu-time", action="store_true", help="of the processor, not the clock")
    parser.add_argument("--training", action="store_true", help="also steps of training")
    parser.add_argument("overrides", nargs="*", help="as of train.py: model=wavernn_small")
    arguments = parser.parse_intermixed_args()

    if arguments.output:
        arguments.output.mkdir(parents=True, exist_ok=True)
    if arguments.cpu_time:
        Timer.now = time.process_time
    torch.manual_seed(0)
    if arguments.weights:
        network = checkpoints.load_wavernn(arguments.weights)
        mel_spectrogram = MelSpectrogram(**network.mel_settings)
    else:
        cfg = composed([*PUBLIC_SIZE, *arguments.overrides])
        network, mel_spectrogram = instantiate(cfg.model).eval(), instantiate(cfg.mel)
    sample_rate = mel_spectrogram.sample_rate
    wav, rate = io.load(resources.ROOT / "examples" / "source.wav")
    example = torch.from_numpy(mel_spectrogram.prepare(wav, rate))
    mel = mel_spectrogram(example)[None]
    recording = example if arguments.weights else None

    print(f"{torch.get_num_threads()} threads, torch {torch.__version__}")
    for dtype in (torch.float32, torch.bfloat16):
        print(
            f"matmul {str(dtype)[6:]:9} {matmul_gflops(dtype, 'cpu', now=Timer.now):8.0f} GFLOP/s"
        )
    print(f"{network.kind}: {flops_per_sample(network) / 1e6:.2f} MFLOP per sample\n")
    if arguments.products:
        compare_products(of_one_band(network, "--products"))
        return
    public = None
    if arguments.public:
        public = public_network(arguments.public, of_one_band(network, "--public"), sample_rate)
    network.generate(mel[..., : batched_generation.FOLD_FRAMES[0]])  # warms up
    measure_stream(network, sample_rate, arguments.stream_minutes)
    if isinstance(network, WaveRNN):
        measure_logits(network, mel, example)
    print()
    report = Report(network, sample_rate)
    lengths = [
        int(float(s) * sample_rate / network.hop_length) for s in arguments.seconds.split(",")
    ]
    compare(report, public, lengths, arguments.repeats)
    compare_folds(report, mel_spectrogram, mel, recording, arguments.output)
    if arguments.training:
        compare_training(network, public)


if __name__ == "__main__":
    main()
