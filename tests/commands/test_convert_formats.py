"""convert.py with the files that people have, and with voices that they share."""

import numpy as np
import pytest
import soundfile

from helpers import SOURCE, TARGET, composed
from media import write_media
from vc_lightning.audio.files.io import load, resample
from vc_lightning.commands import convert
from vc_lightning.conversion import provenance


@pytest.fixture
def run(tiny_checkpoint, tmp_path):
    """Run convert.py's job with a tiny network."""

    def run(**settings):
        settings = {
            "source": SOURCE,
            "target": TARGET,
            "ckpt": tiny_checkpoint,
            "vocoder": "griffin_lim",
            "vocoder.n_iter": 1,
            "voices.dir": tmp_path / "voices",
        } | settings
        convert.main(composed("convert", *(f"{k}={v}" for k, v in settings.items())))

    return run


@pytest.fixture(scope="module")
def film(tmp_path_factory, speech, other_speech):
    """A film with two persons' words, each in a stream of its own."""
    folder = tmp_path_factory.mktemp("film")
    voices = [resample(wav[:64_000], 16_000, 48_000) for wav in (speech, other_speech)]
    return write_media(folder / "film.mp4", "aac", *voices, picture=True)


@pytest.mark.parametrize("suffix", ["mp3", "m4a"])
def test_film_to_every_format(run, tmp_path, film, suffix):
    output = tmp_path / "out" / f"a.{suffix}"
    run(source=film, output=output)
    wav, rate = load(output)
    assert rate == 16_000
    assert len(load(film)[0]) / 3 <= len(wav) <= len(load(film)[0]) / 3 + 1100
    assert provenance.read(output).vocoder == "GriffinLim"
    assert len(list((tmp_path / "out").iterdir())) == 1


def test_other_stream_of_film(run, tmp_path, film):
    for number in (0, 1):
        run(source=f"'{film}?stream={number}'", output=tmp_path / f"{number}.wav")
    first, second = (soundfile.read(tmp_path / f"{n}.wav")[0][:60_000] for n in (0, 1))
    assert np.abs(first - second).max() > 0.01
    run(source=film, output=tmp_path / "first.wav")
    np.testing.assert_array_equal(first, soundfile.read(tmp_path / "first.wav")[0][:60_000])


def test_folder_to_flac(run, tmp_path, film, speech, caplog):
    caplog.set_level("INFO")
    folder, output = tmp_path / "in", tmp_path / "out"
    folder.mkdir()
    (folder / "film.mp4").write_bytes(film.read_bytes())
    write_media(folder / "memo.m4a", "aac", speech[:32_000], rate=16_000)
    write_media(folder / "mute.mp4", "aac", picture=True)
    with pytest.raises(SystemExit):
        run(source=folder, output=output, format="flac")
    names = {path.name for path in output.iterdir()}
    assert names == {"conversions.csv", "film_to_target.flac", "memo_to_target.flac"}
    assert "2 converted, 1 failed" in caplog.text
    assert "mute.mp4: holds no audio stream" in caplog.text
    caplog.clear()
    with pytest.raises(SystemExit):
        run(source=folder, output=output, format="flac")
    assert "2 of 3 conversions are there already" in caplog.text
    assert "another way" not in caplog.text


def test_refuses_unknown_output_formats(run, tmp_path, capsys):
    for settings, reason in [
        ({"output": tmp_path / "a.wma"}, ".wav, .flac, .mp3, .ogg, .opus or .m4a"),
        ({"output": tmp_path / "a.xyz"}, ".wav, .flac, .mp3, .ogg, .opus or .m4a"),
        (
            {"output": tmp_path / "a.mp3", "format": "flac"},
            "a.mp3 has another suffix; give only one",
        ),
        ({"format": "wma"}, "choose one of wav, flac, mp3, ogg, opus, m4a"),
        ({"output": tmp_path / "a.mp3", "match": "all"}, "several conversions need a folder"),
    ]:
        with pytest.raises(SystemExit) as stop:
            run(**settings)
        message = capsys.readouterr().err
        assert (stop.value.code, message.count("\n")) == (2, 1)
        assert reason in message
    assert [path.name for path in tmp_path.iterdir()] == ["tiny.safetensors"]


def test_folder_with_dot_in_name(run, tmp_path):
    run(output=tmp_path / "talks.2024")
    assert (tmp_path / "talks.2024" / "source_to_target.wav").is_file()
