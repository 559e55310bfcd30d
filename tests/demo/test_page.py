"""The page as its users have it: the server over HTTP, and a real browser in front of it."""

import os
import shutil
import socket
import threading
import time
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from helpers import SOURCE, TARGET, TINY, composed, write_wav
from vc_lightning.commands import app
from vc_lightning.common.errors import InputError
from vc_lightning.conversion import provenance
from vc_lightning.conversion import voice_library as voices
from vc_lightning.demo.service import ConversionService, Settings
from vc_lightning.demo.uploads import Uploads
from vc_lightning.models import checkpoints
from vc_lightning.models.autovc import AutoVC
from vc_lightning.models.checkpoints import Card

httpx = pytest.importorskip("httpx", reason="the extra demo is not installed")
page = pytest.importorskip("vc_lightning.demo.page", reason="the extra demo is not installed")

pytestmark = pytest.mark.filterwarnings("ignore:.*:DeprecationWarning:gradio")
CHROMIUM = shutil.which("chromium")
SETTINGS = Settings("tiny", "griffin_lim", guidance=0, seed=0)


@pytest.fixture(scope="module")
def service(tmp_path_factory, mel_settings, encoder):
    """What `python app.py ckpt=tiny` offers, with one round of Griffin-Lim."""
    torch.manual_seed(0)
    network = AutoVC(**TINY)
    identity = checkpoints.identity("ge2e", encoder.state_dict())
    card = Card("autovc", network.arguments, mel_settings, identity, "average", 7)
    path = tmp_path_factory.mktemp("weights") / "tiny.safetensors"
    checkpoints.save(path, network.state_dict(), card)
    quick = {"ckpt": path, "vocoders.griffin_lim.n_iter": 1, "guidance": 0, "max_seconds": 20}
    quick |= {"voices.dir": tmp_path_factory.mktemp("voices")}
    quick |= {"vocoders.griffin_lim.magnitude": "null", "max_megabytes": 1}
    service = app.service(composed("app", *(f"{key}={value}" for key, value in quick.items())))
    converter = service.converter("tiny", "griffin_lim")
    voice = converter.voice(TARGET)
    voices.save(service.voices, "Ann", voice, converter.encoder_identity, 1, 8.8)
    return service


