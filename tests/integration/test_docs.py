"""The documentation: its settings, examples, notebook and links."""

import re
import runpy

import nbclient
import nbformat
import numpy as np
import pytest
import transformers

from helpers import ROOT
from vc_lightning.models.teachers import features_at_frames

DOCS = ROOT / "docs"


def python_block(page, name):
    """Find the first block of Python in a page that contains a name."""
    blocks = re.findall(r"```python\n(.*?)```", (DOCS / page).read_text("utf-8"), re.DOTALL)
    return next(block for block in blocks if name in block)


def test_configuration_page_is_current():
    script = runpy.run_path(str(ROOT / "scripts/docs/configuration.py"), run_name="imported")
    page = (DOCS / "configuration.md").read_text("utf-8")
    assert script["page"]() == page, "run python scripts/docs/configuration.py"


def test_configuration_page_of_sample(tmp_path):
    script = runpy.run_path(str(ROOT / "scripts/docs/configuration.py"), run_name="imported")
    path = tmp_path / "some.yaml"
    path.write_text(
        "# What it is.\n_target_: a.B\nfirst: x # one | two\nsecond:\n  third: [1, 2]\n"
    )
    text = script["section"](path, "group=some")
    assert "What it is." in text
    assert "Builds `a.B`." in text
    assert "| `first` | `x` | one \\| two |" in text
    assert "| `second.third` | `[1, 2]` |  |" in text


def test_custom_teacher_example(tmp_path):
    config = transformers.WavLMConfig(
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=16,
        conv_dim=(8,) * 7,
        num_conv_pos_embeddings=8,
        num_conv_pos_embedding_groups=2,
    )
    transformers.WavLMModel(config).save_pretrained(tmp_path)
    namespace = {}
    exec(python_block("teachers.md", "class HiddenLayer"), namespace)
    teacher = namespace["HiddenLayer"](str(tmp_path), layer=1)
    assert teacher.frame_rate == 50
    assert teacher.identity == namespace["HiddenLayer"](str(tmp_path), layer=1).identity
    assert teacher.identity != namespace["HiddenLayer"](str(tmp_path), layer=2).identity
    wav = np.random.default_rng(0).normal(size=16_000).astype(np.float32)
    assert teacher.features(wav).shape == (49, 16)  # the last frame would not be complete
    features = features_at_frames(teacher, wav, n_frames=63, frames_per_second=62.5)
    assert features.shape == (63, 16)
    assert features.std() > 0.1


@pytest.mark.slow
def test_tutorial_notebook(monkeypatch):
    monkeypatch.setenv("TUTORIAL_STEPS", "2")
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    notebook = nbformat.read(DOCS / "tutorial.ipynb", as_version=4)
    resources = {"metadata": {"path": str(DOCS)}}
    nbclient.NotebookClient(notebook, timeout=300, resources=resources).execute()
    printed = "".join(o.get("text", "") for c in notebook.cells for o in c.get("outputs", []))
    assert re.search(r"after training: similarity to the target 0\.\d\d", printed)


def test_site_links():
    hooks = runpy.run_path(str(ROOT / "scripts/docs/hooks.py"), run_name="imported")
    names = {"index.md", "recipe.md", "model_card.md", "api/audio.md"}
    change = hooks["with_site_links"]
    card = change("[r](../docs/recipe.md#x) and [`pq`](../src/pq.py)", "model_card.md", names)
    assert card == "[r](recipe.md#x) and `src/pq.py`"
    assert change("[card](../checkpoints/README.md)", "recipe.md", names) == "[card](model_card.md)"
    assert change("[all](recipe.md)", "api/audio.md", names) == "all (`docs/api/recipe.md`)"


def test_links_between_pages():
    generated = ("api/",)  # pages that scripts/docs/hooks.py adds
    for page in DOCS.glob("*.md"):
        for link in re.findall(r"\]\(([^)#:\s]+)[)#]", page.read_text("utf-8")):
            assert link.startswith(generated) or (DOCS / link).exists(), f"{page.name}: {link}"
