"""Submit the parts of a command to Slurm, or run them on this machine, through submitit."""

import logging
import shutil
import signal
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from hydra.core.hydra_config import HydraConfig
from hydra.utils import instantiate
from omegaconf import DictConfig

from vc_lightning.commands.support import builders
from vc_lightning.commands.support.overrides import key_of
from vc_lightning.common.errors import InputError, require_at_least
from vc_lightning.common.files import expand_user, require_writable
from vc_lightning.common.parts import Part

log = logging.getLogger(__name__)

SOME_FAILED = 1  # exit code of a part that is complete, but could not use some recordings
INSTALL = "pip install 'vc-lightning[cluster]'"


@dataclass(frozen=True)
class Cluster:
    """The place and the limits of a command's parts.

    Attributes:
        executor: "slurm", "local" (processes of this machine) or "debug" (one after the other).
        parts: Number of parts.
        folder: Folder of submitit's logs and pickles, on a disk that all machines share.
        wait: Whether to wait for the parts.
        timeout_min: Time limit of a part, in minutes, after which it is queued again.
        max_timeouts: How often a part may reach its time limit.
        resources: Further parameters of `submitit.AutoExecutor`; None leaves one out.
    """

    executor: Literal["slurm", "local", "debug"]
    parts: int
    folder: str
    wait: bool
    timeout_min: int
    max_timeouts: int
    resources: dict[str, Any]

    def __post_init__(self) -> None:
        require_at_least(1, "cluster", parts=self.parts, timeout_min=self.timeout_min)
        require_at_least(0, "cluster", max_timeouts=self.max_timeouts)


@dataclass(frozen=True)
class PartOfCommand:
    """One part of a command in a process of its own, as submitit calls it.

    When the part is preempted or its time is up, submitit calls `checkpoint`, and later calls the
    part again, which continues with its unfinished work.

    Attributes:
        arguments: The program and its arguments.
        folder: The working directory.
    """

    arguments: tuple[str, ...]
    folder: str

    def __call__(self) -> int:
        """Run the process to its end; return its exit code."""
        # Slurm signals all processes of a job: only submitit's own may react.
        with subprocess.Popen(self.arguments, cwd=self.folder, preexec_fn=_ignore_users) as process:
            try:
                return process.wait()
            except BaseException:  # submitit leaves by SystemExit
                process.terminate()
                raise

    def checkpoint(self) -> Any:
        """Return the same part, which submitit then queues again."""
        from submitit.helpers import DelayedSubmission

        return DelayedSubmission(self)


def _ignore_users() -> None:
    for number in (signal.SIGUSR1, signal.SIGUSR2):
        signal.signal(number, signal.SIG_IGN)


def is_split(cfg: DictConfig) -> bool:
    """Return whether a command works on one part, merges parts, or submits them."""
    return cfg.part is not None or bool(cfg.get("cluster"))


def run_parts(cfg: DictConfig, command: str, *pinned: str) -> bool:
    """Run a command in the parts of `cluster=`.

    Args:
        cfg: The composed configuration, whose `part` must be null.
        command: Name of the command's module in `vc_lightning.commands`.
        pinned: Overrides that all parts share, such as an output folder named by the time.

    Returns:
        Whether all parts are done; False with cluster.wait=false.

    Raises:
        InputError: submitit or Slurm is missing, a value is wrong, or a part failed.
    """
    if cfg.part is not None:
        raise InputError(f"part={cfg.part}: cluster= makes the parts; leave out one of the two")
    builders.require_valid_types(cfg)
    cluster = instantiate(cfg.cluster, _convert_="all")
    given = [*HydraConfig.get().overrides.hydra, *HydraConfig.get().overrides.task]
    replaced = {"cluster", *(override.partition("=")[0] for override in pinned)}
    kept = [one for one in given if key_of(one).partition(".")[0] not in replaced]
    program = f"from vc_lightning.commands.{command} import run; run()"
    parts = [
        PartOfCommand(
            (sys.executable, "-c", program, *kept, *pinned, f"part={number}/{cluster.parts}"),
            str(Path.cwd()),
        )
        for number in range(1, cluster.parts + 1)
    ]
    jobs = submit(cluster, parts, f"vc-{command}")
    if cluster.wait:
        wait(jobs)
    return cluster.wait


def submit(cluster: Cluster, parts: Sequence[PartOfCommand], name: str) -> list[Any]:
    """Submit parts as one array.

    Returns:
        submitit's jobs, in the order of the parts.

    Raises:
        InputError: submitit or Slurm is missing, or a parameter is unknown.
    """
    try:
        import submitit
    except ImportError:
        raise InputError(f"cluster: needs the package submitit: {INSTALL}") from None
    if cluster.executor == "slurm" and not (shutil.which("sbatch") and shutil.which("srun")):
        raise InputError(
            "cluster=slurm: sbatch and srun are not found; start the command on a machine of the "
            "cluster, or give cluster=local"
        )
    folder = require_writable(expand_user(cluster.folder), "cluster.folder", cluster.folder)
    limits = {}
    if cluster.executor != "debug":
        limits[f"{cluster.executor}_max_num_timeout"] = cluster.max_timeouts
    executor = submitit.AutoExecutor(folder, cluster=cluster.executor, **limits)
    given = {key: value for key, value in cluster.resources.items() if value is not None}
    try:
        executor.update_parameters(name=name, timeout_min=cluster.timeout_min, **given)
    except (AssertionError, NameError, TypeError, ValueError) as error:  # of submitit
        raise InputError(f"cluster.resources: {error}") from error
    with executor.batch():
        jobs = [executor.submit(part) for part in parts]
    log.info("%d parts submitted, jobs %s", len(jobs), ", ".join(job.job_id for job in jobs))
    log.info("logs:    %s", folder)
    return jobs


def wait(jobs: Sequence[Any]) -> None:
    """Wait for the parts, whose jobs are in their order, and report each.

    Raises:
        InputError: A part failed; the message names its log.
    """
    from submitit.helpers import as_completed

    number = {job.job_id: Part(n, len(jobs)) for n, job in enumerate(jobs, start=1)}
    failed = []
    for job in as_completed(jobs, poll_frequency=1):
        exception = job.exception()
        code = None if exception else job.result()
        if code in (0, SOME_FAILED):
            log.info("part %s is done", number[job.job_id])
        else:
            reason = f"ended with exit code {code}" if exception is None else "did not end"
            log.error("part %s %s; see %s", number[job.job_id], reason, job.paths.stderr)
            failed.append(str(number[job.job_id]))
    if failed:
        raise InputError(
            f"part {', '.join(failed)}: failed; give the same command again, finished work is kept"
        )
