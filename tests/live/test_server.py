"""The server with a real WebSocket client: what it converts, refuses, bounds and frees."""

import contextlib
import json
import socket
import threading
import time

import numpy as np
import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import connect

from vc_lightning import VoiceConverter
from vc_lightning.common.errors import InputError
from vc_lightning.conversion.voices.voice import Voice
from vc_lightning.live import server as live_server
from vc_lightning.live.server import Limits, LiveServer, require_token_beyond_loopback, serving

HELLO = {"rate": 16_000, "format": "float32"}
TOKEN = "sixteen letters!"
LIMITS = Limits(max_clients=2, max_message_kib=1024, max_unread_seconds=1, max_idle_seconds=30)


@pytest.fixture(scope="module")
def quick(shared_checkpoint):
    """A converter whose network is tiny."""
    return VoiceConverter.from_checkpoint(shared_checkpoint)


@pytest.fixture(scope="module")
def open_stream(quick):
    voice = Voice(np.full(256, 1 / 16, np.float32))

    def open_stream(hello):
        if hello.voice is not None:
            raise InputError(f"voice {hello.voice}: not learned yet")
        return quick.stream(voice, hello.block, sample_rate=hello.rate)

    return open_stream


@pytest.fixture
def serve(open_stream):
    """Start a server that ends with the test."""
    with contextlib.ExitStack() as stack:

        def serve(limits=LIMITS, token=None):
            server = LiveServer(open_stream, limits, token)
            address = stack.enter_context(serving(server, "127.0.0.1", 0))
            return server, address

        yield serve


def spoken(address, blocks, hello=HELLO):
    """What a well-behaved client gets: the answer, and all samples."""
    dtype = {"float32": "<f4", "int16": "<i2"}[hello["format"]]
    with connect(address) as client:
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
        for message in messages:
            client.send(message)
        received = []
        with contextlib.suppress(ConnectionClosed):
            while True:
                received.append(client.recv(timeout=10))
        return client.close_code, json.loads(received[-1])["error"], client.close_reason


def wait_until(condition, seconds=10):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_a_client_gets_what_the_stream_gives(serve, open_stream, speech):
    _, address = serve()
    speech = speech[:20_000]
    answer, heard = spoken(address, [speech[:999], speech[999:999], speech[999:]])
    stream = open_stream(live_server.Hello(16_000, "float32"))
    assert answer == {
        "rate": 16_000,
        "format": "float32",
        "block_seconds": stream.block_seconds,
        "latency_seconds": round(stream.latency_seconds, 4),
        "voice": None,
    }
    assert np.array_equal(heard, np.concatenate([stream.push(speech), stream.flush()]))


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
        (["rate"], 1008, "rate is no JSON object"),
        (["[" * 100_000], 1008, "no JSON object"),
        (['{"format": "float32"}'], 1008, "lacks rate"),
        ([json.dumps(HELLO | {"rate": 4000})], 1008, "rate=4000"),
        ([json.dumps(HELLO | {"rate": True})], 1008, "rate=True"),
        ([json.dumps(HELLO | {"format": "mp3"})], 1008, "float32, int16"),
        ([json.dumps(HELLO | {"format": ["int16"]})], 1008, "format"),
        ([json.dumps(HELLO | {"block": 99})], 1008, "block_seconds=99"),
        ([json.dumps(HELLO | {"block": "x"})], 1008, "block=x"),
        ([json.dumps(HELLO | {"colour": "red"})], 1008, "unknown keys: colour"),
        ([json.dumps(HELLO | {"voice": "Nobody"})], 1008, "Nobody: not learned"),
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
def serve_once(open_stream):
    """One server for many refusals, which shows that each of them frees its place."""
    limits = Limits(1, 1024, 1, 30)
    with serving(LiveServer(open_stream, limits, None), "127.0.0.1", 0) as address:
        yield address


def test_a_message_above_the_limit_is_refused(serve):
    server, address = serve()
    with connect(address) as client:
        client.send(json.dumps(HELLO))
        client.recv()
        client.send(np.zeros(1_000_000, np.float32).tobytes())
        with pytest.raises(ConnectionClosed):
            client.recv(timeout=10)
        assert client.close_code == 1009
    wait_until(lambda: server.n_clients == 0)


