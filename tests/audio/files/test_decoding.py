"""Recordings that libsndfile cannot read, and files that want to do harm."""

import io
import random
import wave

import numpy as np
import pytest
import soundfile

from helpers import SOURCE, write_wav
from media import RATE, write_media
from vc_lightning.audio.files import decoding, ffmpeg
from vc_lightning.audio.files.io import duration, load
from vc_lightning.common.errors import InputError


def chirp(seconds=0.5, rate=RATE):
    """A sound that is like itself at one lag only."""
    time = np.arange(int(seconds * rate)) / rate
    window = np.hanning(len(time))
    return (0.4 * window * np.sin(2 * np.pi * (300 + 1500 * time) * time)).astype(np.float32)


def lag(wav, other):
    """By how many samples wav is late."""
    size = 2 ** (len(wav) + len(other)).bit_length()
    spectrum = np.fft.rfft(wav, size) * np.conj(np.fft.rfft(other, size))
    best = int(np.argmax(np.fft.irfft(spectrum, size)))
    return best if best < size // 2 else best - size


@pytest.mark.parametrize(
    ("name", "codec", "rate", "padding"),  # samples that a coder may add at the end
    [
        ("memo.m4a", "aac", 44_100, 1024),
        ("memo.mp4", "aac", 16_000, 1024),
        ("lossless.m4a", "alac", 44_100, 0),
        ("browser.webm", "libopus", 48_000, 0),
        ("film.mkv", "libopus", 48_000, 0),
        ("film.mov", "pcm_s16le", 44_100, 0),
        ("dictation.amr", "libopencore_amrnb", 8_000, 160),
        ("pack.wv", "wavpack", 44_100, 0),
        ("wave.mkv", "pcm_f32le", 44_100, 0),
    ],
)
def test_formats_decode_without_delay(tmp_path, name, codec, rate, padding):
    wav = chirp(rate=rate)
    path = write_media(tmp_path / name, codec, wav, rate=rate)
    with pytest.raises(soundfile.SoundFileError):
        soundfile.info(path)
    found, found_rate = load(path)
    assert (found.dtype, found_rate) == (np.float32, rate)
    assert len(wav) <= len(found) <= len(wav) + padding
    delay = 40 if codec == "libopencore_amrnb" else 0  # AMR states no delay: 5 ms of it stay
    assert lag(found, wav) == delay
    found, wav = found[delay : delay + len(wav) - 200], wav[: len(wav) - 200]
    if codec in ("alac", "pcm_s16le", "wavpack", "pcm_f32le"):
        np.testing.assert_allclose(found, wav, atol=0.01 if codec == "wavpack" else 1e-4)  # 8 bits
    else:
        assert np.corrcoef(found, wav)[0, 1] > 0.9
    assert np.abs(found).max() == pytest.approx(0.4, abs=0.1)
    assert duration(path) == pytest.approx((len(found) + 200) / rate, abs=0.05)


def test_raw_aac_keeps_encoder_delay(tmp_path):
    """ADTS has no place for it; FFmpeg does the same."""
    wav = chirp(rate=16_000)
    found = load(write_media(tmp_path / "a.aac", "aac", wav, rate=16_000))[0]
    assert lag(found, wav) == 1024


@pytest.mark.parametrize("suffix", ["mp3", "ogg", "opus"])
def test_both_libraries_agree(tmp_path, suffix):
    wav = chirp()
    codec = {"mp3": "libmp3lame"}.get(suffix, "libopus")
    path = write_media(tmp_path / f"a.{suffix}", codec, wav)
    by_sndfile, by_ffmpeg = load(path)[0], load(f"{path}?stream=0")[0]
    assert len(by_sndfile) == len(by_ffmpeg) == len(wav)
    np.testing.assert_allclose(by_sndfile, by_ffmpeg, atol=2e-3)


