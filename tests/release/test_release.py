"""The scripts of a release, the locked packages, and what the workflow files name."""

import json
import re
import runpy

import pytest
import yaml

from helpers import ROOT
from vc_lightning.common import resources

WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))


def script(name):
    return runpy.run_path(str(ROOT / "scripts" / "release" / f"{name}.py"), run_name="imported")


def versions(text):
    return dict(re.findall(r"^([\w.-]+)==([\w.+!]+)", text.replace("_", "-").lower(), re.MULTILINE))


def test_locked_packages_are_the_tested_ones():
    lock = (ROOT / ".ci" / "requirements.txt").read_text(encoding="utf-8")
    tested = versions((ROOT / "constraints.txt").read_text(encoding="utf-8"))
    del tested["torch"]  # its build depends on the machine
    assert versions(lock) == tested, "run python scripts/release/lock.py"
    for entry in re.split(r"\n(?=\S)", lock.strip()):
        assert "--hash=sha256:" in entry, entry


def test_version(capsys):
    check = script("check_version")
    project = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    version = re.search(r'^version = "(.+)"', project, re.MULTILINE)[1]
    check["main"](f"v{version}", "--notes")
    assert "###" in capsys.readouterr().out
    with pytest.raises(SystemExit, match=f"pyproject.toml has version {version}, the tag v9.9.9"):
        check["main"]("v9.9.9")


def test_changelog_part():
    text = (
        "# C\n\n## [Unreleased]\n\nnew\n\n## [1.10.0] - 2026\n\n- b\n\n## [1.1.0] - 2025\n\n- a\n"
    )
    part = script("check_version")["part"]
    assert part(text, "1.10.0") == "- b"
    assert part(text, "1.1.0") == "- a"
    assert part(text, "1.1") == ""


def test_list_of_parts_has_the_weights(tmp_path):
    packages, output = tmp_path / "packages.json", tmp_path / "sbom.json"
    packages.write_text('{"bomFormat": "CycloneDX", "components": [{"name": "torch"}]}')
    script("make_sbom")["main"](packages, output)
    components = json.loads(output.read_text(encoding="utf-8"))["components"]
    weights = json.loads(resources.WEIGHTS_LIST.read_text(encoding="utf-8"))
    assert [part["name"] for part in components] == ["torch", *weights]
    digests = {part["hashes"][0]["content"] for part in components[1:]}
    assert digests == {entry["sha256"] for entry in weights.values()}


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_workflow_names_what_exists(path):
    text = path.read_text(encoding="utf-8")
    jobs = yaml.safe_load(text)["jobs"]
    for job in jobs.values():
        needs = job.get("needs", [])
        assert set([needs] if isinstance(needs, str) else needs) <= set(jobs)
        for step in job["steps"]:
            assert ("uses" in step) != ("run" in step)
    for named in re.findall(r"(?:scripts|examples|tests|\.ci)/[\w./-]+", text):
        assert (ROOT / named).exists(), named
    assert "permissions" in yaml.safe_load(text)


def test_workflow_tests_the_pythons_of_the_package():
    ci = yaml.safe_load((ROOT / ".github" / "workflows" / "ci.yml").read_text(encoding="utf-8"))
    project = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    named = re.findall(r"Programming Language :: Python :: (3\.\d+)", project)
    assert ci["jobs"]["pythons"]["strategy"]["matrix"]["python"] == named
