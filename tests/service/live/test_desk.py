"""Live speech with a real WebSocket client: what it converts, refuses, bounds and frees."""

import asyncio
import contextlib
import json
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch

from helpers import SOURCE, TARGET
from server_helpers import LIVE_LIMITS, eventually, running
from vc_lightning import VoiceConverter
from vc_lightning.common.errors import InputError
from vc_lightning.conversion.live.stream import VoiceStream
from vc_lightning.service.limits import LiveLimits
from vc_lightning.service.live import desk as live

ConnectionClosed = pytest.importorskip("websockets.exceptions").ConnectionClosed
InvalidStatus = pytest.importorskip("websockets.exceptions").InvalidStatus
client_of = pytest.importorskip("websockets.sync.client")

HELLO = {"rate": 16_000, "format": "float32"}
KEY = "sixteen letters!"
LIMITS = {
    "max_clients": 2,
    "max_waiting": 0,
    "max_seconds": 60,
    "idle_seconds": 60,
    "max_idle_seconds": 30,
    "max_unread_seconds": 1,
    "max_message_kib": 1024,
}


@pytest.fixture
def serve(build, tmp_path):
    """Start a server that ends with the test; give its desk and the address of /live."""
    with contextlib.ExitStack() as stack:

        def serve(keys=(), **limits):
            changes = [f"live.{key}={value}" for key, value in (LIMITS | limits).items()]
            changes.append(f"live.target={TARGET}")
            api = build(tmp_path, *changes, keys=keys)
            address, server = stack.enter_context(running(api))
            api.live.server = server
            return api.live, f"{address.replace('http', 'ws')}/live"

        yield serve


def connect(address, **options):
    return client_of.connect(address, compression=None, **options)


def spoken(address, blocks, hello=HELLO, **options):
    """What a well-behaved client gets: the answer, and all samples."""
    dtype = {"float32": "<f4", "int16": "<i2"}[hello["format"]]
    with connect(address, **options) as client:
        client.send(json.dumps(hello))
        answer = json.loads(client.recv())
        sender = threading.Thread(target=said, args=(client, blocks))
        sender.start()
        heard = b"".join(client)
        sender.join()
        assert client.close_code == 1000
    return answer, np.frombuffer(heard, dtype)


def said(client, blocks):
    for block in blocks:
        client.send(block.tobytes())
    client.send('{"end": true}')


def refusal(address, *messages):
    """Close code, the server's sentence and the reason after some messages."""
    with connect(address) as client:
        received = []
        with contextlib.suppress(ConnectionClosed):
            for message in messages:
                client.send(message)
        with contextlib.suppress(ConnectionClosed):
            while True:
                received.append(client.recv(timeout=10))
        return client.close_code, json.loads(received[-1])["error"], client.close_reason


def test_a_client_gets_what_the_stream_gives(serve, converter, speech):
    _, address = serve()
    speech = speech[:20_000]
    answer, heard = spoken(address, [speech[:999], speech[999:999], speech[999:]])
    stream = converter.stream(converter.voice(TARGET), LIVE_LIMITS["live.block_seconds"])
    assert answer == {
        "rate": 16_000,
        "format": "float32",
        "block_seconds": stream.block_seconds,
        "latency_seconds": round(stream.latency_seconds, 4),
        "voice": None,
    }
    expected = np.concatenate([stream.push(speech), stream.flush()])
    np.testing.assert_allclose(heard, expected, atol=1e-4)


def test_two_clients_at_once_each_get_their_own_sound(serve, speech):
    _, address = serve()
    blocks = {rate: np.split(speech[:9_600], 20) for rate in (8_000, 96_000)}
    found = {}

    def speak(rate):
        hello = {"rate": rate, "format": "int16", "block": 0.08}
        pcm = [(block * 32767).astype("<i2") for block in blocks[rate]]
        found[rate] = spoken(address, pcm, hello)

    threads = [threading.Thread(target=speak, args=(rate,)) for rate in blocks]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for rate, (answer, heard) in found.items():
        assert answer["rate"] == rate
        assert answer["block_seconds"] == 0.08
        assert len(heard) == 9_600
        assert np.abs(heard).max() > 0


