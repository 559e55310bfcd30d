"""The page in a real browser."""

import base64
import contextlib
import shutil

import numpy as np
import pytest
import soundfile

from helpers import SOURCE, TARGET, write_wav
from server_helpers import LIVE_LIMITS, broken, eventually, files, running
from vc_lightning.conversion import provenance
from vc_lightning.conversion.converter import VoiceConverter

html = pytest.importorskip("vc_lightning.service.page.html", reason="the extra demo is missing")

pytestmark = pytest.mark.filterwarnings("ignore:.*:DeprecationWarning:gradio")
RECORD_LOUDSPEAKER = """
const connect = AudioNode.prototype.connect;
window.heard = [];
AudioNode.prototype.connect = function (to, ...rest) {
  if (to instanceof AudioDestinationNode) {
    const tap = this.context.createScriptProcessor(4096, 1, 1);
    tap.onaudioprocess = ({ inputBuffer }) => {
      const sound = new Uint8Array(inputBuffer.getChannelData(0).slice().buffer);
      heard.push(btoa(String.fromCharCode(...sound)));
    };
    window.heardRate = this.context.sampleRate;
    connect.call(this, tap);
    connect.call(tap, to);
  }
  return connect.call(this, to, ...rest);
};
"""
PLAY_LATE_PIECES = """([code, lateness]) => {
  const rate = 48000, piece = 0.16 * rate, block = 128;
  let Voice;
  class Processor { port = { postMessage() {} }; }
  new Function("AudioWorkletProcessor", "registerProcessor", "sampleRate", code)(
    Processor, (_, found) => (Voice = found), rate);
  const voice = new Voice(), heard = [];
  let n = 0;
  for (let now = 0; now < 5 * rate; now += block) {
    const late = n % 3 === 2 ? lateness * rate : 0;
    if (now >= n * piece + late) {
      voice.take({ samples: new Float32Array(piece).fill(0.5) });
      n += 1;
    }
    const out = new Float32Array(block);
    voice.process([[]], [[out]]);
    heard.push(...out);
  }
  return [voice.gaps, heard.findIndex((sample) => sample > 0) / rate];
}"""
SAY_NOTHING = """new Promise((done) => {
  const socket = new WebSocket(new URL("live", document.baseURI));
  socket.onopen = () => socket.send("{}");
  socket.onmessage = ({ data }) => done(data);
})"""
CHROMIUM = shutil.which("chromium")


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
    """Open the page as one more person, who leaves when the test ends."""
    people = []

    def visit(width=1280, height=900, script=""):
        person = chromium.new_context(viewport={"width": width, "height": height})
        people.append(person)
        tab = person.new_page()
        tab.set_default_timeout(20_000)
        tab.add_init_script(script)
        tab.asked = []
        tab.on("request", lambda request: tab.asked.append(request.url))
        tab.goto(served[0])
        tab.locator("#source input[type=file]").wait_for(state="attached")
        return tab

    yield visit
    for person in people:
        person.close()


def bring(tab, where, path):
    """Upload a recording; wait until it is there."""
    tab.locator(f"#{where} input[type=file]").set_input_files(path)
    tab.locator(f"#{where} .timestamps").wait_for()


def converted(tab):
    """The name and the samples of what the download button gives."""
    tab.locator("#download").wait_for()
    with tab.expect_download() as download:
        tab.locator("#download").click()
    path = download.value.path()
    return download.value.suggested_filename, soundfile.read(path, dtype="int16")[0]


def expected(converter, source, target):
    """The samples that the file of a conversion has."""
    return samples_of(converter.convert(source, target))


def samples_of(wav):
    wav = wav / max(1.0, np.abs(wav).max())
    return np.clip(np.round(wav * 2**15), -(2**15), 2**15 - 1)


def press(tab):
    tab.get_by_role("button", name="Convert", exact=True).click()


