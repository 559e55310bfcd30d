import numpy as np
import pytest
import soundfile

from helpers import SOURCE, write_wav
from vc_lightning.audio import spill_buffer
from vc_lightning.audio.files import decoding, io
from vc_lightning.common.errors import InputError

RATE = 16_000


def tone(seconds=1.0, rate=RATE, frequency=440.0):
    return (0.5 * np.sin(2 * np.pi * frequency * np.arange(int(seconds * rate)) / rate)).astype(
        "f4"
    )


@pytest.mark.parametrize(
    ("suffix", "subtype", "tolerance"),
    [
        (".wav", "PCM_U8", 1e-2),
        (".wav", "PCM_16", 1e-4),
        (".wav", "PCM_24", 1e-6),
        (".wav", "FLOAT", 1e-7),
        (".wav", "DOUBLE", 1e-7),
        (".wav", "ULAW", 3e-2),
        (".flac", "PCM_16", 1e-4),
        (".aiff", "PCM_16", 1e-4),
        (".ogg", "VORBIS", 5e-2),
        (".mp3", "MPEG_LAYER_III", 5e-2),
    ],
)
def test_load_returns_the_samples_of_every_format(tmp_path, suffix, subtype, tolerance):
    path = write_wav(tmp_path / f"a{suffix}", tone(), subtype=subtype)
    wav, rate = io.load(path)
    assert (wav.dtype, wav.ndim, rate) == (np.float32, 1, RATE)
    middle = slice(4000, 8000)
    np.testing.assert_allclose(wav[middle], tone()[middle], atol=tolerance)


@pytest.mark.parametrize("block", [1000, 4000, 16_000, 16_001])
def test_load_reads_long_files_in_blocks(tmp_path, monkeypatch, block):
    monkeypatch.setattr(decoding, "BLOCK", block)
    path = write_wav(tmp_path / "a.wav", tone(), subtype="FLOAT")
    np.testing.assert_array_equal(io.load(path)[0], tone())


@pytest.mark.parametrize("n_channels", [1, 2, 8])
def test_load_averages_channels(tmp_path, n_channels):
    gains = np.arange(1, n_channels + 1) / n_channels
    path = write_wav(tmp_path / "a.wav", tone()[:, None] * gains, subtype="FLOAT")
    np.testing.assert_allclose(io.load(path)[0], tone() * gains.mean(), atol=1e-6)


def test_load_takes_the_loudest_of_channels_that_cancel(tmp_path):
    channels = np.stack([tone(), -tone()], axis=1)
    path = write_wav(tmp_path / "a.wav", channels, subtype="FLOAT")
    np.testing.assert_allclose(np.abs(io.load(path)[0]), np.abs(tone()), atol=1e-6)


@pytest.mark.parametrize("rate", [8_000, 44_100, 192_000])
def test_load_reads_any_rate(tmp_path, rate):
    path = write_wav(tmp_path / "a.wav", tone(rate=rate), rate)
    wav, loaded_rate = io.load(path)
    assert (len(wav), loaded_rate) == (rate, rate)


def nan_at_100():
    wav = tone()
    wav[100] = np.nan
    return wav


@pytest.mark.parametrize(
    ("wav", "reason"),
    [
        (np.zeros(0, "f4"), "empty"),
        (np.zeros(RATE, "f4"), "silent"),
        (nan_at_100(), "NaN"),
        (np.full(RATE, np.inf, "f4"), "infinite"),
    ],
)
def test_load_refuses_silence(tmp_path, wav, reason):
    path = write_wav(tmp_path / "a.wav", wav, subtype="FLOAT")
    with pytest.raises(InputError, match=reason) as error:
        io.load(path)
    assert str(path) in str(error.value)


def test_load_refuses_other_files(tmp_path):
    text = tmp_path / "a.wav"
    text.write_text("no sound")
    for path, reason in {
        text: "not audio",
        tmp_path: "folder",
        tmp_path / "missing.wav": "no such",
    }.items():
        with pytest.raises(InputError, match=reason):
            io.load(path)
    with pytest.raises(InputError, match="4000 Hz"):
        io.load(write_wav(tmp_path / "slow.wav", tone(), 4_000))


def test_load_ignores_wrong_header_length(tmp_path):
    path = write_wav(tmp_path / "a.wav", tone(), subtype="PCM_16")
    content = bytearray(path.read_bytes())
    content[40:44] = (0x7FFFFFF0).to_bytes(4, "little")  # the data chunk promises 2 GiB
    path.write_bytes(content)
    assert len(io.load(path)[0]) == RATE


def test_resample_keeps_a_tone_and_its_level():
    wav = io.resample(tone(rate=44_100), 44_100, RATE)
    middle = slice(4000, 12_000)
    np.testing.assert_allclose(wav[middle], tone()[middle], atol=1e-3)


def test_save_round_trips_and_never_clips(tmp_path):
    path = io.save(tmp_path / "a.wav", tone(), RATE)
    assert soundfile.info(path).subtype == "PCM_16"
    np.testing.assert_allclose(io.load(path)[0], tone(), atol=1e-4)
    loud = io.load(io.save(tmp_path / "b.wav", 4 * tone(), RATE))[0]
    np.testing.assert_allclose(loud, 2 * tone(), atol=1e-3)


def test_saves_memory_map_in_blocks(tmp_path):
    n = 2 * spill_buffer.BLOCK + 1000
    wav = np.memmap(tmp_path / "wav.f32", np.float32, "w+", shape=(n,))
    wav[:] = np.linspace(-2, 2, n)
    path = io.save(tmp_path / "a.wav", wav, RATE)
    np.testing.assert_allclose(soundfile.read(path)[0], np.linspace(-1, 1, n), atol=2**-15)


def test_saves_empty_wav(tmp_path):
    assert soundfile.info(io.save(tmp_path / "a.wav", np.zeros(0, "f4"), RATE)).frames == 0


def test_failed_save_keeps_old_file(tmp_path, monkeypatch):
    path = io.save(tmp_path / "a.wav", tone(), RATE)
    before = path.read_bytes()

    def full_disk(*_):
        raise OSError("no space left")

    monkeypatch.setattr(soundfile.SoundFile, "write", full_disk)
    with pytest.raises(OSError, match="space"):
        io.save(path, tone(), RATE)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_example_recordings():
    wav, rate = io.load(SOURCE)
    assert rate == RATE
    assert 3 < len(wav) / rate < 12