def test_blocks_of_nothing_and_of_nan_give_finite_sound(serve):
    _, address = serve()
    broken = np.full(16_000, np.nan, np.float32)
    broken[5:9] = [np.inf, -np.inf, 1e30, 0]
    _, heard = spoken(address, [broken[:0], broken, broken[:0]])
    assert len(heard) == 16_000
    assert np.isfinite(heard).all()


@pytest.mark.parametrize(
    ("messages", "code", "words"),
    [
        ([b"\0\0"], 1003, "binary"),
        (["rate"], 1008, "rate is not a JSON object"),
        (["[" * 100_000], 1008, "not a JSON object"),
        (['{"format": "float32"}'], 1008, "lacks rate"),
        ([json.dumps(HELLO | {"rate": 4000})], 1008, "rate=4000"),
        ([json.dumps(HELLO | {"rate": True})], 1008, "rate=True"),
        ([json.dumps(HELLO | {"format": "mp3"})], 1008, "float32, int16"),
        ([json.dumps(HELLO | {"format": ["int16"]})], 1008, "format"),
        ([json.dumps(HELLO | {"block": 99})], 1008, "block_seconds=99"),
        ([json.dumps(HELLO | {"block": "x"})], 1008, "block=x"),
        ([json.dumps(HELLO | {"colour": "red"})], 1008, "unknown keys: colour"),
        ([json.dumps(HELLO | {"voice": "Nobody"})], 1008, "Nobody: not learned"),
        ([json.dumps(HELLO | {"ticket": "no"})], 1008, "this ticket is not valid"),
        ([json.dumps(HELLO | {"skip": 1})], 1008, "skip=1: give true or false"),
        ([json.dumps(HELLO), b"123"], 1007, "3 bytes"),
        ([json.dumps(HELLO), "{}"], 1008, '{"end": true}'),
    ],
)
def test_bad_messages_are_answered_by_a_sentence_and_a_code(serve_once, messages, code, words):
    found, sentence, reason = refusal(serve_once, *messages)
    assert found == code
    assert words in sentence
    assert reason.encode()[:50] == sentence.encode()[:50]


@pytest.fixture(scope="module")
def serve_once(build, tmp_path_factory):
    """One server for many refusals, which shows that each of them frees its place."""
    changes = [f"live.{key}={value}" for key, value in (LIMITS | {"max_clients": 1}).items()]
    api = build(tmp_path_factory.mktemp("work"), *changes, f"live.target={TARGET}")
    with running(api) as (address, _):
        yield f"{address.replace('http', 'ws')}/live"
        eventually(lambda: api.live.n_clients == 0)


def test_a_message_above_the_limit_is_refused(serve):
    desk, address = serve()
    with connect(address) as client:
        client.send(json.dumps(HELLO))
        client.recv()
        with contextlib.suppress(ConnectionClosed):
            client.send(np.zeros(1_000_000, np.float32).tobytes())
            client.recv(timeout=10)
        assert client.close_code in (1009, 1006)  # the connection may be cut before the code comes
    eventually(lambda: desk.n_clients == 0)


def test_a_client_too_many_is_told_so_and_the_place_is_freed(serve):
    desk, address = serve(max_clients=1)
    with connect(address) as first:
        first.send(json.dumps(HELLO))
        first.recv()
        code, sentence, _ = refusal(address, json.dumps(HELLO))
        assert code == 1013
        assert sentence == "1 clients are speaking or waiting; try again in a few minutes"
    eventually(lambda: desk.n_clients == 0)
    assert len(spoken(address, [np.zeros(100, np.float32)])[1]) == 100


@pytest.mark.parametrize("token", [None, "wrong", "ключ"])
def test_a_wrong_token_opens_nothing(serve, token):
    _, address = serve(keys=[KEY])
    code, sentence, _ = refusal(address, json.dumps(HELLO | {"token": token}))
    assert (code, sentence) == (1008, "the token is missing or wrong")


def test_the_right_key_opens_in_a_message_or_a_header(serve):
    _, address = serve(keys=[KEY])
    nothing = [np.zeros(9, np.float32)]
    assert len(spoken(address, nothing, HELLO | {"token": KEY})[1]) == 9
    header = {"Authorization": f"Bearer {KEY}"}
    assert len(spoken(address, nothing, additional_headers=header)[1]) == 9
    with (
        pytest.raises(InvalidStatus, match="401"),
        connect(address, additional_headers={"X-API-Key": "wrong"}),
    ):
        pass


