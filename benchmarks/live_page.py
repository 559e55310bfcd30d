"""Live speech through the page in a real browser: latency, gaps, words, similarities.

    python benchmarks/live_page.py [SOURCE.wav TARGET.wav] [--seconds 20]

The page is that of `python app.py` in a process of its own. The microphone of a headless Chromium
(Debian package chromium; extras demo, test and eval) gets the source repeatedly. The microphone's
sound and the page's output are recorded side by side, so that the latency can be measured from
their loudness, independently of the page's own figure; it does not include the sound device.
Character errors are counted against the recogniser's transcript of the recorded source.
"""

import argparse
import base64
import contextlib
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import numpy as np
import soundfile
from playwright.sync_api import Page, sync_playwright

from vc_lightning import VoiceConverter
from vc_lightning.audio.files import io
from vc_lightning.common.resources import ROOT
from vc_lightning.evaluation.scorers.recognisers import texts, whisper
from vc_lightning.models.speaker_encoder import similarity

START_SECONDS = 120
MICROPHONE_RATE = 48_000
LOUDNESS_SECONDS = 0.01  # of a window
MAX_LAG_SECONDS = 2.0
EARS = """
const add = AudioWorklet.prototype.addModule, connect = AudioNode.prototype.connect;
const ear = `registerProcessor("ear", class extends AudioWorkletProcessor {
  constructor() { super(); this.kept = []; }
  process(inputs) {
    const of = (input) => input.length ? input[0].slice() : new Float32Array(128);
    this.kept.push(inputs.map(of));
    if (this.kept.length === 100) { this.port.postMessage(this.kept); this.kept = []; }
    return true;
  }
})`;
const url = URL.createObjectURL(new Blob([ear], { type: "text/javascript" }));
AudioWorklet.prototype.addModule = async function (...all) {
  await add.call(this, url);
  return add.apply(this, all);
};
const text = (pieces) => {
  const bytes = new Uint8Array(new Float32Array(pieces.flatMap((p) => [...p])).buffer);
  return btoa(String.fromCharCode(...bytes));
};
window.heard = [];
let node = null;
AudioNode.prototype.connect = function (to, ...rest) {
  const isMicrophone = this instanceof MediaStreamAudioSourceNode;
  if (isMicrophone) {
    node = new AudioWorkletNode(this.context, "ear", { numberOfInputs: 2 });
    window.heardRate = this.context.sampleRate;
    node.port.onmessage = ({ data }) =>
      heard.push([text(data.map((d) => d[0])), text(data.map((d) => d[1]))]);
    connect.call(node, this.context.destination);
  }
  if (isMicrophone) connect.call(this, node, 0, 0);
  if (to instanceof AudioDestinationNode) connect.call(this, node, 0, 1);
  return connect.call(this, to, ...rest);
};
"""


def main() -> None:
    """Run a live session for some seconds and print the measurements."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("source", nargs="?", type=Path, default=ROOT / "examples" / "source.wav")
    parser.add_argument("target", nargs="?", type=Path, default=ROOT / "examples" / "target.wav")
    parser.add_argument("--seconds", type=float, default=20)
    parser.add_argument("--record", type=Path, help="stereo file: microphone left, page right")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, served() as address:
        microphone = Path(folder, "microphone.wav")
        wav, rate = io.load(arguments.source)
        wav = io.resample(wav, rate, MICROPHONE_RATE)
        soundfile.write(microphone, wav, MICROPHONE_RATE, subtype="PCM_16")
        said, heard, rate = spoken(address, microphone, arguments.target, arguments.seconds)
    if arguments.record:
        soundfile.write(arguments.record, np.stack([said, heard], axis=1), rate)
    measure(said, heard, rate, arguments.target)


@contextlib.contextmanager
def served() -> Iterator[str]:
    """Serve the page in another process while the block runs; yield its address."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    address = f"http://127.0.0.1:{port}"
    process = subprocess.Popen([sys.executable, ROOT / "app.py", f"port={port}", "browser=false"])
    try:
        end = time.monotonic() + START_SECONDS
        while True:
            with contextlib.suppress(httpx.TransportError):
                httpx.get(address)
                break
            if process.poll() is not None or time.monotonic() > end:
                sys.exit("the page does not start")
            time.sleep(0.5)
        yield address
    finally:
        process.terminate()
        process.wait()


