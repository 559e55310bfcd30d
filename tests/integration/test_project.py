"""The project as a whole: imports between its wings, configuration, README, scripts, files."""

import os
import re
import runpy
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from helpers import ROOT, composed

SCRIPTS = (
    *("benchmarks", "scripts/figures", "scripts/measure", "scripts/release", "scripts/weights"),
    "tests/fuzz",
)


def test_import_contracts():
    """Run in a new process, because import-linter disables loggers."""
    command = [Path(sys.executable).with_name("lint-imports"), "--no-cache"]
    environment = os.environ | {"PYTHONPATH": str(ROOT / "src")}
    result = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert result.returncode == 0, result.stdout


def test_package_import_is_light():
    code = (
        "import sys, vc_lightning, vc_lightning.common.plots\n"
        "print({'pytorch_lightning', 'hydra', 'matplotlib'} & set(sys.modules))"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert result.stdout.strip() == "set()"


def test_every_config_choice_composes():
    for group in (ROOT / "conf").iterdir():
        if not group.is_dir() or group.name == "hydra":
            continue
        for choice in group.glob("*.yaml"):
            name = {"vocoder": "convert", "cluster": "prepare", "corpus": "prepare"}.get(
                group.name, "train"
            )
            composed(name, f"{group.name}={choice.stem}")


def quick_start():
    section = (ROOT / "README.md").read_text().split("## Quick start")[1].split("\n## ")[0]
    blocks = re.findall(r"```bash\n(.*?)```", section, re.DOTALL)
    assert len(blocks) == 1
    return blocks[0].splitlines()


def test_quick_start_matches_ci():
    install, test = quick_start()
    assert "python convert.py source=examples/source.wav target=examples/target.wav" in install
    assert test in (ROOT / ".ci" / "run").read_text().splitlines()


def test_readme_is_short():
    assert len((ROOT / "README.md").read_text().splitlines()) <= 125


def test_version_is_in_changelog():
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())
    changelog = (ROOT / "CHANGELOG.md").read_text()
    assert f"## [{settings['project']['version']}]" in changelog


@pytest.mark.parametrize("folder", SCRIPTS)
def test_imports_of_scripts_exist(folder, monkeypatch):
    """No other test runs these scripts, which take minutes."""
    monkeypatch.syspath_prepend(ROOT / folder)  # as `python SCRIPT` does
    paths = sorted((ROOT / folder).glob("*.py"))
    scripts = [path for path in paths if not path.name.startswith("test_")]
    assert scripts
    for script in scripts:
        runpy.run_path(str(script), run_name="imported")


def test_architecture_figure_is_current():
    script = runpy.run_path(str(ROOT / "scripts/figures/make_architecture.py"), run_name="imported")
    drawn = (ROOT / "docs" / "architecture.svg").read_text(encoding="utf-8")
    assert script["shipped"]() == drawn, "run python scripts/figures/make_architecture.py"


def test_tracked_weights_stay_small():
    sizes = [path.stat().st_size for path in (ROOT / "checkpoints").glob("*.safetensors")]
    assert 0 < sum(sizes) < 80 * 2**20


def test_paths_in_the_readme_exist():
    readme = (ROOT / "README.md").read_text()
    for link in re.findall(r"\]\(([^)#:]+)\)", readme):
        assert (ROOT / link).exists(), link