def test_other_sites_are_kept_out_without_a_key(serve):
    _, address = serve()
    own = address.replace("ws:", "http:").removesuffix("/live")
    with pytest.raises(InvalidStatus, match="403"), connect(address, origin="http://x.org"):
        pass
    with connect(address, origin=own) as client:
        client.send(json.dumps(HELLO))
        assert "rate" in json.loads(client.recv())
    with pytest.raises(InvalidStatus, match="403"), connect(f"{address}/elsewhere"):
        pass


def test_a_client_that_never_reads_is_cut_off(serve):
    desk, address = serve(max_clients=1, max_unread_seconds=0.5)
    loud = np.zeros(200_000, np.float32).tobytes()

    def send_on_and_on(client):
        with contextlib.suppress(ConnectionClosed):
            for _ in range(100):
                client.send(loud)

    with connect(address, max_queue=1, close_timeout=1) as client:  # it reads one message
        client.send(json.dumps(HELLO | {"rate": 96_000}))
        eventually(lambda: desk.n_clients == 1)
        threading.Thread(target=send_on_and_on, args=(client,), daemon=True).start()
        eventually(lambda: desk.n_clients == 0)
        client.socket.shutdown(socket.SHUT_RDWR)  # else closing waits for unread messages


def test_a_cut_connection_frees_its_place(serve):
    desk, address = serve(max_clients=1)
    with connect(address) as client:
        client.send(json.dumps(HELLO))
        client.recv()
        assert desk.n_clients == 1
        client.socket.shutdown(socket.SHUT_RDWR)
        eventually(lambda: desk.n_clients == 0)


@pytest.mark.parametrize(("messages", "words"), [([], "first message"), ([HELLO], "no message")])
def test_silent_clients_do_not_keep_a_place(serve, monkeypatch, messages, words):
    monkeypatch.setattr(live, "HELLO_SECONDS", 0.3)
    desk, address = serve(max_clients=1, max_idle_seconds=0.3)
    code, sentence, _ = refusal(address, *map(json.dumps, messages))
    assert code == 1008
    assert words in sentence
    eventually(lambda: desk.n_clients == 0)


def test_a_stopping_server_gives_the_rest_and_says_why(serve, speech):
    desk, address = serve()
    with connect(address) as client:
        client.send(json.dumps(HELLO))
        client.recv()
        client.send(speech[:30_000].tobytes())
        client.recv()  # the first samples
        desk.server.handle_exit(15, None)
        received = []
        with contextlib.suppress(ConnectionClosed):
            while True:
                received.append(client.recv(timeout=10))
        assert client.close_code == 1001
    assert "stopping" in json.loads(received.pop())["error"]
    eventually(lambda: desk.n_clients == 0)


# Waiting and skipping, as the page does ----------------------------------------------------------


def until(client, key):
    """The next message with a key; the sound and the messages before it."""
    sound, others = [np.zeros(0, np.float32)], []
    while True:
        message = client.recv(timeout=20)
        if isinstance(message, bytes):
            sound.append(np.frombuffer(message, "<f4"))
            continue
        content = json.loads(message)
        if key in content:
            return content[key], np.concatenate(sound), others
        others.append(content)


def test_one_speaks_one_waits_and_the_next_is_sent_away(serve):
    _, address = serve(max_clients=1, max_waiting=1)
    waiting = json.dumps(HELLO | {"wait": True})
    with connect(address) as anna, connect(address) as ben:
        anna.send(waiting)
        until(anna, "rate")
        code, sentence, _ = refusal(address, json.dumps(HELLO))  # does not want to wait
        assert (code, sentence) == (1013, "1 clients are speaking; try later")
        ben.send(waiting)
        assert until(ben, "wait")[0] == "You are the next."
        code, sentence, _ = refusal(address, waiting)
        assert (code, sentence[:37]) == (1013, "2 clients are speaking or waiting; tr")
        anna.send(json.dumps({"end": True}))
        until(ben, "rate")