def test_upload_convert_play_download(visit, converter, served):
    tab = visit()
    bring(tab, "source", SOURCE)
    bring(tab, "target", TARGET)
    press(tab)
    name, wav = converted(tab)
    assert name == "source_to_target.wav"
    assert np.abs(wav - expected(converter, SOURCE, TARGET)).max() <= 1
    note = provenance.read(next(path for path in files(served[1]) if path.name == name))
    assert (note.vocoder, note.guidance) == ("GriffinLim", 0)
    tab.locator("#result").get_by_role("button", name="Play", exact=True).click()
    tab.wait_for_function("document.querySelector('#result #time').textContent != '0:00'")
    assert tab.locator("#result #duration").text_content() == "0:06"
    assert tab.locator(".mel img").count() == 3
    widths = tab.locator(".mel img").evaluate_all("images => images.map(i => i.naturalWidth)")
    assert widths == [960, 960, 960]
    before = float(converter.embed(SOURCE) @ converter.embed(TARGET))
    assert tab.locator(".figure").count() == 2 or "too little speech" in tab.content()
    assert f"{before:.2f}" in tab.content() or "too little speech" in tab.content()
    elsewhere = [url for url in tab.asked if not url.startswith((served[0], "blob:", "data:"))]
    assert elsewhere == []  # nobody else learns of it


def test_examples(visit, converter):
    tab = visit()
    tab.get_by_role("button", name="her words, his voice").click()
    name, wav = converted(tab)
    assert name == "target_to_source.wav"
    assert np.abs(wav - expected(converter, TARGET, SOURCE)).max() <= 1


def test_concurrent_users_get_their_own_results(visit, converter, served, tmp_path, speech):
    """Then both leave, and what they brought and got is gone."""
    other = write_wav(tmp_path / "other.wav", speech[:40_000])
    anna, ben = visit(), visit()
    for tab, source in ((anna, SOURCE), (ben, other)):
        bring(tab, "source", source)
        bring(tab, "target", TARGET)
    press(anna)
    press(ben)
    # Whether they were converted one by one or in one batch, whose shorter mels are padded.
    voice = converter.voice(TARGET)
    batch = converter.convert_analyzed(
        [converter.analyze(SOURCE), converter.analyze(other)], [voice, voice]
    )
    for tab, source, in_batch in ((ben, other, batch[1]), (anna, SOURCE, batch[0])):
        name, wav = converted(tab)
        assert name == f"{source.stem}_to_target.wav"
        allowed = expected(converter, source, TARGET), samples_of(in_batch)
        assert min(np.abs(wav - one).max() for one in allowed) <= 1
    folder = served[1]
    assert {"source.wav", "other.wav", "source_to_target.wav"} <= {p.name for p in files(folder)}
    ben.close()
    eventually(lambda: not {"other.wav", "other_to_target.wav"} & {p.name for p in files(folder)})
    names = {path.name for path in files(folder)}
    assert {"source.wav", "target.wav", "source_to_target.wav"} <= names  # anna is still here
    anna.close()
    eventually(lambda: "source_to_target.wav" not in {p.name for p in files(folder)})


def test_bad_files_show_errors(visit, tmp_path):
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


def test_advice_before_conversion(visit, tmp_path, speech):
    """A short noisy voice is taken, with what helps; better recordings remove the advice."""
    tab = visit()
    noise = np.random.default_rng(0).standard_normal(40_000) * 0.5 * np.std(speech)
    bring(tab, "target", write_wav(tmp_path / "b<b>.wav", speech[:40_000] + noise))
    advice = tab.locator(".card:has(#target)").get_by_role("status")
    advice.filter(has_text="bb.wav: is noisy").wait_for()  # Gradio leaves < and > out of names
    advice.filter(has_text="the target has 2.5 s only").wait_for()
    assert "cleanup" not in advice.first.inner_text()  # which the page does not offer
    bring(tab, "source", SOURCE)
    tab.locator("#target").get_by_label("Clear").click()
    bring(tab, "target", TARGET)
    advice.first.wait_for(state="detached")


def test_microphone(visit):
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


def test_no_horizontal_scrolling(visit):
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
    tab.get_by_role("tab", name="Live").click()
    tab.locator("#live_start").wait_for()
    for width in (320, 390, 768):
        tab.set_viewport_size({"width": width, "height": 844})
        assert tab.evaluate("document.documentElement.scrollWidth") <= width
        assert tab.locator("#live_start").bounding_box()["height"] >= 44


