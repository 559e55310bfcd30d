"""What a visitor meets first: the README's marked places, badges, film, and the page Listen."""

import re
import runpy

import av
import pytest

from helpers import ROOT
from vc_lightning.evaluation.scores import TITLES

DOCS = ROOT / "docs"
FIGURES = ROOT / "scripts" / "figures"


@pytest.fixture
def front_page(monkeypatch):
    """The names of the script that makes it."""
    monkeypatch.syspath_prepend(FIGURES)
    return runpy.run_path(str(FIGURES / "make_front_page.py"), run_name="imported")


def test_rewrite_changes_marked_places_only(tmp_path):
    rewrite = runpy.run_path(str(FIGURES / "blocks.py"), run_name="imported")["rewrite"]
    page = tmp_path / "page.md"
    page.write_text(
        "after <!-- figures: a -->1 s<!-- /figures --> here\n"
        "<!-- figures: b -->\n| old |\n<!-- /figures -->\nlast\n"
    )
    rewrite(page, {"a": r"2\1 s", "b": "| new |\n|---|"})
    assert page.read_text() == (
        "after <!-- figures: a -->2\\1 s<!-- /figures --> here\n"
        "<!-- figures: b -->\n| new |\n|---|\n<!-- /figures -->\nlast\n"
    )
    with pytest.raises(KeyError, match="no place"):
        rewrite(page, {"c": "1"})


def test_readme_has_the_places_that_scripts_rewrite():
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    places = set(re.findall(r"<!-- figures: (\w+) -->", readme))
    assert places == {"conversion", "latency", "minutes", "machine", "example", "quality"}
    assert readme.count("<!-- /figures -->") == len(places)


def test_badges_are_current(monkeypatch):
    monkeypatch.syspath_prepend(FIGURES)
    script = runpy.run_path(str(FIGURES / "badges.py"), run_name="imported")
    for name, (label, value) in script["badges"]().items():
        drawn = (DOCS / "badges" / f"{name}.svg").read_text(encoding="utf-8")
        assert drawn == script["svg"](label, value), "run scripts/figures/make_front_page.py"


def test_film_has_picture_and_sound():
    film = DOCS / "demo.mp4"
    assert film.stat().st_size < 5e6
    with av.open(str(film)) as container:
        assert 30 < container.duration / av.time_base < 90
        kinds = [stream.codec_context.name for stream in container.streams]
        assert kinds == ["h264", "aac"]
        loudest = max(abs(frame.to_ndarray()).max() for frame in container.decode(audio=0))
    assert 0.1 < loudest <= 1


def test_listen_page_plays_what_exists(front_page):
    page = (DOCS / "listen.md").read_text(encoding="utf-8")
    for shown in front_page["SHOWN"]:
        for path in (shown.source, shown.target, shown.conversion):
            assert front_page["player"](path) in page
            assert (DOCS / path).is_file()
    stems = {path.stem for path in (DOCS / "listen").iterdir()}
    used = {
        (DOCS / p).stem for s in front_page["SHOWN"] for p in (s.source, s.target, s.conversion)
    }
    assert stems <= used
    credits = (ROOT / "examples" / "README.md").read_text(encoding="utf-8")
    for stem in stems:
        assert "_to_" in stem or f"`{stem}`" in credits


def test_quality_of_a_report(front_page):
    def figures(similarity):
        means = {"campplus/before": 0.5, "campplus/to_target": similarity, "campplus/nearer": 2 / 3}
        return {key: {"mean": mean, "n": 3} for key, mean in means.items()}

    report = {"figures": {"all": {}, "domain": {"a": figures(0.75), "b": figures(0.25)}}}
    head, line, *rows = front_page["quality"](report).splitlines()
    assert (head, line) == ("| mean over pairs | a (3) | b (3) |", "|---|---|---|")
    assert [row.split(" | ", 1)[1] for row in rows] == [
        "0.50 → 0.75 | 0.50 → 0.25 |",
        "67% | 67% |",
    ]


def test_quality_reads_scores_that_exist(front_page):
    assert {key for keys, _ in front_page["ROWS"].values() for key in keys} <= set(TITLES)


def test_minutes_of_a_training_run(front_page):
    assert front_page["minutes"]("| 1500 | 13.0 |\n\nusable after 13 minutes\n") == "13 minutes"
    with pytest.raises(SystemExit, match="not usable"):
        front_page["minutes"]("\nnone of these weights is good enough\n")