@pytest.fixture(scope="module")
def served(service):
    """The page's address, and the folder that holds what people upload."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    limits = {"max_waiting": 2, "keep_minutes": 60}
    with page.serving(
        service, host="127.0.0.1", port=port, examples=[SOURCE, TARGET], **limits
    ) as address:
        folder = Path(os.environ["GRADIO_TEMP_DIR"])
        yield address.rstrip("/"), folder
    assert not folder.exists()  # nothing is left when the server stops
    assert not folder.parent.exists()


def files(folder):
    return sorted(path for path in folder.rglob("*") if path.is_file())


def eventually(condition, seconds=10):
    """Waits until something is so."""
    end = time.monotonic() + seconds
    while not condition() and time.monotonic() < end:
        time.sleep(0.05)
    assert condition()


# The service: no server


def convert(service, source=SOURCE, targets=(TARGET,), settings=SETTINGS, learned=""):
    told = []
    outcome = service.convert(source, targets, learned, settings, lambda *news: told.append(news))
    return outcome, told


def test_a_conversion_is_the_converters(service, speech):
    outcome, told = convert(service)
    converter = service.converter("tiny", "griffin_lim")
    assert np.array_equal(outcome.wav, converter.convert(SOURCE, TARGET))
    assert (outcome.name, outcome.sample_rate) == ("source_to_target.wav", 16_000)
    similarity = float(converter.embed(SOURCE) @ converter.embed(TARGET))
    assert outcome.to_target[0] == pytest.approx(similarity, abs=1e-5)
    assert outcome.to_source[0] == pytest.approx(1)
    for path, mel in zip((SOURCE, TARGET), outcome.mels, strict=False):
        wav = converter.load(path)
        np.testing.assert_allclose(mel, converter.mel.extract(wav, 16_000), atol=1e-6)
    shares = [share for share, _ in told]
    assert np.diff(shares).min() > -1e-9
    assert 0 < shares[0] < shares[-1] < 1


def test_the_voice_is_the_mean_of_all_recordings(service, tmp_path, other_speech):
    halves = [write_wav(tmp_path / f"{i}.wav", other_speech[i * 70_000 :][:70_000]) for i in (0, 1)]
    outcome, _ = convert(service, targets=halves)
    assert np.array_equal(
        outcome.wav, service.converter("tiny", "griffin_lim").convert(SOURCE, halves)
    )


def test_a_learned_voice_is_taken_in_place_of_recordings(service):
    outcome, _ = convert(service, targets=[SOURCE], learned="Ann")
    assert np.array_equal(outcome.wav, convert(service)[0].wav)
    assert (outcome.name, outcome.mels[1]) == ("source_to_Ann.wav", None)
    for name in ("Ben", "../Ann", "/etc/passwd"):
        with pytest.raises(InputError, match="voice") as caught:
            convert(service, learned=name)
        assert str(service.voices) not in str(caught.value)


def test_converters_are_loaded_once_and_few_are_kept(tmp_path):
    loaded = []
    paths = {name: tmp_path / name for name in "abcd"}
    service = ConversionService(
        paths, ["v"], lambda *what: loaded.append(what), tmp_path, max_seconds=9, max_megabytes=9
    )
    for name in "aabcda":
        service.converter(name, "v")
    assert [path.name for path, _ in loaded] == ["a", "b", "c", "d", "a"]


def broken(tmp_path, name, content=b"", seconds=0.0):
    path = tmp_path / name
    if seconds:
        rng = np.random.default_rng(0)
        return write_wav(path, rng.standard_normal(int(16_000 * seconds)) * 0.1)
    path.write_bytes(content)
    return path


@pytest.mark.parametrize(
    ("name", "content", "seconds", "sentence"),
    [
        ("letter.wav", b"dear sir", 0, "is not audio"),
        ("empty.wav", b"", 0, "is not audio"),
        ("large.wav", bytes(1_000_001), 0, "has 1.0 MB; give at most 1 MB"),
        ("long.wav", b"", 20.5, "lasts 20 s; give at most 20 s"),
        ("short.wav", b"", 0.2, "too short"),
        ("noise.wav", b"", 0.6, "no speech found"),
    ],
)
def test_bad_recordings_are_named_without_their_folder(
    service, tmp_path, name, content, seconds, sentence
):
    path = broken(tmp_path, name, content, seconds)
    for source, targets in ((path, [TARGET]), (SOURCE, [TARGET, path])):
        with pytest.raises(InputError, match=sentence) as caught:
            convert(service, source, targets)
        assert str(caught.value).startswith(name)
        assert str(tmp_path) not in str(caught.value)


def test_what_is_missing_or_not_offered_is_a_sentence(service):
    with pytest.raises(InputError, match="there are no words yet"):
        convert(service, source=None)
    with pytest.raises(InputError, match="there is no voice yet; record"):
        convert(service, targets=[])
    for settings, sentence in {
        Settings("/etc/passwd", "griffin_lim", 0, 0): "checkpoint=/etc/passwd: is none of tiny",
        Settings("tiny", "loud", 0, 0): "vocoder=loud: is none of griffin_lim, wavernn",
        Settings("tiny", "griffin_lim", 99, 0): "guidance=99",
        Settings("tiny", "griffin_lim", 0, -1): "seed=-1",
    }.items():
        with pytest.raises(InputError, match=sentence):
            convert(service, settings=settings)


def test_limits_are_checked_at_the_start(tmp_path):
    for limits in ({"max_seconds": 0}, {"max_megabytes": -1}):
        limits = {"max_seconds": 9, "max_megabytes": 9} | limits
        with pytest.raises(InputError, match="give a number"):
            ConversionService({"a": tmp_path}, ["v"], lambda *_: None, tmp_path, **limits)


def test_keys_of_the_server_are_checked_before_it_starts(service):
    good = {"host": "127.0.0.1", "port": 1, "max_waiting": 1, "keep_minutes": 1, "examples": []}
    for key, value in {"port": 0, "max_waiting": 0, "keep_minutes": 0}.items():
        with pytest.raises(InputError, match=f"^{key}={value}: give"):
            page.serving(service, **good | {key: value}).__enter__()


def test_a_taken_port_is_a_sentence(service):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        serving = page.serving(
            service, host="127.0.0.1", port=port, max_waiting=1, keep_minutes=1, examples=[]
        )
        with pytest.raises(InputError, match=f"port={port}: is taken"), serving:
            pass
    assert "GRADIO_TEMP_DIR" not in os.environ


# Whose files


def test_files_go_with_the_last_of_their_sessions(tmp_path):
    uploads = Uploads(tmp_path / "uploads")
    folder, foreign = uploads.new_folder(), tmp_path / "foreign.wav"
    shared, own = folder / "shared.wav", uploads.new_folder() / "own.wav"
    for path in (shared, own, foreign):
        path.touch()
    uploads.claim("anna", [shared, own, foreign, tmp_path / "uploads" / ".." / "foreign.wav"])
    uploads.claim("ben", [shared])
    uploads.release("anna")
    assert (shared.exists(), own.parent.exists(), foreign.exists()) == (True, False, True)
    uploads.release("ben")
    uploads.release("ben")
    assert (folder.exists(), foreign.exists()) == (False, True)


# The server, without a browser


def upload(address, name, content):
    answer = httpx.post(f"{address}/gradio_api/upload", files={"files": (name, content)})
    return answer.json()[0] if answer.status_code == 200 else answer


def call(address, function, data, session="tester"):
    """Presses a button as a program would; the events that come back, as text."""
    config = httpx.get(f"{address}/config").json()
    index = next(d["id"] for d in config["dependencies"] if d["api_name"] == function)
    body = {"data": data, "fn_index": index, "session_hash": session}
    joined = httpx.post(f"{address}/gradio_api/queue/join", json=body)
    if joined.status_code != 200:
        return joined.text
    with httpx.stream(
        "GET", f"{address}/gradio_api/queue/data?session_hash={session}", timeout=60
    ) as stream:
        return "".join(stream.iter_text())


def given(path):
    return {"path": str(path), "meta": {"_type": "gradio.FileData"}}


def arguments(source, target, more=None):
    more = None if more is None else [given(path) for path in more]
    return [given(source), given(target), more, "", "tiny", "griffin_lim", 0, 0]


def test_only_uploads_are_read(served, tmp_path, monkeypatch):
    """Not the computer's files, not those beside the uploads, not what an address names."""
    address, folder = served
    fetched = []

    async def fetch(url, cache_dir):
        fetched.append(url)
        return shutil.copy(SOURCE, cache_dir)

    monkeypatch.setattr("gradio.processing_utils.async_ssrf_protected_download", fetch)
    good = upload(address, "good.wav", SOURCE.read_bytes())
    own = write_wav(tmp_path / "own.wav", soundfile.read(SOURCE)[0])
    for foreign in (
        "/etc/passwd",
        own,
        SOURCE,
        folder / ".." / ".." / "x.wav",
        f"{folder}/../../../{own}",
        "https://example.org/a.wav",
        "file:///etc/passwd",
    ):
        for data in (
            arguments(foreign, good),
            arguments(good, foreign),
            arguments(good, good, [foreign]),
        ):
            answer = call(address, "convert", data)
            assert '"success":false' in answer, (foreign, answer)
            assert "root:" not in answer
    assert fetched == []
    assert '"success":true' in call(address, "convert", arguments(good, good))


