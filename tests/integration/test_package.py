"""The package as its users get it: imported, as a wheel, and through torch.hub."""

import os
import re
import runpy
import shutil
import subprocess
import sys
import tarfile
import zipfile

import nbclient
import nbformat
import numpy as np
import pytest
import soundfile
import torch
import yaml
from hatchling import build
from omegaconf import OmegaConf

from helpers import ROOT, SOURCE, TARGET
from vc_lightning import VoiceConverter
from vc_lightning.common import resources

TRAINING_ONLY = ("pytorch_lightning", "hydra", "omegaconf", "tensorboard", "sklearn")
HEAVY = ("av", "torch._dynamo", "scipy.signal", "scipy.ndimage", "scipy.optimize", "numba")
WEIGHTS = (
    *("autovc", "griffin_lim", "live_adapter", "pitch_tracker", "recogniser", "source_filter"),
    *("speaker_critic", "speaker_encoder", "wavernn"),
)
SLOW = ("scipy.signal", "scipy.ndimage", "numba")  # to import
COMMANDS = ("app", "prepare", "train", "convert", "voices", "evaluate", "export", "live")


def python(code, *arguments, **environment):
    """Run code in a new process, and return its output."""
    result = subprocess.run(
        [sys.executable, "-c", code, *map(str, arguments)],
        capture_output=True,
        text=True,
        env=os.environ | {"OMP_NUM_THREADS": "1"} | environment,
        cwd=environment.get("PWD"),
    )
    assert result.returncode == 0, result.stderr
    return result.stdout


def test_import_is_light():
    loaded = set(python("import sys, vc_lightning; print(*sys.modules)").split())
    assert "vc_lightning" in loaded
    assert loaded.isdisjoint(("torch", "numpy", *TRAINING_ONLY, *HEAVY))
    used = "import sys; from vc_lightning import VoiceConverter; print(*sys.modules)"
    loaded = set(python(used).split())
    assert {"torch", "vc_lightning.conversion.converter"} <= loaded
    assert loaded.isdisjoint(TRAINING_ONLY + HEAVY)


def test_conversion_imports_are_light(tmp_path):
    code = f"""
import sys
sys.modules.update(dict.fromkeys({TRAINING_ONLY + SLOW}))  # importing these now raises ImportError
from vc_lightning import VoiceConverter
from vc_lightning.audio.files.io import save
converter = VoiceConverter.from_pretrained()
save(sys.argv[3], converter.convert(sys.argv[1], sys.argv[2]), converter.sample_rate)
"""
    output = tmp_path / "converted.wav"
    python(code, SOURCE, TARGET, output)
    with pytest.raises(AssertionError, match="hydra"):
        python(
            code.replace(
                "vc_lightning.audio.files.io", "vc_lightning.commands.support.entry_point"
            ),
            SOURCE,
            TARGET,
            output,
        )
    found, sample_rate = soundfile.read(output)
    assert sample_rate == 16_000
    assert len(found) == soundfile.info(SOURCE).frames
    assert np.sqrt(np.mean(found**2)) > 0.01


def test_settings_equal_hydras():
    """PyYAML reads 1e-3 as text, OmegaConf as a number."""
    paths = sorted(resources.CONF.rglob("*.yaml"))
    assert len(paths) > 30
    for path in paths:
        ours = yaml.safe_load(path.read_text(encoding="utf-8"))
        assert ours == OmegaConf.to_container(OmegaConf.load(path)), path


@pytest.fixture(scope="module")
def sources(tmp_path_factory):
    """The unpacked source distribution."""
    folder = tmp_path_factory.mktemp("dist")
    with pytest.MonkeyPatch.context() as patch:  # a build reads the current folder
        patch.chdir(ROOT)
        archive = folder / build.build_sdist(str(folder))
    with tarfile.open(archive) as file:
        file.extractall(folder, filter="data")
    return folder / archive.name.removesuffix(".tar.gz")