def spoken(
    address: str, microphone: Path, target: Path, seconds: float
) -> tuple[np.ndarray, np.ndarray, int]:
    """Run a session; return the sound of microphone and page, (n,) each, and their rate."""
    arguments = ["--no-sandbox", "--autoplay-policy=no-user-gesture-required"]
    arguments += ["--use-fake-ui-for-media-stream", "--use-fake-device-for-media-stream"]
    arguments.append(f"--use-file-for-fake-audio-capture={microphone}")
    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=shutil.which("chromium"), args=arguments)
        tab = browser.new_page()
        tab.set_default_timeout(1000 * START_SECONDS)
        tab.add_init_script(EARS)
        tab.goto(address)
        tab.get_by_role("tab", name="Live").click()
        tab.locator("#live_target input[type=file]").set_input_files(target)
        tab.locator("#live_target .timestamps").wait_for()
        tab.locator("#live_start").click()
        tab.locator("#live_status").filter(has_text="Speak now").wait_for()
        begin = tab.evaluate("heard.length")
        watch(tab, seconds)
        pieces = tab.evaluate(f"heard.slice({begin})")
        rate = tab.evaluate("heardRate")
        tab.locator("#live_stop").click()
        tab.locator("#live_status").filter(has_text="The end").wait_for()
        browser.close()
    said, heard = (
        np.frombuffer(b"".join(base64.b64decode(piece[side]) for piece in pieces), "<f4")
        for side in (0, 1)
    )
    return said, heard, int(rate)


def watch(tab: Page, seconds: float) -> None:
    """Print the delay and the gaps that the page shows, every second."""
    end = time.monotonic() + seconds
    print("delay                                    gaps")
    while time.monotonic() < end:
        tab.wait_for_timeout(1000)
        delay, gaps = (tab.locator(f"#live_{name}").text_content() for name in ("delay", "gaps"))
        print(f"{delay:<40} {gaps}", flush=True)


def measure(said: np.ndarray, heard: np.ndarray, rate: int, target: Path) -> None:
    """Print latency, silence, similarities and character errors."""
    lag = latency(said, heard, rate)
    n_late = round(lag * rate)
    said, heard = said[: len(said) - n_late], heard[n_late:]
    converter = VoiceConverter.from_pretrained()
    recogniser = whisper.Recogniser(whisper.TINY_EN)
    words = [recogniser.transcript(wav, rate, "en") for wav in (said, heard)]
    errors = texts.character_errors(*words).value if words[0] else float("nan")
    voice = converter.voice(target).embedding
    source, result = (
        converter.embed(io.resample(wav, rate, converter.sample_rate)) for wav in (said, heard)
    )
    print(f"{len(heard) / rate:.1f} s, latency {1000 * lag:.0f} ms without the sound device")
    print(f"said: {words[0]}\nheard: {words[1]}\ncharacter errors {errors:.3f}")
    print(
        f"similarity to the target {similarity(result, voice):.3f} (the source: "
        f"{similarity(source, voice):.3f}), to the source {similarity(result, source):.3f}"
    )


def latency(said: np.ndarray, heard: np.ndarray, rate: int) -> float:
    """Measure the delay in seconds of the output's loudness behind that of the microphone."""
    n = round(LOUDNESS_SECONDS * rate)
    loudness = []
    for wav in (said, heard):
        power = np.square(wav[: len(wav) // n * n]).reshape(-1, n).mean(axis=1)
        decibels = 10 * np.log10(power + 1e-6)
        loudness.append(decibels - decibels.mean())
    n_lags = round(MAX_LAG_SECONDS / LOUDNESS_SECONDS)
    fit = [loudness[0][: len(loudness[0]) - k] @ loudness[1][k:] for k in range(n_lags)]
    return int(np.argmax(fit)) * LOUDNESS_SECONDS


if __name__ == "__main__":
    main()