def test_only_uploads_and_results_are_given(served):
    address, folder = served
    for path in ("/etc/passwd", SOURCE, f"{folder}/../../../etc/passwd", folder, app.__file__):
        assert httpx.get(f"{address}/gradio_api/file={path}").status_code in (403, 404), path


@pytest.mark.parametrize(
    "route",
    [
        "gradio_api/file=http://127.0.0.1:1/",
        "gradio_api/proxy=http://127.0.0.1:1/",
        "gradio_api/openapi.json",
        "gradio_api/mcp/",
        "monitoring",
        "gradio_api/deep_link",
        "gradio_api/runs",
    ],
)
def test_routes_that_the_page_does_not_need_are_closed(served, route):
    assert httpx.get(f"{served[0]}/{route}").status_code == 404


def test_names_cannot_leave_the_folder(served):
    address, folder = served
    path = Path(upload(address, "../../../escape.wav", SOURCE.read_bytes()))
    assert path.resolve().is_relative_to(folder)


def test_too_large_a_file_is_refused_at_the_door(served):
    answer = upload(served[0], "large.wav", bytes(1_100_000))
    assert answer.status_code == 413


def test_a_full_queue_says_so(served, service, monkeypatch):
    address, _ = served
    good = upload(address, "good.wav", SOURCE.read_bytes())
    go_on, begun = threading.Event(), threading.Event()

    def wait(*_):
        begun.set()
        go_on.wait(30)
        raise InputError("waited")

    monkeypatch.setattr(service, "convert", wait)
    answers = {}
    threads = [
        threading.Thread(
            target=lambda n=n: answers.update(
                {n: call(address, "convert", arguments(good, good), f"s{n}")}
            )
        )
        for n in range(4)
    ]
    for thread in threads:  # one runs, two wait, one is sent away
        thread.start()
        assert begun.wait(10)
        time.sleep(0.3)
    eventually(lambda: 3 in answers)
    go_on.set()
    for thread in threads:
        thread.join()
    assert "Queue is full" in answers[3]
    assert all("Waited." in answers[n] for n in range(3))