@pytest.fixture(scope="module")
def wheel(sources):
    """The wheel, built from the source distribution, as `python -m build` does."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(sources)
        return sources.parent / build.build_wheel(str(sources.parent))


def test_source_distribution_holds_only_the_project(sources):
    folders = {path.name for path in sources.iterdir() if path.is_dir()}
    named = "src conf checkpoints docs examples tests scripts benchmarks"
    assert folders == set(named.split())
    for name in ("train.py", "README.md", "LICENSE", "constraints.txt", "pyproject.toml"):
        assert (sources / name).is_file()


def test_wheel_contents(wheel):
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
        [entry_points] = (name for name in names if name.endswith("entry_points.txt"))
        entry_points = archive.read(entry_points).decode()
    package = ROOT / "src" / "vc_lightning"
    expected = {f"vc_lightning/{p.relative_to(package)}" for p in package.rglob("*.py")}
    conf = resources.CONF
    expected |= {f"vc_lightning/conf/{p.relative_to(conf)}" for p in conf.rglob("*.yaml")}
    expected |= {f"vc_lightning/checkpoints/{name}.safetensors" for name in WEIGHTS}
    expected |= {"vc_lightning/checkpoints/weights.json"}
    assets = package / "service" / "page" / "assets"
    expected |= {f"vc_lightning/{p.relative_to(package)}" for p in assets.iterdir()}
    expected |= {"vc_lightning/py.typed"}
    assert {name for name in names if ".dist-info/" not in name} == expected
    for command in COMMANDS:
        assert f"vc-{command} = vc_lightning.commands.{command}:run\n" in entry_points
        assert (ROOT / f"{command}.py").is_file()
    assert wheel.stat().st_size < 80 * 2**20


def test_wheel_works_in_other_folder(wheel, tmp_path):
    installed = tmp_path / "installed"
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(installed)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    environment = {"PYTHONPATH": str(installed), "PWD": str(elsewhere)}
    where = "import vc_lightning.common.resources as r; print(r.CONF, r.command('train'))"
    assert python(where, **environment).split() == [f"{installed}/vc_lightning/conf", "vc-train"]
    run = "from vc_lightning.commands.{} import run; run()"
    arguments = f"source={SOURCE}", f"target={TARGET}", "vocoder=griffin_lim", "vocoder.n_iter=1"
    output = python(run.format("convert"), *arguments, **environment)
    assert output.startswith("conversion.wav: 6.05 s of sound")
    assert [path.name for path in elsewhere.iterdir()] == ["conversion.wav"]
    assert "vc-convert source=a.wav" in python(run.format("convert"), "--help", **environment)


def test_torch_hub_equals_package():
    code = """
import sys, torch
sys.path = [path for path in sys.path if not path.endswith("src")]  # as if not installed
root = sys.argv[1]
converter = torch.hub.load(root, "voice_converter", source="local")
encoder = torch.hub.load(root, "speaker_encoder", source="local")
print(type(converter).__name__, converter.card.step, type(encoder).__name__)
"""
    step = VoiceConverter.from_pretrained().card.step
    assert python(code, ROOT) == f"VoiceConverter {step} GE2E\n"
    hubconf = runpy.run_path(str(ROOT / "hubconf.py"))
    assert {name for name, value in hubconf.items() if callable(value)} == {
        "voice_converter",
        "speaker_encoder",
    }  # all that torch.hub.list shows


def test_torch_hub_takes_a_checkpoint(tiny_checkpoint):
    checkpoint = str(tiny_checkpoint)
    converter = torch.hub.load(str(ROOT), "voice_converter", source="local", checkpoint=checkpoint)
    assert converter.card.step == 7


@pytest.mark.slow
def test_notebook_runs_with_the_wheel(wheel, tmp_path, monkeypatch):
    """Every cell of the notebook, its installation too; only the dependencies are there already."""
    notebook = nbformat.read(ROOT / "examples" / "colab.ipynb", as_version=4)
    for recording in (SOURCE, TARGET):
        shutil.copy(recording, tmp_path)
    installed = tmp_path / "installed"
    for name, value in {
        "PACKAGE": str(wheel),
        "PIP_TARGET": str(installed),
        "PIP_NO_DEPS": "1",
        "PIP_NO_INDEX": "1",
        "PYTHONPATH": str(installed),
        "XDG_CACHE_HOME": str(tmp_path / "cache"),
        "STEPS": "2",
        "OMP_NUM_THREADS": "1",
    }.items():
        monkeypatch.setenv(name, value)
    resources = {"metadata": {"path": str(tmp_path)}}
    nbclient.NotebookClient(notebook, timeout=280, resources=resources).execute()
    printed = "".join(o.get("text", "") for c in notebook.cells for o in c.get("outputs", []))
    assert re.search(r"similarity to the voice: before 0\.\d\d, after 0\.[6-9]\d", printed)
    assert re.search(r"similarity to the voice after training: 0\.\d\d", printed), printed
    sounds = [o for c in notebook.cells for o in c.get("outputs", []) if "data" in o]
    assert sum("audio" in o["data"].get("text/html", "") for o in sounds) == 4
