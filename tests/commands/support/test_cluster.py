"""Parts of a command as jobs of submitit."""

import os
import signal
import sys
import time
from pathlib import Path

import pytest
from hydra.errors import InstantiationException
from omegaconf import OmegaConf

from helpers import composed
from vc_lightning.commands.support import cluster, entry_point
from vc_lightning.commands.support.cluster import Cluster, PartOfCommand
from vc_lightning.common.errors import InputError

APPEND = "import sys; open(sys.argv[1], 'a').write(sys.argv[2]); sys.exit(int(sys.argv[3]))"


@pytest.fixture
def place(tmp_path):
    def place(executor, parts=2, **changes):
        settings = {"folder": str(tmp_path / "logs"), "wait": True, "timeout_min": 60}
        settings |= {"max_timeouts": 1, "resources": {}} | changes
        return Cluster(executor=executor, parts=parts, **settings)

    return place


def program(tmp_path, *arguments, code=APPEND):
    return PartOfCommand((sys.executable, "-c", code, *map(str, arguments)), str(tmp_path))


def test_parts_run_in_current_folder(place, tmp_path, caplog):
    caplog.set_level("INFO")
    parts = [program(tmp_path, f"{name}.txt", name, code) for name, code in (("a", 0), ("b", 1))]
    cluster.wait(cluster.submit(place("debug"), parts, "test"))
    assert [(tmp_path / f"{name}.txt").read_text() for name in "ab"] == ["a", "b"]
    assert "part 1/2 is done" in caplog.text
    assert "part 2/2 is done" in caplog.text  # exit code 1: some recordings were unusable


def test_names_failed_part_and_log(place, tmp_path, caplog):
    parts = [program(tmp_path, f"{name}.txt", name, code) for name, code in (("a", 0), ("b", 2))]
    with pytest.raises(InputError, match=r"^part 2/2: failed; give the same command again"):
        cluster.wait(cluster.submit(place("debug"), parts, "test"))
    assert "part 2/2 ended with exit code 2; see " in caplog.text


WAITS_ONCE = """
import pathlib, sys, time
begun, done = map(pathlib.Path, sys.argv[1:])
if not begun.exists():
    begun.write_text("")
    time.sleep(60)
done.write_text("whole")
"""


def children(process):
    return list(map(int, Path(f"/proc/{process}/task/{process}/children").read_text().split()))


def test_preempted_part_is_requeued(place, tmp_path):
    """As Slurm preempts: a signal to all processes of the job, to the program's own as well."""
    begun, done = tmp_path / "begun", tmp_path / "done"
    part = program(tmp_path, begun, done, code=WAITS_ONCE)
    (job,) = cluster.submit(place("local", parts=1), [part], "test")
    while not begun.exists():
        time.sleep(0.05)
    (submitted,) = children(job.job_id)  # by the process that stands for Slurm
    for process in [*children(submitted), submitted]:
        os.kill(process, signal.SIGUSR2)
    cluster.wait([job])
    assert done.read_text() == "whole"
    assert "Requeued" in job.stderr() + job.stdout()


def test_requeued_part_is_unchanged(tmp_path):
    part = program(tmp_path, "a.txt", "a", 0)
    assert part.checkpoint().function == part


def given(*task):
    return OmegaConf.create({"overrides": {"hydra": [], "task": list(task)}})


def test_parts_get_overrides(monkeypatch, tmp_path):
    """All but those of the cluster itself, and a number."""
    seen = {}
    task = ["source=a.wav", "cluster=debug", "cluster.parts=3", "+cluster.resources.x=1"]
    monkeypatch.setattr(cluster.HydraConfig, "get", lambda: given(*task))
    monkeypatch.setattr(cluster, "submit", lambda *arguments: seen.update(parts=arguments[1]) or [])
    cfg = composed("convert", "source=a.wav", "cluster=debug", "cluster.parts=3")
    cfg.cluster.folder = str(tmp_path)
    assert cluster.run_parts(cfg, "convert", "output=there")
    assert [part.arguments[3:] for part in seen["parts"]] == [
        ("source=a.wav", "output=there", f"part={n}/3") for n in (1, 2, 3)
    ]
    assert seen["parts"][0].arguments[2] == "from vc_lightning.commands.convert import run; run()"


@pytest.mark.parametrize(
    ("overrides", "reason"),
    [
        (["cluster.parts=0"], "cluster.parts=0: give an integer of at least 1"),
        (["cluster.parts=many"], "cluster.parts=many: give an integer"),
        (["cluster.executor=pbs"], "cluster.executor=pbs: give one of slurm, local, debug"),
        (["part=1/2"], "part=1/2: cluster= makes the parts"),
        (["+cluster.resources.slurm_color=red"], "cluster.resources: Unknown argument 'color'"),
        (["+cluster.resources.mem_gb=much"], 'cluster.resources: Parameter "mem_gb" expected'),
    ],
)
def test_refuses_bad_settings(monkeypatch, tmp_path, overrides, reason):
    monkeypatch.setattr(cluster.HydraConfig, "get", lambda: given())
    cfg = composed("convert", "cluster=local", f"cluster.folder={tmp_path}", *overrides)
    with pytest.raises((InputError, InstantiationException)) as error:
        cluster.run_parts(cfg, "convert")
    assert entry_point.explain(error.value).startswith(reason)


def test_refuses_missing_slurm(place, tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(InputError, match=r"^cluster=slurm: sbatch and srun are not found"):
        cluster.submit(place("slurm"), [], "test")


def test_slurm_array_and_limits(place, tmp_path, monkeypatch):
    """A stand-in for sbatch keeps what it was given."""
    folder = tmp_path / "bin"
    folder.mkdir()
    for name in ("sbatch", "srun"):
        script = folder / name
        script.write_text(f'#!/bin/sh\ncp "$1" {tmp_path}/script\necho Submitted batch job 42\n')
        script.chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")
    resources = {"cpus_per_task": 4, "slurm_partition": "gpu", "slurm_array_parallelism": 2}
    resources |= {"mem_gb": None, "slurm_qos": None}
    parts = [program(tmp_path, n) for n in range(3)]
    jobs = cluster.submit(place("slurm", 3, timeout_min=90, resources=resources), parts, "vc-test")
    assert [job.job_id for job in jobs] == ["42_0", "42_1", "42_2"]
    script = (tmp_path / "script").read_text()
    for line in ("--array=0-2%2", "--time=90", "--partition=gpu", "--cpus-per-task=4", "USR2@90"):
        assert line in script
    assert "--qos" not in script
    assert "--mem" not in script