@pytest.mark.parametrize(
    ("limits", "amplitude", "sentence"),
    [
        ({"idle_seconds": 1}, 0.005, "nothing was heard for 1 s, and others wait"),
        ({"max_seconds": 1}, 0.5, "a stream lasts at most 1 s while others wait"),
    ],
)
def test_a_stream_ends_when_its_time_is_over_and_others_wait(serve, limits, amplitude, sentence):
    _, address = serve(max_clients=1, max_waiting=1, **limits)
    sound = np.random.default_rng(0).uniform(-amplitude, amplitude, 3_200).astype("<f4").tobytes()
    with connect(address) as anna, connect(address) as ben:
        anna.send(json.dumps(HELLO))
        until(anna, "rate")
        end = time.monotonic() + 1.5
        while time.monotonic() < end:
            anna.send(sound)
            time.sleep(0.1)
        ben.send(json.dumps(HELLO | {"wait": True}))
        anna.send(sound)
        found, heard, _ = until(anna, "error")
        assert found.startswith(sentence)
        assert len(heard) % 3_200 == 0  # nothing that was taken is lost
        until(ben, "rate")


def test_a_late_server_skips_sound_and_says_how_much(serve, monkeypatch, speech):
    _, address = serve()
    push = VoiceStream.push

    def slow(stream, samples):
        time.sleep(0.3)
        return push(stream, samples)

    monkeypatch.setattr(VoiceStream, "push", slow)
    wav = np.tile(speech[:32_000], 2)
    with connect(address, max_queue=None) as client:
        client.send(json.dumps(HELLO | {"skip": True}))
        until(client, "rate")
        for start in range(0, len(wav), 320):
            client.send(wav[start : start + 320].tobytes())
        client.send(json.dumps({"end": True}))
        received = list(client)
    heard = sum(len(message) // 4 for message in received if isinstance(message, bytes))
    skipped = [json.loads(message)["skipped"] for message in received if isinstance(message, str)]
    assert sum(skipped) > 16_000
    assert heard + sum(skipped) == len(wav)


def test_tickets_are_used_once_and_soon(serve, monkeypatch):
    desk, address = serve()
    settings = desk.service.converters.default

    def ticket(target=(TARGET,)):
        return asyncio.run(desk.ticket(target, settings))

    hello = HELLO | {"ticket": ticket()}
    assert len(spoken(address, [np.zeros(9, np.float32)], hello)[1]) == 9
    assert "not valid" in refusal(address, json.dumps(hello))[1]
    monkeypatch.setattr(live, "TICKET_SECONDS", -1)
    assert "too old" in refusal(address, json.dumps(HELLO | {"ticket": ticket("Ann")}))[1]
    with pytest.raises(InputError, match="voice Ben: not learned yet"):
        ticket("Ben")


def test_a_ticket_knows_the_speaker(serve, monkeypatch, speech):
    desk, address = serve()
    settings = desk.service.converters.default
    converter = desk.service.converters.get(settings)
    opened = []
    stream = VoiceConverter.stream

    def spy(self, voice, *arguments, **options):
        opened.append(options)
        return stream(self, voice, *arguments, **options)

    monkeypatch.setattr(VoiceConverter, "stream", spy)
    block = speech[:16_000]
    heard = {}
    for speaker in (None, SOURCE):
        hello = HELLO | {"ticket": asyncio.run(desk.ticket((TARGET,), settings, speaker))}
        heard[speaker] = spoken(address, [block], hello)[1]
        if speaker is None:
            assert opened[-1]["source"] is opened[-1]["earlier"] is None
    expected = converter.voice(SOURCE), converter.end_of_speech(SOURCE)
    np.testing.assert_allclose(opened[-1]["source"].embedding, expected[0].embedding, atol=1e-6)
    np.testing.assert_allclose(opened[-1]["earlier"], expected[1], atol=1e-6)
    assert not np.array_equal(heard[None], heard[SOURCE])
    with pytest.raises(InputError, match="no-such"):
        asyncio.run(desk.ticket((TARGET,), settings, SOURCE.with_name("no-such.wav")))


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


def test_limits_of_streams_are_checked():
    for wrong in (
        {"max_seconds": 0},
        {"idle_seconds": -1},
        {"max_waiting": -1},
        {"max_clients": 0},
    ):
        with pytest.raises(InputError, match=f"live.{next(iter(wrong))}="):
            LiveLimits(**LIMITS | wrong)
