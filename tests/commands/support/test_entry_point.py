import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import OmegaConf

from helpers import composed
from vc_lightning.commands import train
from vc_lightning.commands.support import builders, entry_point, loggers, overrides, paths
from vc_lightning.common import resources
from vc_lightning.common.errors import InputError


@pytest.mark.parametrize(
    "value",
    [
        "a.wav",
        "a b.wav",
        "a,b.wav",
        "a=b.wav",
        "it's.wav",
        'say "a".wav',
        "back\\slash.wav",
        "end\\",
        "(a){b}.wav",
        "ü/日本.wav",
        "a#b.wav",
        "null.wav",
        "-1",
        "true",
        "a: b.wav",
        "*.wav",
    ],
)
def test_quoted_paths_round_trip(value):
    (override,) = OverridesParser.create().parse_overrides(
        [overrides.quote_free_text(f"source={value}")]
    )
    assert override.value() == value


def test_lists_quotes_and_null_are_unchanged(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for argument in ("target=[a.wav,b.wav]", "target='a b'", "ckpt=null", "source=", "--help"):
        assert overrides.quote_free_text(argument) == argument
    (tmp_path / "[a].wav").touch()
    (tmp_path / "[a]").touch()
    assert overrides.quote_free_text("target=[a]") == "target='[a]'"
    assert overrides.quote_free_text("model.freq=[1]") == "model.freq=[1]"
    assert overrides.quote_free_text("teacher.model=my model") == "teacher.model='my model'"
    assert overrides.quote_free_text("data.mels_from=a, b.ckpt") == "data.mels_from='a, b.ckpt'"


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("A,B", ["A", "B"]),
        ("my corpus,b=1", ["my corpus", "b=1"]),
        ("'a,b',c", ["a,b", "c"]),
        ("it's,b", ["it's", "b"]),
        ("shipped,null", ["shipped", None]),
        ("[a,b],[c]", [["a", "b"], ["c"]]),
        ("choice(a,b)", ["a", "b"]),
        ("'a'b,c", ["'a'b", "c"]),
    ],
)
def test_lists_are_sweeps(value, expected):
    (argument,) = overrides.translate(["-m", f"data.dir={value}"])[1:]
    (override,) = OverridesParser.create().parse_overrides([argument])
    read = OverridesParser.create().parse_overrides(
        [f"x={one}" for one in override.sweep_string_iterator()]
    )
    assert [one.value() for one in read] == expected
    if value != "choice(a,b)":  # without -m it is one path, unless it is a list or quoted
        (argument,) = overrides.translate([f"data.dir={value}"])
        if not value.startswith(("'", "[")):
            assert OverridesParser.create().parse_override(argument).value() == value


def test_null_and_lists_of_groups():
    given = ["logger=null", "callbacks=null", "experiment=null", "debug=null", "logger=[csv,wandb]"]
    expected = ["logger=none", "callbacks=none", "experiment=none", "debug=none", given[-1]]
    assert overrides.translate(given) == expected
    assert overrides.translate(["logger=[csv,null]", "logger=[null]"]) == [
        "logger=[csv]",
        given[0].replace("null", "none"),
    ]
    assert overrides.translate(["-m", "logger=null,csv"]) == ["-m", "logger=none,csv"]
    for argument in ("mel=null", "model=[autovc]", "optimizer=null"):
        with pytest.raises(InputError, match=rf"{argument[:5]}.*: choose one of"):
            overrides.translate([argument])


def test_own_classes_need_no_plus():
    given = ["callbacks.mine.n=3", "callbacks.mine._target_=my.Callback", "seed=1"]
    assert overrides.translate(given) == [f"++{given[0]}", f"++{given[1]}", "seed=1"]