def test_live_speech_approaches_voice(visit, served, monkeypatch, tmp_path):
    """The browser's microphone hears the source; what its loudspeaker plays is compared."""
    converter = VoiceConverter.from_pretrained()
    monkeypatch.setattr(served[2].service.converters, "get", lambda _: converter)
    earlier, opened = [], VoiceConverter.stream

    def spy(self, *arguments, **options):
        earlier.append(options["earlier"])
        return opened(self, *arguments, **options)

    monkeypatch.setattr(VoiceConverter, "stream", spy)
    tab = visit(script=RECORD_LOUDSPEAKER)
    tab.get_by_role("tab", name="Live").click()
    bring(tab, "live_target", TARGET)
    tab.get_by_role("button", name="A recording of yourself").click()
    bring(tab, "live_own", SOURCE)
    tab.locator("#live_start").focus()
    tab.keyboard.press("Enter")
    status = tab.locator("#live_status")
    status.filter(has_text="Speak now.").wait_for(timeout=60_000)
    tab.wait_for_timeout(6000)
    stream = opened(converter, converter.voice(TARGET), LIVE_LIMITS["live.block_seconds"])
    np.testing.assert_array_equal(earlier[-1], converter.end_of_speech(SOURCE))
    delay = float(tab.locator("#live_delay").text_content().split(" s")[0])
    assert delay > stream.latency_seconds  # a measured delay below it cannot be true
    tab.keyboard.press("Tab")
    tab.keyboard.press("Space")  # Stop
    status.filter(has_text="The end").wait_for(timeout=60_000)
    tab.wait_for_timeout(500)  # the last samples are heard
    pieces = map(base64.b64decode, tab.evaluate("heard"))
    wav = np.frombuffer(b"".join(pieces), np.float32)
    heard = converter.embed(write_wav(tmp_path / "heard.wav", wav, tab.evaluate("heardRate")))
    assert heard @ converter.embed(TARGET) > heard @ converter.embed(SOURCE) + 0.05


@pytest.mark.parametrize(("lateness", "gaps"), [(0.0, 0), (0.07, 0), (0.1, 1)])
def test_cushion_absorbs_late_pieces(visit, lateness, gaps):
    """A gap lengthens the cushion, so that the next piece which is as late leaves none."""
    code = (html.ASSETS / "live_worklet.js").read_text()
    found, seconds = visit().evaluate(PLAY_LATE_PIECES, [code, lateness])
    assert found == gaps
    assert seconds == pytest.approx(0.08, abs=0.005)


def test_live_speech_needs_voice(visit):
    tab = visit()
    tab.get_by_role("tab", name="Live").click()
    tab.locator("#live_start").click()
    tab.get_by_role("alert").filter(has_text="There is no voice yet").wait_for()


def test_learned_voice_shows_credits(visit):
    tab = visit()
    tab.locator("#learned input").click()
    tab.get_by_role("option", name="Ann").click()
    credit = tab.locator("#credits .credits")
    credit.wait_for()
    words = "Made by Ben <b>. Consent of 2026-11-24: “Use it & say so.”."
    assert credit.text_content() == words


def test_full_queue(visit, served):
    queue = served[2].service.queue
    tab = visit()
    with contextlib.ExitStack() as stack:
        for _ in range(served[2].service.limits.max_requests):
            stack.enter_context(queue.place())
        tab.get_by_role("button", name="his words, her voice").click()
        tab.get_by_role("alert").filter(has_text="8 requests are being served already").wait_for()
    tab.get_by_role("button", name="his words, her voice").click()
    tab.locator("#download").wait_for()


def test_key_opens_the_page(chromium, build, tmp_path):
    """A browser asks for the key once, and keeps it in a cookie; live speech uses it, too."""
    mount = pytest.importorskip("vc_lightning.service.page.mount")
    key = "sixteen letters!"
    api = build(tmp_path, keys=[key])
    with mount.mounted(api, 60, [SOURCE, TARGET]), running(api) as (address, _):
        person = chromium.new_context()
        tab = person.new_page()
        tab.set_default_timeout(20_000)
        for typed, seen in (("wrong", "This key is unknown"), (key, "Say it in another voice")):
            if typed == "wrong":
                tab.goto(address)
            tab.locator("#key").fill(typed)
            tab.keyboard.press("Enter")
            tab.get_by_text(seen).wait_for()
        [cookie] = person.cookies()
        assert (cookie["httpOnly"], cookie["sameSite"]) == (True, "Strict")
        assert key not in cookie["value"]
        tab.get_by_role("button", name="his words, her voice").click()
        tab.locator("#download").wait_for()
        opened = (
            "new Promise(done => { const s = new WebSocket(new URL('live', document.baseURI)); "
        )
        opened += "s.onopen = () => s.send('{}'); s.onmessage = (m) => done(m.data); })"
        assert "lacks format" in tab.evaluate(opened)
        person.close()
