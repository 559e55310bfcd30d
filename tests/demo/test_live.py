"""Live speech as the page sends it, without a browser."""

import contextlib
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch

from helpers import TARGET
from page_helpers import voice_request
from vc_lightning.common.errors import InputError
from vc_lightning.conversion.streaming import VoiceStream

testclient = pytest.importorskip("starlette.testclient", reason="the extra demo is not installed")
live = pytest.importorskip("vc_lightning.demo.live", reason="the extra demo is not installed")

RATE = 16_000
LIMITS = {"max_seconds": 60, "idle_seconds": 60, "max_waiting": 1}


@pytest.fixture
def open_desk(service):
    """Make a desk with some limits, and what connects to it."""
    from starlette.applications import Starlette
    from starlette.routing import WebSocketRoute

    with contextlib.ExitStack() as stack:

        def open_desk(**limits):
            desk = live.LiveDesk(service, live.LiveLimits(**LIMITS | limits))
            app = Starlette(routes=[WebSocketRoute("/speak", desk.speak)])
            client = stack.enter_context(testclient.TestClient(app))
            return desk, lambda: client.websocket_connect("/speak")

        yield open_desk


def greet(socket, ticket, sample_rate=RATE):
    socket.send_json({"ticket": ticket, "sample_rate": sample_rate})


def until(socket, kind):
    """The text of the next news of a kind; the sound and the news before it."""
    sound, news = [np.zeros(0, np.float32)], []
    while True:
        message = socket.receive()
        if message.get("bytes") is not None:
            sound.append(np.frombuffer(message["bytes"], "<f4"))
            continue
        assert message.get("text") is not None, message
        content = testclient.json.loads(message["text"])
        if content.get("type") == kind:
            return content["text"], np.concatenate(sound), news
        news.append(content)


def say(socket, wav, pause=0.0):
    """Send sound as a page does, in pieces of 20 ms."""
    for start in range(0, len(wav), 320):
        socket.send_bytes(wav[start : start + 320].astype("<f4").tobytes())
        time.sleep(pause)


def request():
    return voice_request([TARGET])


def test_what_comes_out_is_the_streams(open_desk, service, speech):
    desk, connect = open_desk()
    wav = speech[8_000:22_000]
    with connect() as socket:
        greet(socket, desk.ticket(request()))
        text, _, _ = until(socket, "open")
        assert text == "Speak now, for at most 60 s."
        say(socket, wav)
        socket.send_json({"type": "stop"})
        text, sound, news = until(socket, "over")
    assert text == "The end."
    assert news == []  # nothing was skipped
    converter = service.converter("tiny", "griffin_lim")
    stream = converter.stream(converter.voice(TARGET), sample_rate=RATE)
    expected = np.concatenate([stream.push(wav), stream.flush()])
    assert len(sound) == len(wav)
    np.testing.assert_allclose(sound, expected, atol=1e-4)


def test_one_speaks_one_waits_and_the_next_is_sent_away(open_desk):
    desk, connect = open_desk()
    with connect() as anna, connect() as ben, connect() as carl:
        greet(anna, desk.ticket(request()))
        until(anna, "open")
        greet(ben, desk.ticket(request()))
        assert until(ben, "wait")[0] == "Waiting: 1 person is before you."
        greet(carl, desk.ticket(request()))
        assert until(carl, "over")[0].startswith("2 people are speaking or waiting; try again")
        anna.send_json({"type": "stop"})
        assert until(anna, "over")[0] == "The end."
        until(ben, "open")


def test_who_leaves_makes_room(open_desk):
    desk, connect = open_desk()
    with connect() as anna:
        greet(anna, desk.ticket(request()))
        until(anna, "open")
    with connect() as ben:
        greet(ben, desk.ticket(request()))
        until(ben, "open")
    assert wait_for(lambda: desk.service.begin_live())  # and nobody computes any more
    desk.service.end_live(has_begun=True)


