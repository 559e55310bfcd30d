"""Hostile requests: answers are sentences, nothing is logged as a bug, and the server lives on.

`-m by_hand` runs ten times as many.
"""

import contextlib
import json
import socket
import string

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from helpers import SOURCE, TARGET
from server_helpers import CLIENT, ask, error_of, eventually, form, running

exceptions = pytest.importorskip("websockets.exceptions")
client_of = pytest.importorskip("websockets.sync.client")

EXAMPLES = [25, pytest.param(250, marks=pytest.mark.by_hand)]
GOOD_HELLO = {"rate": 16_000, "format": "int16"}
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=5,
)
KEYS = ("rate", "format", "voice", "speaker", "block", "token", "ticket", "wait", "skip")
HELLOS = st.dictionaries(st.sampled_from(KEYS) | st.text(max_size=5), JSON, max_size=4)
FIELDS = ("source", "target", "voice", "format", "checkpoint", "vocoder", "guidance", "seed")
NAMES = st.sampled_from(FIELDS) | st.text(string.printable, max_size=10)


@pytest.fixture(scope="module")
def api(build, tmp_path_factory):
    return build(
        tmp_path_factory.mktemp("work"),
        f"live.target={TARGET}",
        "live.max_idle_seconds=1",
        "live.max_clients=2",
        "transfer_seconds=3",
    )


@pytest.fixture(scope="module")
def address(api):
    with running(api) as (address, _):
        yield address


@pytest.fixture
def unharmed(api, address, caplog):
    """After the test the server is idle, has logged no bug, and converts."""
    yield
    eventually(lambda: api.service.queue.n_requests == api.live.n_clients == 0, 30)
    assert not [record for record in caplog.records if record.levelname == "ERROR"], caplog.text
    assert "Traceback" not in caplog.text
    assert ask(address).status_code == 200


def tried(n_examples, strategy, test):
    """Run a test with examples of Hypothesis, always the same ones."""
    settings(
        max_examples=n_examples,
        deadline=None,
        derandomize=True,
        database=None,
        suppress_health_check=list(HealthCheck),
    )(given(strategy)(test))()


def connected(address):
    return client_of.connect(
        f"{address.replace('http', 'ws')}/live", compression=None, close_timeout=1
    )


def talking(host, port):
    return socket.create_connection((host, port), timeout=20)


def ending(client):
    """The close code and the last text of a connection."""
    texts = []
    with contextlib.suppress(exceptions.ConnectionClosed):
        while True:
            message = client.recv(timeout=20)
            if isinstance(message, str):
                texts.append(json.loads(message))
    return client.close_code, texts[-1] if texts else {}


@pytest.mark.parametrize("n_examples", EXAMPLES)
def test_first_messages(address, unharmed, n_examples):
    def test(hello):
        with connected(address) as client:
            client.send(json.dumps(hello))
            client.send('{"end": true}')
            code, last = ending(client)
        assert (code == 1000) != ("error" in last), (hello, code, last)
        assert code in (1000, 1007, 1008)

    tried(n_examples, HELLOS | HELLOS.map(lambda more: GOOD_HELLO | more) | JSON, test)


@pytest.mark.parametrize("n_examples", EXAMPLES)
def test_later_messages(address, unharmed, n_examples):
    def test(messages):
        with connected(address) as client:
            client.send(json.dumps(GOOD_HELLO))
            with contextlib.suppress(exceptions.ConnectionClosed):
                for message in messages:
                    client.send(message)
                client.send('{"end": true}')
            code, last = ending(client)
        assert (code == 1000) != ("error" in last), (messages, code, last)

    tried(n_examples, st.lists(st.binary(max_size=3_000) | st.text(max_size=20), max_size=5), test)


def test_text_that_is_not_utf8(address, unharmed):
    with connected(address) as client:
        client.socket.sendall(b"\x81\x82\0\0\0\0\xff\xfe")
        assert ending(client)[0] == 1007


@pytest.mark.parametrize("n_examples", EXAMPLES)
def test_raw_frames(address, unharmed, n_examples):
    def test(content):
        with connected(address) as client:
            client.socket.sendall(content)
            with contextlib.suppress(OSError):
                client.socket.shutdown(socket.SHUT_WR)
            ending(client)

    tried(n_examples, st.binary(min_size=1, max_size=200), test)


@pytest.mark.parametrize("n_examples", EXAMPLES)
def test_forms(address, unharmed, n_examples):
    files = st.tuples(
        NAMES,
        st.tuples(
            st.text(string.printable, min_size=1, max_size=20),
            st.binary(max_size=500) | st.sampled_from([b"", SOURCE.read_bytes()[:3_000]]),
        ),
    )
    texts = st.dictionaries(NAMES, st.text(max_size=30), max_size=3)

    def test(content):
        answer = ask(address, [*form(), *content[0]][content[2] :], content[1])
        if answer.status_code != 200:
            assert answer.status_code in (400, 406, 413, 415), answer.text
            assert error_of(answer, answer.status_code)

    tried(n_examples, st.tuples(st.lists(files, max_size=2), texts, st.integers(0, 2)), test)


@pytest.mark.parametrize("n_examples", EXAMPLES)
def test_raw_requests(address, unharmed, n_examples):
    host, port = address.removeprefix("http://").split(":")
    paths = st.sampled_from(["/convert", "/live", "/voices", "/metrics", "/login", "/", "/%00"])
    headers = st.lists(
        st.tuples(
            st.sampled_from(
                ["Host", "Content-Length", "Transfer-Encoding", "Content-Type", "Upgrade", "Origin"]
            ),
            st.text(string.printable, max_size=20)
            | st.sampled_from(["localhost", "websocket", "chunked", "multipart/form-data"]),
        ),
        max_size=5,
    )

    def test(parts):
        method, path, pairs, body = parts
        lines = [f"{method} {path} HTTP/1.1", *(f"{name}: {value}" for name, value in pairs)]
        content = "\r\n".join([*lines, "", ""]).encode() + body
        with contextlib.suppress(ConnectionError), talking(host, int(port)) as client:
            client.sendall(content)
            client.shutdown(socket.SHUT_WR)
            while client.recv(10_000):
                pass

    methods = st.sampled_from(["GET", "POST", "PUT", "OPTIONS"]) | st.text("ABC\0 ", max_size=5)
    tried(n_examples, st.tuples(methods, paths, headers, st.binary(max_size=300)), test)


@pytest.mark.parametrize(
    "answer_to",
    [
        lambda address: CLIENT.post(f"{address}/convert", content=b"x" * 2_000_000),
        lambda address: CLIENT.get(f"{address}/voices", headers={"Cookie": "a" * 20_000}),
        lambda address: CLIENT.get(f"{address}/voices", headers={"Origin": "http://[::1"}),
        lambda address: CLIENT.get(f"{address}/voices", headers={"Host": "a:b:c"}),
    ],
)
def test_refusals_are_sentences(address, unharmed, answer_to):
    answer = answer_to(address)
    assert answer.status_code in (200, 400, 403, 415, 431)
    assert "Traceback" not in answer.text