def test_finds_file_list_folder_and_glob(tmp_path):
    for name in ("b.wav", "a.flac", "sub/c.wav", "[x].wav", "notes.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    suffixes = frozenset({".wav", ".flac"})

    def found(value):
        files = paths.existing_paths(value, "target", suffixes)
        return [str(path.relative_to(tmp_path)) for path in files]

    assert found(f"{tmp_path}/b.wav") == ["b.wav"]
    assert found([f"{tmp_path}/b.wav", f"{tmp_path}/sub"]) == ["b.wav", "sub/c.wav"]
    assert found(str(tmp_path)) == ["[x].wav", "a.flac", "b.wav", "sub/c.wav"]
    assert found(f"{tmp_path}/*.wav") == ["[x].wav", "b.wav"]
    assert found(f"{tmp_path}/[x].wav") == ["[x].wav"]
    assert found(f"{tmp_path}/missing.wav") == ["missing.wav"]  # its reader will say so
    with pytest.raises(InputError, match="no file is named like that"):
        found(f"{tmp_path}/*.ogg")
    (tmp_path / "none").mkdir()
    with pytest.raises(InputError, match="holds no audio"):
        found(f"{tmp_path}/none")
    with pytest.raises(InputError, match=r"checkpoints=.*: the folder holds no weight files"):
        paths.existing_paths(f"{tmp_path}/none", "checkpoints", suffixes, "weight files")


def test_known_keys_of_commands():
    train = overrides.known_keys("train")
    for key in ("data.batch_size", "model", "trainer.max_steps", "callbacks.ema.decay", "seed"):
        assert key in train
    assert "source" not in train
    assert {"source", "vocoder", "vocoder.n_iter"} <= set(overrides.known_keys("convert"))


def test_refuses_value_for_group_of_keys():
    cfg = composed("train")
    overrides.require_kinds(cfg, "train")
    for name in ("checkpoint", "mel"):
        with pytest.raises(InputError, match=f"{name}=null: has keys of its own"):
            overrides.require_kinds(OmegaConf.merge(cfg, {name: None}), "train")


@pytest.mark.parametrize("name", ["voices", "cleanup"])  # of included files
def test_refuses_text_for_group_of_keys(name):
    cfg = composed("convert")
    overrides.require_kinds(cfg, "convert")
    cfg[name] = "x"
    with pytest.raises(InputError, match=f"{name}=x: has keys of its own"):
        overrides.require_kinds(cfg, "convert")


def test_refuses_number_for_logger():
    with pytest.raises(InputError, match=r"logger\.csv=3: has keys of its own"):
        loggers.build_loggers(OmegaConf.create({"csv": 3}))


def test_refuses_list_of_checkpoints():
    cfg = OmegaConf.create({"ckpt_path": ["a"]})
    with pytest.raises(InputError, match=r"ckpt_path=\['a'\]: name one file"):
        train.find_checkpoint(cfg, None)


@pytest.mark.parametrize(
    "argument", ["optimizer=[1,2]", "model=[null]", "vocoder=-1", "mel={a:1}", "+mel=null"]
)
def test_a_group_needs_a_name(argument):
    with pytest.raises(InputError, match="choose one of"):
        overrides.require_choice(argument)


def test_command_line_refuses_bad_arguments(monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["train.py", "model=[null]"])
    with pytest.raises(SystemExit) as stop:
        entry_point.run(lambda: None, "train")
    assert stop.value.code == entry_point.EXIT_BAD_INPUT
    message = capsys.readouterr().err
    assert message.startswith("error: model=[null]: choose one of autovc, ")
    assert message.count("\n") == 1


@pytest.mark.parametrize("argument", ["model=autovc", "source=[a]", "logger=[csv,none]", "seed=1"])
def test_other_arguments_are_unchanged(argument):
    overrides.require_choice(argument)


@pytest.mark.parametrize(
    ("group", "name"),
    [("model", path.stem) for path in (resources.CONF / "model").glob("*.yaml")]
    + [("experiment", path.stem) for path in (resources.CONF / "experiment").glob("*.yaml")],
)
def test_every_choice_fits_type_hints(group, name):
    cfg = composed("train", f"{group}={name}", "run_dir=.")
    cfg.trainer.precision, cfg.trainer.sync_batchnorm = "32-true", False  # as `settle` does
    builders.require_valid_types(cfg)
