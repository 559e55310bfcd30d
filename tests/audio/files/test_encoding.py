"""Sound that is written in every format."""

import av
import numpy as np
import pytest
import soundfile

from vc_lightning.audio.files import decoding, encoding, ffmpeg
from vc_lightning.audio.files.io import load, resample
from vc_lightning.common.errors import InputError

RATE = 16_000
SUFFIXES = [".wav", ".flac", ".mp3", ".ogg", ".opus", ".m4a"]
TAGS = {"title": "T", "software": "vc_lightning 1", "date": "2026-11-24", "comment": 'ж {"a": 1}'}


def tone(n=RATE, rate=RATE):
    return (0.5 * np.sin(2 * np.pi * 440 * np.arange(n) / rate)).astype(np.float32)


@pytest.mark.parametrize("rate", [16_000, 22_050, 19_000])
@pytest.mark.parametrize("suffix", SUFFIXES)
def test_formats_keep_length_and_alignment(tmp_path, suffix, rate):
    path = encoding.save(tmp_path / f"a{suffix.upper()}", tone(rate=rate), rate)
    wav, found_rate = load(path)
    assert found_rate == (rate if suffix in (".wav", ".flac", ".ogg") else found_rate)
    assert rate <= found_rate <= 24_000
    wav = resample(wav, found_rate, rate)
    assert len(tone()) <= len(wav) <= len(tone()) + (1100 if suffix == ".m4a" else 1)
    middle = slice(4000, 12_000)
    atol = 1e-4 if suffix in (".wav", ".flac") else 0.05
    np.testing.assert_allclose(wav[middle], tone(rate=rate)[middle], atol=atol)


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_formats_keep_tags(tmp_path, suffix):
    path = encoding.save(tmp_path / f"a{suffix}", tone(), RATE, TAGS)
    for found in (decoding.tags(path), ffmpeg.tags(path)):
        assert (found["title"], found["comment"]) == (TAGS["title"], TAGS["comment"])
    with av.open(str(path)) as container:
        assert container.streams.audio[0].codec_context.name.removesuffix("float") == {
            ".wav": "pcm_s16le",
            ".ogg": "vorbis",
        }.get(suffix, "aac" if suffix == ".m4a" else suffix[1:])


def test_flac_has_16_bits_and_is_lossless(tmp_path):
    path = encoding.save(tmp_path / "a.flac", tone(), RATE)
    assert soundfile.info(path).subtype == "PCM_16"
    as_wav = encoding.save(tmp_path / "a.wav", tone(), RATE)
    np.testing.assert_allclose(*(load(file)[0] for file in (path, as_wav)), atol=2**-15)


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_scales_loud_sound(tmp_path, suffix):
    wav = load(encoding.save(tmp_path / f"a{suffix}", 4 * tone(), RATE))[0]
    np.testing.assert_allclose(wav[4000:12_000], 2 * tone()[4000:12_000], atol=0.1)


@pytest.mark.parametrize("suffix", [".ogg", ".m4a"])
def test_writes_long_sound_in_blocks(tmp_path, suffix):
    n = 3 * encoding.WRITE_SAMPLES + 1000
    wav = np.memmap(tmp_path / "wav.f32", np.float32, "w+", shape=(n,))
    wav[:] = tone(n)
    found = load(encoding.save(tmp_path / f"a{suffix}", wav, RATE))[0]
    np.testing.assert_allclose(found[n - 2000 : n - 1000], wav[n - 2000 : n - 1000], atol=0.05)


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_failed_write_keeps_old_file(tmp_path, monkeypatch, suffix):
    path = encoding.save(tmp_path / f"a{suffix}", tone(), RATE)
    before = path.read_bytes()

    def full_disk(*_):
        raise OSError("no space left")
        yield

    monkeypatch.setattr(encoding, "resampled", full_disk)
    with pytest.raises(OSError, match="space"):
        encoding.save(path, tone(), RATE)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("name", ["a.wma", "a.xyz", "a"])
def test_refuses_unknown_suffix(tmp_path, name):
    with pytest.raises(
        InputError, match=rf"{name}: .* \.wav, \.flac, \.mp3, \.ogg, \.opus or \.m4a"
    ):
        encoding.save(tmp_path / name, tone(), RATE)
    assert list(tmp_path.iterdir()) == []