def test_a_client_too_many_is_told_so_and_the_place_is_freed(serve):
    server, address = serve(Limits(1, 1024, 1, 30))
    with connect(address) as first:
        first.send(json.dumps(HELLO))
        first.recv()
        code, sentence, _ = refusal(address)
        assert code == 1013
        assert "1 clients are connected" in sentence
    wait_until(lambda: server.n_clients == 0)
    assert len(spoken(address, [np.zeros(100, np.float32)])[1]) == 100


@pytest.mark.parametrize("token", [None, "wrong", "ключ"])
def test_a_wrong_token_opens_nothing(serve, token):
    _, address = serve(token=TOKEN)
    code, sentence, _ = refusal(address, json.dumps(HELLO | {"token": token}))
    assert (code, sentence) == (1008, "the token is missing or wrong")


def test_the_right_token_opens_and_short_ones_are_refused(serve):
    _, address = serve(token=TOKEN)
    assert len(spoken(address, [np.zeros(9, np.float32)], HELLO | {"token": TOKEN})[1]) == 9
    with pytest.raises(InputError, match="16 letters"):
        serve(token="short")


def test_web_pages_are_kept_out_without_a_token(serve):
    _, address = serve()
    with pytest.raises(InvalidStatus, match="403"), connect(address, origin="http://x.org"):
        pass


def test_a_client_that_never_reads_is_cut_off(serve):
    server, address = serve(Limits(1, 1024, 0.5, 30))
    loud = np.zeros(200_000, np.float32).tobytes()

    def send_on_and_on(client):
        with contextlib.suppress(ConnectionClosed):
            for _ in range(100):
                client.send(loud)

    with connect(address, max_queue=1, close_timeout=1) as client:  # it reads one message
        client.send(json.dumps(HELLO | {"rate": 96_000}))
        wait_until(lambda: server.n_clients == 1)
        threading.Thread(target=send_on_and_on, args=(client,), daemon=True).start()
        wait_until(lambda: server.n_clients == 0)


def test_a_cut_connection_frees_its_place(serve):
    server, address = serve(Limits(1, 1024, 1, 30))
    with connect(address) as client:
        client.send(json.dumps(HELLO))
        client.recv()
        assert server.n_clients == 1
        client.socket.shutdown(socket.SHUT_RDWR)
        wait_until(lambda: server.n_clients == 0)


@pytest.mark.parametrize(("messages", "words"), [([], "first message"), ([HELLO], "no message")])
def test_silent_clients_do_not_keep_a_place(serve, monkeypatch, messages, words):
    monkeypatch.setattr(live_server, "HELLO_SECONDS", 0.3)
    server, address = serve(Limits(1, 1024, 1, max_idle_seconds=0.3))
    code, sentence, _ = refusal(address, *map(json.dumps, messages))
    assert code == 1008
    assert words in sentence
    wait_until(lambda: server.n_clients == 0)


def test_the_end_of_the_server_closes_its_clients(open_stream):
    with contextlib.ExitStack() as stack:
        server = LiveServer(open_stream, LIMITS, None)
        with serving(server, "127.0.0.1", 0) as address:
            client = stack.enter_context(connect(address))
            client.send(json.dumps(HELLO))
            client.recv()
        with pytest.raises(ConnectionClosed):
            client.recv(timeout=5)
        assert client.close_code == 1001


def test_a_port_that_is_taken_is_named(open_stream):
    server = LiveServer(open_stream, LIMITS, None)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with (
            pytest.raises(InputError, match=f"serve.port={port}: cannot listen"),
            serving(server, "127.0.0.1", port),
        ):
            pass


@pytest.mark.parametrize("host", ["0.0.0.0", "", "::"])
def test_beyond_this_computer_a_token_is_needed(host):
    with pytest.raises(InputError, match="set a token"):
        require_token_beyond_loopback(host, None)
    require_token_beyond_loopback(host, TOKEN)
    require_token_beyond_loopback("localhost", None)