def wait_for(condition):
    end = time.monotonic() + 10
    while time.monotonic() < end:
        if condition():
            return True
        time.sleep(0.05)
    return False


@pytest.mark.parametrize(
    ("limits", "amplitude", "sentence"),
    [
        ({"idle_seconds": 1}, 0.005, "The end: nothing was heard for 1 s."),
        ({"max_seconds": 1}, 0.5, "The end: one session lasts at most 1 s. Press Start"),
    ],
)
def test_sessions_end(open_desk, limits, amplitude, sentence):
    desk, connect = open_desk(**limits)
    rng = np.random.default_rng(0)
    with connect() as socket:
        greet(socket, desk.ticket(request()))
        until(socket, "open")
        say(socket, rng.uniform(-amplitude, amplitude, 8_000))
        assert until(socket, "over")[0].startswith(sentence)


def test_a_late_server_skips_sound_and_says_how_much(open_desk, monkeypatch, speech):
    desk, connect = open_desk()
    push = VoiceStream.push

    def slow(stream, samples):
        time.sleep(0.3)
        return push(stream, samples)

    monkeypatch.setattr(VoiceStream, "push", slow)
    wav = np.tile(speech[:32_000], 2)
    with connect() as socket:
        greet(socket, desk.ticket(request()))
        until(socket, "open")
        say(socket, wav)
        socket.send_json({"type": "stop"})
        _, sound, news = until(socket, "over")
    skipped = [content["skipped"] for content in news]
    assert sum(skipped) > 16_000
    assert len(sound) + sum(skipped) == len(wav)
    assert min(skipped) >= 0.9 * 16_000  # a few long gaps leave more words than many short ones


def test_the_thread_for_live_speech_computes_alone():
    """Its small operations are not shared out; nobody else's number of threads changes."""
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        thread = live.single_threaded()
        assert thread.submit(torch.get_num_threads).result() == 1
        assert torch.get_num_threads() == 2
        with ThreadPoolExecutor(1) as other:
            assert other.submit(torch.get_num_threads).result() == 2
    finally:
        torch.set_num_threads(before)
        thread.shutdown()


@pytest.mark.parametrize("greeting", ['{"ticket": "no", "sample_rate": 16000}', "{}", "[", "1e999"])
def test_no_ticket_no_speech(open_desk, greeting):
    _, connect = open_desk()
    with connect() as socket:
        socket.send_text(greeting)
        assert until(socket, "over")[0] == "This ticket is not valid; press Start again."


def test_tickets_are_used_once_and_soon(open_desk, monkeypatch):
    desk, connect = open_desk()
    ticket = desk.ticket(request())
    for sentence in ("A message holds", "This ticket is not valid"):
        with connect() as socket:
            greet(socket, ticket)
            if sentence.startswith("A"):
                until(socket, "open")
                socket.send_bytes(b"123")
            assert until(socket, "over")[0].startswith(sentence)
    monkeypatch.setattr(live, "TICKET_SECONDS", -1)
    with connect() as socket:
        greet(socket, desk.ticket(request()))
        assert until(socket, "over")[0] == "This ticket is too old; press Start again."


def test_rates_that_no_microphone_has_are_a_sentence(open_desk):
    desk, connect = open_desk()
    for rate in (-5, 10, 10**9):
        with connect() as socket:
            greet(socket, desk.ticket(request()), rate)
            assert until(socket, "over")[0].startswith(f"sample_rate={rate}: give a number from")


def test_a_ticket_needs_a_voice(open_desk):
    desk, _ = open_desk()
    for wanted, sentence in {
        "": "there is no voice yet",
        "Ben": "voice Ben: not learned yet",
    }.items():
        with pytest.raises(InputError, match=sentence):
            desk.ticket(voice_request(learned=wanted))


def test_limits_of_sessions_are_checked():
    for limits in ({"max_seconds": 0}, {"idle_seconds": -1}, {"max_waiting": -1}):
        with pytest.raises(InputError, match=f"live.{next(iter(limits))}="):
            live.LiveLimits(**LIMITS | limits)