# The page in Chromium


@pytest.fixture(scope="module")
def chromium():
    """Debian's browser, whose microphone hears the example."""
    if CHROMIUM is None:
        pytest.skip("chromium is not installed (Debian package chromium)")
    playwright = pytest.importorskip("playwright.sync_api", reason="the extra test is missing")
    microphone = ["--use-fake-ui-for-media-stream", "--use-fake-device-for-media-stream"]
    microphone.append(f"--use-file-for-fake-audio-capture={SOURCE}")
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(
            executable_path=CHROMIUM,
            args=["--no-sandbox", "--autoplay-policy=no-user-gesture-required", *microphone],
        )
        yield browser
        browser.close()


@pytest.fixture
def visit(chromium, served):
    """Opens the page as one more person, who leaves when the test ends."""
    people = []

    def visit(width=1280, height=900):
        person = chromium.new_context(viewport={"width": width, "height": height})
        people.append(person)
        tab = person.new_page()
        tab.set_default_timeout(20_000)
        tab.asked = []
        tab.on("request", lambda request: tab.asked.append(request.url))
        tab.goto(served[0])
        tab.locator("#source input[type=file]").wait_for(state="attached")
        return tab

    yield visit
    for person in people:
        person.close()


def bring(tab, where, path):
    """Uploads a recording; waits until it is there."""
    tab.locator(f"#{where} input[type=file]").set_input_files(path)
    tab.locator(f"#{where} .timestamps").wait_for()


def converted(tab):
    """The name and the samples of what the download button gives."""
    tab.locator("#download").wait_for()
    with tab.expect_download() as download:
        tab.locator("#download").click()
    path = download.value.path()
    return download.value.suggested_filename, soundfile.read(path, dtype="int16")[0]


def expected(service, source, target):
    """The samples that the file of a conversion has."""
    wav = service.converter("tiny", "griffin_lim").convert(source, target)
    wav = wav / max(1.0, np.abs(wav).max())
    return np.clip(np.round(wav * 2**15), -(2**15), 2**15 - 1)


def press(tab):
    tab.get_by_role("button", name="Convert", exact=True).click()


def test_upload_convert_play_download(visit, service, served):
    tab = visit()
    bring(tab, "source", SOURCE)
    bring(tab, "target", TARGET)
    press(tab)
    name, wav = converted(tab)
    assert name == "source_to_target.wav"
    assert np.abs(wav - expected(service, SOURCE, TARGET)).max() <= 1
    note = provenance.read(next(path for path in files(served[1]) if path.name == name))
    assert (note.vocoder, note.guidance) == ("GriffinLim", 0)
    tab.locator("#result").get_by_role("button", name="Play", exact=True).click()
    tab.wait_for_function("document.querySelector('#result #time').textContent != '0:00'")
    assert tab.locator("#result #duration").text_content() == "0:06"
    assert tab.locator(".mel img").count() == 3
    widths = tab.locator(".mel img").evaluate_all("images => images.map(i => i.naturalWidth)")
    assert widths == [960, 960, 960]
    similarity = service.converter("tiny", "griffin_lim")
    before = float(similarity.embed(SOURCE) @ similarity.embed(TARGET))
    assert tab.locator(".figure").count() == 2 or "too little speech" in tab.content()
    assert f"{before:.2f}" in tab.content() or "too little speech" in tab.content()
    elsewhere = [url for url in tab.asked if not url.startswith((served[0], "blob:", "data:"))]
    assert elsewhere == []  # nobody else learns of it


