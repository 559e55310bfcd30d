"""What holds for the project as a whole: its floors, its README, its files."""

import ast
import re
import runpy
import subprocess
import sys

import pytest
from conftest import ROOT, composed

PACKAGE = ROOT / "src" / "vc_lightning"
FLOORS = [
    {"errors", "resources", "precision", "tape", "uploads", "windows"},
    {
        "annotations",
        "audio",
        "augmentations",
        "charts",
        "distributions",
        "folding",
        "losses",
        "pitch",
        "pqmf",
        "schedulers",
    },
    {"cleanup", "judges", "magnitude", "metrics", "phases", "pitch_check", "provenance", "sizes"},
    {"layouts", "lstm", "mel", "feature_files", "multiband", "quality", "recurrence"},
    {"autovc", "griffin_lim", "speaker_encoder", "wavernn"},
    {"checkpoints", "features"},
    {"reconstructions", "resume", "utterances", "vocoders"},
    {"columns", "onnx_export", "pairs", "sampling", "voice_converter"},
    {"crops", "domains", "findings", "jobs", "outcomes", "segments", "voices"},
    {"pocket_sphinx", "robustness", "worst"},
    {"batch", "data", "doctor", "evaluation", "lit_network", "report", "studio"},
    {"callbacks", "lit_autovc", "lit_wavernn", "shards"},
    {"fragments", "samples", "streams", "weight_files"},
    {"cli", "diagnosis", "page"},
    {"commands.app", "commands.convert", "commands.evaluate", "commands.export", "commands.train"},
]
LIGHTNING = {"data", "lit_network", "lit_autovc", "lit_wavernn"}
LIGHTNING |= {"callbacks", "commands.train", "diagnosis", "samples", "streams", "weight_files"}
FLOOR_OF = {module: floor for floor, modules in enumerate(FLOORS) for module in modules}
PATHS = [path for path in sorted(PACKAGE.rglob("*.py")) if path.stem != "__init__"]
MODULES = [".".join(path.relative_to(PACKAGE).with_suffix("").parts) for path in PATHS]


def imports(module):
    """Top-level names of everything that a module imports; ours without the package."""
    names = set()
    for node in ast.walk(ast.parse((PACKAGE / f"{module.replace('.', '/')}.py").read_text())):
        if isinstance(node, ast.ImportFrom) and node.module == "vc_lightning":
            names |= {f"vc_lightning.{alias.name}" for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names.add(node.module)
        elif isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
    return names


@pytest.mark.parametrize("module", MODULES)
def test_imports_run_one_way(module):
    for name in imports(module):
        if name.startswith("vc_lightning."):
            assert FLOOR_OF[name.removeprefix("vc_lightning.")] < FLOOR_OF[module], (
                f"{module} imports {name}"
            )


@pytest.mark.parametrize("module", MODULES)
def test_only_the_upper_floors_know_lightning_and_hydra(module):
    names = {name.split(".")[0] for name in imports(module)}
    if module not in LIGHTNING:
        assert "pytorch_lightning" not in names
    if module != "cli" and not module.startswith("commands."):
        assert "hydra" not in names


def test_the_package_imports_without_lightning_and_hydra():
    code = "import sys, vc_lightning; print({'pytorch_lightning', 'hydra'} & set(sys.modules))"
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert result.stdout.strip() == "set()"


def test_every_choice_of_every_group_composes():
    for group in (ROOT / "conf").iterdir():
        if not group.is_dir() or group.name == "hydra":
            continue
        for choice in group.glob("*.yaml"):
            name = "convert" if group.name == "vocoder" else "train"
            composed(name, f"{group.name}={choice.stem}")


def quick_start():
    section = (ROOT / "README.md").read_text().split("## Quick start")[1].split("\n## ")[0]
    blocks = re.findall(r"```bash\n(.*?)```", section, re.DOTALL)
    assert len(blocks) == 1
    return blocks[0].splitlines()


def test_the_quick_start_is_two_commands_and_ci_runs_the_second():
    install, test = quick_start()
    assert "python convert.py source=examples/source.wav target=examples/target.wav" in install
    assert test in (ROOT / ".ci" / "run").read_text().splitlines()


@pytest.mark.parametrize("folder", ["benchmarks", "checkpoints", "docs"])
def test_scripts_find_what_they_import(folder, monkeypatch):
    """What no other test runs; the scripts themselves take minutes."""
    monkeypatch.syspath_prepend(ROOT / folder)  # as `python SCRIPT` does
    scripts = sorted((ROOT / folder).glob("*.py"))
    assert scripts
    for script in scripts:
        runpy.run_path(str(script), run_name="imported")


def test_the_architecture_is_drawn_from_the_shipped_checkpoint():
    script = runpy.run_path(str(ROOT / "docs" / "make_architecture.py"), run_name="imported")
    drawn = (ROOT / "docs" / "architecture.svg").read_text(encoding="utf-8")
    assert script["shipped"]() == drawn, "run python docs/make_architecture.py"


def test_tracked_weights_stay_small():
    sizes = [path.stat().st_size for path in (ROOT / "checkpoints").glob("*.safetensors")]
    assert 0 < sum(sizes) < 25 * 2**20


def test_paths_in_the_readme_exist():
    readme = (ROOT / "README.md").read_text()
    for link in re.findall(r"\]\(([^)#:]+)\)", readme):
        assert (ROOT / link).exists(), link
