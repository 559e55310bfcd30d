"""Weight files that lie, and files that would run code or fill the memory if they were let."""

import builtins
import collections
import functools
import importlib
import io
import json
import os
import pickle
import runpy
import struct
import subprocess
import zipfile
from collections.abc import Callable, Iterator

import torch

from fuzzing.trials import CANARY
from fuzzing.weights import saved
from vc_lightning.models.checkpoints import METADATA_KEY

LIES = (None, True, -1, 0, 1, 1.5, 10**9, 10**30, "abc", "x" * 10_000, [], [1], {}, {"a": 1})
SIZES = (2**31, 2**40, 2**62)


def lies(content: bytes) -> Iterator[tuple[str, dict, bytes]]:
    """A safetensors file whose JSON header lies in one place: in which, and the two parts of it."""
    if content[8:9] != b"{":
        return
    length = struct.unpack("<Q", content[:8])[0]
    header, body = json.loads(content[8 : 8 + length]), content[8 + length :]
    card = json.loads(header["__metadata__"][METADATA_KEY])

    def with_card(new: object) -> dict:
        return header | {"__metadata__": {METADATA_KEY: json.dumps(new)}}

    for key, lie in changes(card):
        yield f"the card has {key}", with_card(lie), body
    for part in ("network", "mel"):
        for key, lie in changes(card[part]):
            yield f"{part} has {key}", with_card(card | {part: lie}), body
    name = next(key for key in header if key != "__metadata__")
    for key, lie in changes(header[name]):
        yield f"{name} has {key}", header | {name: lie}, body
    for text in ("null", "[]", "{", "1e999", "[" * 100_000, '{"kind": "autovc"}'):
        yield f"the card is {text[:20]}", header | {"__metadata__": {METADATA_KEY: text}}, body
    yield "there is no card", {k: v for k, v in header.items() if k != "__metadata__"}, body
    for weight in [key for key in header if key != "__metadata__"][:3]:
        yield f"{weight} is gone", {k: v for k, v in header.items() if k != weight}, body


def changes(said: dict) -> Iterator[tuple[str, dict]]:
    """One of its entries gone, or another value in its place."""
    for key in said:
        yield f"no {key}", {k: v for k, v in said.items() if k != key}
        for lie in LIES:
            yield f"{key} {str(lie)[:20]}", said | {key: lie}
    yield "an entry more", said | {"abc": 1}


def packed(header: dict, body: bytes) -> bytes:
    """A safetensors file of a header and the bytes after it."""
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + body


class Call:
    """Pickled as the call of a function, which happens when it is read without care."""

    def __init__(self, function: Callable, *arguments: object):
        self.call = function, arguments

    def __reduce__(self) -> tuple[Callable, tuple]:
        return self.call


def files() -> Iterator[tuple[str, Callable[[], bytes]]]:
    """Files that run code, that promise more than memory holds, and that are nothing at all."""
    for name, content in _small_files():
        yield name, functools.partial(bytes, content)
    yield "a bomb", _bomb


def _small_files() -> Iterator[tuple[str, bytes]]:
    touch = f"open({CANARY!r}, 'w').close()"
    calls = {
        "os.system": Call(os.system, f"touch {CANARY}"),
        "exec": Call(builtins.exec, touch),
        "eval": Call(builtins.eval, touch),
        "open": Call(builtins.open, CANARY, "w"),
        "subprocess": Call(subprocess.call, ["touch", CANARY]),
        "os.mknod": Call(os.mknod, CANARY),
        "getattr": Call(builtins.getattr, Call(importlib.import_module, "os"), "system"),
        "runpy": Call(runpy.run_module, "this"),
        "torch.load": Call(torch.load, CANARY),
        "a counter": Call(collections.Counter, "abc"),
        "a large bytearray": Call(builtins.bytearray, 2**40),
    }
    for name, call in calls.items():
        yield f"{name} in torch's format", saved({"model": call})
        yield f"{name} in torch's old format", saved({"model": call}, old=True)
        for protocol in (0, 2, 5):
            yield f"{name} in pickle {protocol}", pickle.dumps({"model": call}, protocol)
    for size in SIZES:
        yield f"{size} zeros that are not there", saved({"model": _promised(size)})
        header = {"a": {"dtype": "F32", "shape": [size], "data_offsets": [0, 4 * size]}}
        yield f"safetensors of {size} floats", packed(header, b"")
        yield f"a header of {size} bytes", struct.pack("<Q", size) + b"{"
    yield "deeply nested", b"\x80\x02" + b"(" * 1_000_000 + b"."
    yield "a nested list", pickle.dumps(_nested(), 2)
    yield "names that are no words", saved({1: torch.zeros(1), None: 2, ("a",): 3})
    yield "a list", saved([torch.zeros(1)])
    yield "a dict of words", saved({"model": {"encoder.lstm.weight_hh_l0": "abc"}})
    yield "numbers for weights", saved({"model": {"encoder.lstm.weight_hh_l0": 1}})
    yield "empty parts", saved({"model": {}, "model_b": {}, "card": {}})
    yield "a card of words", saved({"card": "abc", "state": 1})
    yield "weights of no numbers", saved({"model": {"encoder.lstm.weight_hh_l0": torch.zeros(0)}})
    yield "complex weights", saved({"linear.weight": torch.zeros(1, dtype=torch.complex64)})
    yield "nothing", b""
    yield "zeros", bytes(10_000)
    yield "words", b"these are no weights\n" * 100
    yield "HTML", b"<!DOCTYPE html><title>404</title>"
    yield "a Git LFS pointer", b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n"
    yield "an archive", _archive({"a.txt": b"abc"})


def _promised(size: int) -> torch.Tensor:
    """A tensor of so many zeros that takes the room of one."""
    return torch.zeros(1).expand(size)


def _nested() -> list:
    nested: list = []
    for _ in range(400):
        nested = [nested]
    return nested


def _archive(contents: dict[str, bytes]) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in contents.items():
            archive.writestr(name, content)
    return file.getvalue()


def _bomb() -> bytes:
    """A checkpoint of a few MB whose storage unpacks to 4 GB."""
    whole = io.BytesIO(saved({"model": {"encoder.lstm.weight_hh_l0": torch.zeros(4)}}))
    file = io.BytesIO()
    with zipfile.ZipFile(whole) as source, zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as bomb:
        for name in source.namelist():
            with bomb.open(name, "w", force_zip64=True) as part:
                if "/data/" in name:
                    for _ in range(256):
                        part.write(bytes(2**24))
                else:
                    part.write(source.read(name))
    return file.getvalue()