def test_examples_at_the_first_click(visit, service):
    tab = visit()
    tab.get_by_role("button", name="her words, his voice").click()
    name, wav = converted(tab)
    assert name == "target_to_source.wav"
    assert np.abs(wav - expected(service, TARGET, SOURCE)).max() <= 1


def test_two_users_at_once_get_their_own(visit, service, served, tmp_path, speech):
    """Then both leave, and what they brought and got is gone."""
    other = write_wav(tmp_path / "other.wav", speech[:40_000])
    anna, ben = visit(), visit()
    for tab, source in ((anna, SOURCE), (ben, other)):
        bring(tab, "source", source)
        bring(tab, "target", TARGET)
    press(anna)
    press(ben)
    for tab, source in ((ben, other), (anna, SOURCE)):
        name, wav = converted(tab)
        assert name == f"{source.stem}_to_target.wav"
        assert np.abs(wav - expected(service, source, TARGET)).max() <= 1
    folder = served[1]
    assert {"source.wav", "other.wav", "source_to_target.wav"} <= {p.name for p in files(folder)}
    ben.close()
    eventually(lambda: not {"other.wav", "other_to_target.wav"} & {p.name for p in files(folder)})
    names = {path.name for path in files(folder)}
    assert {"source.wav", "target.wav", "source_to_target.wav"} <= names  # anna is still here
    anna.close()
    eventually(lambda: "source_to_target.wav" not in {p.name for p in files(folder)})


def test_bad_files_are_sentences(visit, tmp_path):
    tab = visit(390, 844)
    bad = broken(tmp_path, "letter${1+1}<img src=x>.wav", b"dear sir")
    tab.locator("#source input[type=file]").set_input_files(bad)
    alert = tab.get_by_role("alert").filter(has_text="is not audio")
    alert.wait_for()
    assert tab.locator(".card:has(#source) .mel img").count() == 0
    tab.locator("#source").get_by_text("choose a file").wait_for()  # there is room for another
    bring(tab, "source", SOURCE)
    alert.wait_for(state="detached")
    press(tab)
    tab.get_by_role("alert").filter(has_text="There is no voice yet").wait_for()
    large = broken(tmp_path, "large.wav", bytes(1_100_000))
    tab.locator("#target input[type=file]").set_input_files(large)
    tab.get_by_text("maximum allowed size").wait_for()


def test_the_microphone(visit, service):
    tab = visit()
    tab.locator("#source").get_by_label("Record audio").click()
    tab.locator("#source").get_by_role("button", name="Record", exact=True).click()
    tab.wait_for_timeout(2500)
    tab.locator("#source").get_by_role("button", name="Stop").first.click()
    tab.locator("#source #duration").wait_for()
    bring(tab, "target", TARGET)
    press(tab)
    _, wav = converted(tab)
    assert 1.5 < len(wav) / 16_000 < 5


def test_no_scrolling_sideways(visit):
    tab = visit(390, 844)
    tab.get_by_role("button", name="his words, her voice").click()
    tab.locator("#download").wait_for()
    assert tab.locator("#convert").bounding_box()["height"] >= 44
    for width in (320, 390, 768):
        tab.set_viewport_size({"width": width, "height": 844})
        assert tab.evaluate("document.documentElement.scrollWidth") <= width
        boxes = [tab.locator(f"#{name}").bounding_box() for name in ("source", "target", "result")]
        if width < 640:  # one column, wide enough for thumbs
            assert all(box["width"] > 0.7 * width for box in boxes)


def test_a_full_queue_is_a_sentence(visit, service, monkeypatch):
    go_on = threading.Event()

    def wait(*_):
        go_on.wait(30)
        raise InputError("waited")

    monkeypatch.setattr(service, "convert", wait)
    tabs = [visit() for _ in range(4)]
    for tab in tabs:  # one runs, two wait, one is sent away
        with tab.expect_response("**/queue/join*") as joined:
            tab.get_by_role("button", name="his words, her voice").click()
    assert joined.value.status == 503
    tabs[-1].get_by_text("currently busy").wait_for()
    go_on.set()
    tabs[0].get_by_role("alert").filter(has_text="Waited").wait_for()