def test_averages_stereo_unless_channels_cancel(tmp_path):
    wav = chirp(rate=16_000)
    path = write_media(
        tmp_path / "a.mkv", "pcm_f32le", np.stack([wav, 0 * wav], axis=1), rate=16_000
    )
    np.testing.assert_allclose(load(path)[0], wav / 2, atol=1e-6)
    opposite = np.stack([wav, -wav], axis=1)
    path = write_media(tmp_path / "b.mkv", "pcm_f32le", opposite, rate=16_000)
    np.testing.assert_allclose(np.abs(load(path)[0]), np.abs(wav), atol=1e-6)


@pytest.fixture(scope="module")
def film(tmp_path_factory):
    """A film with pictures and two streams of sound, a chirp and a quieter tone."""
    tone = 0.1 * np.sin(2 * np.pi * 440 * np.arange(RATE // 2) / RATE)
    folder = tmp_path_factory.mktemp("film")
    return write_media(folder / "film.mkv", "pcm_s16le", chirp(), tone, picture=True)


def test_audio_stream_of_film(film):
    first, second = load(film)[0], load(f"{film}?stream=1")[0]
    np.testing.assert_array_equal(first, load(f"{film}?stream=0")[0])
    assert (np.abs(first).max(), np.abs(second).max()) == pytest.approx((0.4, 0.1), abs=1e-3)
    with pytest.raises(InputError, match=r"film\.mkv\?stream=2: has 2 audio streams, counted from"):
        load(f"{film}?stream=2")
    with pytest.raises(InputError, match=r"missing\.mkv: there is no such file"):
        load(film.with_name("missing.mkv?stream=1"))


def test_file_named_like_stream_address(tmp_path, film):
    path = tmp_path / "film.mkv?stream=1"
    path.write_bytes(film.read_bytes())
    np.testing.assert_array_equal(load(path)[0], load(film)[0])
    np.testing.assert_array_equal(load(f"{path}?stream=1")[0], load(f"{film}?stream=1")[0])


def test_refuses_film_without_sound(tmp_path):
    path = write_media(tmp_path / "silent.mp4", "aac", picture=True)
    with pytest.raises(InputError, match=r"silent\.mp4: holds no audio stream"):
        load(path)


def test_reads_truncated_recording(tmp_path, caplog):
    whole = write_media(tmp_path / "whole.webm", "libopus", chirp(2)).read_bytes()
    (tmp_path / "cut.webm").write_bytes(whole[: len(whole) // 2])
    n = len(load(tmp_path / "cut.webm")[0])
    assert 0.3 * RATE < n < 1.7 * RATE


def test_skips_damaged_packets_with_one_warning(tmp_path, caplog):
    content = bytearray(write_media(tmp_path / "a.mka", "flac", chirp(1)).read_bytes())
    for place in range(len(content) // 3, len(content) // 2, 97):
        content[place] ^= 0xFF
    (tmp_path / "a.mka").write_bytes(content)
    assert 0.3 * RATE < len(load(tmp_path / "a.mka")[0]) < RATE
    (message,) = caplog.messages
    assert "a.mka" in message
    assert "damaged" in message


def test_damaged_files(tmp_path, film):
    rng = random.Random(0)
    wholes = [film, write_media(tmp_path / "a.m4a", "aac", chirp())]
    wholes.append(write_media(tmp_path / "a.webm", "libopus", chirp()))
    refused = []
    for index in range(90):
        content = bytearray(wholes[index % 3].read_bytes())
        for _ in range(4):
            content[rng.randrange(600 if index % 2 else len(content))] = rng.randrange(256)
        path = tmp_path / f"damaged{wholes[index % 3].suffix}"
        path.write_bytes(content[: rng.randrange(len(content)) if index % 5 == 0 else None])
        try:
            wav, _ = load(path)
            assert len(wav) < 100 * RATE
        except InputError as error:
            refused.append(str(error).removeprefix(f"{path}: "))
    assert 0 < len(refused) < 90
    assert all("\n" not in message and str(tmp_path) not in message for message in refused)


def test_refuses_playlists(tmp_path):
    for name, text in {
        "list.m4a": f"#EXTM3U\n#EXT-X-TARGETDURATION:10\n#EXTINF:10,\n{SOURCE}\n#EXT-X-ENDLIST\n",
        "concat.mp4": f"ffconcat version 1.0\nfile {SOURCE}\n",
    }.items():
        (tmp_path / name).write_text(text)
        with pytest.raises(InputError, match="is not audio"):
            load(tmp_path / name)


def test_refuses_too_many_streams(tmp_path):
    wav = np.full(10, 0.1, np.float32)
    path = write_media(tmp_path / "many.mov", "pcm_s16le", *[wav] * 101, rate=16_000)
    with pytest.raises(InputError, match="too many streams"):
        load(path)
    few = write_media(tmp_path / "few.mov", "pcm_s16le", *[wav] * 99, rate=16_000)
    assert len(load(f"{few}?stream=98")[0]) == 10


def test_refuses_decompression_bombs_and_overlong_recordings(tmp_path, monkeypatch):
    """A megabyte of flac can unpack to gigabytes of silence."""
    path = write_wav(tmp_path / "bomb.flac", np.full(2_000_000, 0.5))
    assert path.stat().st_size < 20_000
    assert len(load(path)[0]) == 2_000_000
    monkeypatch.setattr(decoding, "ALWAYS_ALLOWED_SAMPLES", 100_000)
    monkeypatch.setattr(decoding, "MAX_SAMPLES_PER_BYTE", 50)
    with pytest.raises(InputError, match=r"bomb\.flac: unpacks to more than 50 samples per byte"):
        load(path)
    monkeypatch.setattr(decoding, "MAX_HOURS", 0.01)
    with pytest.raises(InputError, match=r"bomb\.flac: lasts more than 0\.01 hours"):
        load(path)


def test_gives_up_early_on_damaged_file(tmp_path):
    path = tmp_path / "a.amr"
    path.write_bytes(b"#!AMR\n" + b"\x7c" * 100_000)
    with pytest.raises(InputError, match="1001 of 1001 packets are damaged"):
        load(path)


def test_refuses_changing_sample_rate(tmp_path):
    parts = [
        write_media(tmp_path / f"{rate}.aac", "aac", chirp(rate=rate), rate=rate)
        for rate in (16_000, 44_100)
    ]
    path = tmp_path / "both.aac"
    path.write_bytes(b"".join(part.read_bytes() for part in parts))
    with pytest.raises(InputError, match="its sound changes from 16000 Hz and 1 channels to 44100"):
        load(path)


def test_memory_is_constant(tmp_path, monkeypatch):
    """Blocks of one length, whatever the packets' lengths are."""
    monkeypatch.setattr(ffmpeg, "BLOCK_SAMPLES", 5000)
    path = write_media(tmp_path / "a.webm", "libopus", chirp(1))
    with decoding.open_audio(path) as stream:
        lengths = [len(block) for block in stream.blocks()]
    assert len(lengths) == 9
    assert max(lengths) < 5000 + 960


def test_integer_formats_reach_full_scale(tmp_path):
    for codec in ("pcm_u8", "pcm_s16le", "pcm_s24le", "pcm_s32le", "pcm_f64le"):
        wav = np.tile([0.5, -0.5], 100).astype(np.float32)
        path = write_media(tmp_path / f"{codec}.mkv", codec, wav, rate=16_000)
        np.testing.assert_allclose(load(path)[0], wav, atol=0.01)


def test_reads_wav_with_unusual_codec(tmp_path):
    file = io.BytesIO()
    with wave.open(file, "wb") as written:
        written.setnchannels(1), written.setsampwidth(2), written.setframerate(16_000)
        written.writeframes((chirp(rate=16_000) * 32767).astype("<i2").tobytes())
    path = write_media(tmp_path / "mp3.wav", "libmp3lame", chirp(rate=16_000), rate=16_000)
    assert load(path)[1] == 16_000
