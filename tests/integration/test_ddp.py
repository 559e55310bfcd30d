"""Training runs of several processes equal those of one."""

import multiprocessing
import os
import signal
import time

import pytest
import torch

from helpers import TINY, command, require_same_result, state, weights
from vc_lightning.common import resources
from vc_lightning.data.crops.mel import CropBatch
from vc_lightning.models.autovc import AutoVC
from vc_lightning.models.checkpoints import Card
from vc_lightning.training.tasks.autovc import AutoVCModule
from vc_lightning.training.tasks.base import RunSettings

KEPT = []  # DDP modules, which must not be destroyed before the process ends


class Loss(torch.nn.Module):
    """Computes the loss of a batch in `forward`, as DDP needs it."""

    def __init__(self, model):
        super().__init__()
        self.model = model

    def forward(self, batch):
        return self.model.losses(self.model.network, batch)["loss"]


def gradients(batch, rank=0, world_size=1, port=0):
    """Compute gradients of the loss in one of world_size processes, BatchNorm in eval mode."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    network = AutoVC(**TINY).eval()
    weighed = {"decoder_weight": 1.0, "content_weight": 1.0, "content_per_std": False}
    weighed |= {"distance": "l2", "teacher_weight": 0.0, "reconstruction_reaches_encoder": True}
    weighed |= {"live_weight": 0.0, "align_steps": 0, "head_steps": 0, "part": None}
    weighed |= {"reference_weight": 0.0, "critic_feature_weight": 0.0, "word_weight": 0.0}
    weighed |= {"critic_similarity_weight": 0.0, "voice_weight": 0.0, "conversion_weight": 0.0}
    weighed |= {"decoder_similarity_weight": 0.0}
    card = Card("autovc", network.arguments, resources.settings("mel", "autovc"))
    module = Loss(AutoVCModule(network, RunSettings(card, None, None, {}), **weighed))
    if world_size > 1:
        address = f"tcp://127.0.0.1:{port}"
        torch.distributed.init_process_group("gloo", address, rank=rank, world_size=world_size)
        module = torch.nn.parallel.DistributedDataParallel(module)
        KEPT.append(module)
    module(batch).backward()
    return {name: p.grad.clone() for name, p in network.named_parameters()}


def report(results, *arguments):
    results.put({name: gradient.numpy() for name, gradient in gradients(*arguments).items()})
    results.close()
    results.join_thread()
    os._exit(0)  # gloo's destructor may block forever


def share(batch, rows):
    """Select utterances of a batch."""
    return batch.apply(lambda tensor: tensor[rows])


@pytest.fixture
def free_port():
    import socket

    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        return listening.getsockname()[1]


def test_gradients_equal_single_process(free_port):
    """Even with unequal parts: one utterance of 9 frames, and three of up to 64."""
    torch.manual_seed(1)
    lengths = torch.tensor([9, 64, 40, 24])
    mels = torch.rand(2, 4, 80, 64) * (torch.arange(64) < lengths[:, None, None])
    voices = torch.rand(2, 4, 256)
    batch = CropBatch(
        *(mels[0], lengths, voices[0], mels[1], voices[1], torch.zeros(4, 64)),
        *(torch.zeros(4, 64, 0), torch.zeros(4, 0, 64), torch.zeros(4, 0)),
    )
    expected = gradients(batch)
    context = multiprocessing.get_context("spawn")
    results = context.Queue()
    shares = [share(batch, slice(0, 1)), share(batch, slice(1, 4))]
    processes = [
        context.Process(target=report, args=(results, part, rank, 2, free_port), daemon=True)
        for rank, part in enumerate(shares)
    ]
    for process in processes:
        process.start()
    for found in [results.get(timeout=120) for _ in processes]:
        for name, gradient in expected.items():
            torch.testing.assert_close(
                torch.from_numpy(found[name]), gradient, atol=1e-5 * gradient.abs().max(), rtol=1e-5
            )
    for process in processes:
        process.join()


def test_two_processes_write_one_set_of_files(arguments, tmp_path):
    """Together they draw the batches of one process."""
    process = command(
        *arguments(
            *("trainer=ddp", "trainer.accelerator=cpu", "trainer.devices=2", "logger=csv"),
            *("data.batch_size=1", f"data.cache_dir={tmp_path}/cache", "trainer.max_steps=5"),
        )
    )
    assert process.returncode == 0, process.output
    assert process.output.count("computing features of") == 1
    assert process.output.count("this run:") == 1
    assert "Traceback" not in process.output
    assert "error:" not in process.output
    folder = tmp_path / "run"
    assert weights(folder, 5, "average")[1].step == 5
    content = torch.load(folder / "checkpoints/last.ckpt", weights_only=True)
    assert content["global_step"] == 5
    assert content["VoiceDataModule"]["epoch_batches"] == 2  # of four utterances
    assert (folder / "csv/metrics.csv").read_text().count("\n") > 5


@pytest.fixture
def two_nodes(arguments, free_port, monkeypatch, tmp_path):
    """Start a training run on two nodes, two processes with the variables that torchrun sets."""
    processes = []

    def start(*more, name):
        monkeypatch.setenv("MASTER_ADDR", "127.0.0.1")
        monkeypatch.setenv("MASTER_PORT", str(free_port))
        variables = {"TORCHELASTIC_RUN_ID": "test", "WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "1"}
        started = []
        for rank in ("0", "1"):
            variables |= {"RANK": rank, "GROUP_RANK": rank, "LOCAL_RANK": "0"}
            for key, value in variables.items():
                monkeypatch.setenv(key, value)
            settings = ("trainer=ddp", "trainer.accelerator=cpu", "trainer.num_nodes=2")
            own = f"hydra.run.dir={tmp_path}/{name}", *settings, "data.batch_size=1", *more
            started.append(command(*arguments(*own, name=name), wait=False))
        processes.extend(started)
        return started

    yield start
    for process in processes:
        process.kill()


def wait_for(path, process):
    while not path.exists():
        assert process.poll() is None
        time.sleep(0.05)


def test_dead_node_ends_the_other(two_nodes, tmp_path):
    nodes = two_nodes("trainer.max_steps=100000", "checkpoint.resume_every_n_steps=1", name="run")
    wait_for(tmp_path / "run/checkpoints/last.ckpt", nodes[0])
    nodes[1].send_signal(signal.SIGKILL)
    output, _ = nodes[0].communicate(timeout=60)
    assert nodes[0].returncode == 2
    assert output.count("this run:") == 1
    assert "error: another process of this training run died" in output
    assert "Traceback" not in output
    assert state(tmp_path / "run")["global_step"] >= 1


@pytest.mark.by_hand
def test_two_nodes_resume_exactly(two_nodes, tmp_path):
    every_step = "checkpoint.resume_every_n_steps=1"
    nodes = two_nodes("trainer.max_steps=100000", every_step, name="killed")
    last = tmp_path / "killed/checkpoints/last.ckpt"
    wait_for(last, nodes[0])
    nodes[1].kill()
    nodes[0].communicate(timeout=60)
    steps = f"trainer.max_steps={state(tmp_path / 'killed')['global_step'] + 10}"
    for name, settings in {"resumed": [f"ckpt_path={last}"], "whole": []}.items():
        for node in two_nodes(steps, every_step, *settings, name=name):
            output, _ = node.communicate(timeout=120)
            assert node.returncode == 0, output
    require_same_result(tmp_path / "resumed", tmp_path / "whole")
