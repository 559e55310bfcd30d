"""What the command lines share: paths of any spelling, and errors in one sentence."""

import difflib
import functools
import logging
import os
import re
import sys
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.types import Quote, QuotedString
from hydra.errors import ConfigCompositionException, HydraException, MissingConfigException
from hydra.errors import InstantiationException as HydraInstantiationException
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from soundfile import SoundFileError

from vc_lightning.common import resources
from vc_lightning.common import validation as annotations
from vc_lightning.common.errors import InputError
from vc_lightning.common.files import require_writable
from vc_lightning.common.renamed_keys import current_key
from vc_lightning.conversion.converter import VoiceConverter

log = logging.getLogger(__name__)

EXIT_BAD_INPUT = 2
EXIT_INTERRUPTED = 130
FREE_TEXT_KEYS = frozenset(  # their values may hold anything, so Hydra must not parse them
    [
        *("source", "target", "output", "also", "ckpt", "speaker_encoder", "vocoder.path"),
        *("data.dir", "data.manifest", "data.cache_dir", "init_from", "ckpt_path", "run_dir"),
        *("checkpoint.dir", "checkpoint.name", "hydra.run.dir", "trained_on", "licence"),
        *("data.write_shards", "vocoder.magnitude", "vocoder.fallback.magnitude"),
        *("callbacks.samples.vocoder.magnitude", "callbacks.conversion_monitor.vocoder.magnitude"),
        *(
            "checkpoints",
            "data.pairs",
            "recogniser",
            "judges",
            "pairs",
            "inspect",
            "voices.dir",
            "voices.learn",
        ),
    ]
)


def run(main: Callable[[], None], config_name: str) -> None:
    """Calls a Hydra entry point so that every key may hold any path and errors are one line.

    Args: config_name, whose keys are suggested for misspelt ones.
    """
    arguments = [quote_free_text(argument) for argument in sys.argv[1:]]
    for argument in arguments:
        require_current_key(argument)
        require_choice(argument)
    # Options are understood wherever they stand; Hydra wants them before the overrides.
    sys.argv[1:] = sorted(arguments, key=lambda argument: argument not in ("-m", "--multirun"))
    OmegaConf.register_new_resolver("command", resources.command, replace=True)  # for --help
    logging.raiseExceptions = False  # of a pipe that was closed, as by `| head`
    os.environ.setdefault("HYDRA_FULL_ERROR", "1")  # lets the exceptions come through to here
    # Lightning 2.6 under torch 2.13; nothing that a user could change.
    warnings.filterwarnings("ignore", r".*treespec, LeafSpec.*", FutureWarning)
    warnings.filterwarnings("ignore", r"Total length of `list` across ranks is zero")
    try:
        main()
    except KeyboardInterrupt:
        sys.exit(EXIT_INTERRUPTED)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # nor does Python complain
    except (HydraException, OmegaConfBaseException, OSError) as error:
        fail(explain(error, config_name))
    except ValueError as error:
        if not str(error).startswith("Config group override must be"):
            raise  # a bug of ours, which deserves its traceback
        fail("a group was given null or a number; --help lists its choices")


def reports_input_errors(main: Callable) -> Callable:
    """Decorates a Hydra job: an error of the input is one line on stderr and exit code 2."""

    @functools.wraps(main)
    def reporting(cfg: object) -> object:
        try:
            if HydraConfig.initialized():  # it is not where a test composes the configuration
                require_groups(cfg, HydraConfig.get().job.config_name)
            return main(cfg)
        except (
            InputError,
            HydraException,
            OmegaConfBaseException,
            OSError,
            SoundFileError,
        ) as error:
            log.debug("what happened", exc_info=True)  # hydra.verbose=true shows it
            fail(explain(error))

    return reporting


def fail(sentence: str) -> None:
    """Ends the program for bad input."""
    sys.stderr.write(f"error: {' '.join(sentence.split())}\n")
    sys.exit(EXIT_BAD_INPUT)


def quote_free_text(argument: str) -> str:
    """Quotes the value of a key for paths or words, so that Hydra's grammar leaves it alone.

    Spaces, commas, `=`, quotes and brackets are fine in file names, but a comma starts a sweep in
    Hydra. A list `[a,b]` and a quoted value stay what they are unless a file has that very name.
    """
    key, equals, value = argument.partition("=")
    if key.lstrip("+") not in FREE_TEXT_KEYS or not equals:
        return argument
    is_list = value.startswith("[") and value.endswith("]")
    is_quoted = len(value) > 1 and value[0] == value[-1] and value[0] in "'\""
    is_special = is_list or is_quoted or value in ("", "null") or value.startswith("${")
    if is_special and not (value and os.path.lexists(value)):
        return argument
    if value.startswith("~") and not os.path.lexists(value):
        value = str(Path(value).expanduser())  # shells do so only at the beginning of a word
    text = value.replace("${", r"\${")
    return f"{key}={QuotedString(text, Quote.single).with_quotes()}"


def require_groups(cfg: DictConfig, config_name: str) -> None:
    """Raises InputError when what has keys in conf/<config_name>.yaml was given one value."""
    written = resources.settings("", config_name)
    groups = [name for name, value in written.items() if isinstance(value, dict)]
    for default in written["defaults"]:
        if isinstance(default, dict):
            groups += [name for name, choice in default.items() if choice not in (None, "none")]
    for name in groups:
        if name in cfg and not isinstance(cfg[name], DictConfig):
            shown = "null" if cfg[name] is None else cfg[name]
            raise InputError(f"{name}={shown}: has keys of its own; set those")


def require_current_key(argument: str) -> None:
    """Ends the program when a renamed key is given, with a sentence that names the new one."""
    key = argument.partition("=")[0].lstrip("+~")
    if (new := current_key(key)) is not None:
        fail(f"{key}: this key is now called {new}")


def require_choice(argument: str) -> None:
    """Ends the program when a group is given what is no name; Hydra would fail without a reason."""
    group, _, choice = argument.partition("=")
    if not re.match(r"[\[{\d.+-]", choice) or not _choices(group):
        return
    fail(f"{argument}: is no choice; there are {', '.join(_choices(group))}")


def _choices(group: str) -> list[str]:
    return sorted(path.stem for path in (resources.CONF / group).glob("*.yaml"))


def explain(error: Exception, config_name: str = "train") -> str:
    """One sentence for a person out of an error of the command line or the configuration."""
    if isinstance(error, InputError):  # after a DataLoader worker's traceback, if there is one
        return str(error).rsplit("vc_lightning.common.errors.InputError: ", 1)[-1]
    if isinstance(error, HydraInstantiationException):
        cause = error.__cause__ or error
        key = re.search(r"full_key: (\S+)", str(error))
        reason = str(cause).strip().splitlines()[0] if str(cause).strip() else type(cause).__name__
        return reason if isinstance(cause, InputError) or not key else f"{key[1]}: {reason}"
    if isinstance(error, MissingConfigException):
        return _explain_choice(str(error), known_keys(config_name))
    key = re.search(r"Could not override '([^']+)'", str(error))
    if isinstance(error, ConfigCompositionException) and key:
        if key[1] in known_keys(config_name):
            return f"there is no key {key[1]} with the choices made here; --cfg job shows them all"
        return f"there is no key {key[1]}{_nearest(key[1], known_keys(config_name))}"
    while not str(error) and error.__cause__:  # Hydra wraps errors of the grammar in empty ones
        error = error.__cause__
    if isinstance(error, OSError) and error.filename:
        return f"{error.filename}: {error.strerror}"
    if "missing EQUAL" in str(error):
        return f"{str(error).split(' missing')[0]}: give key=value, such as source=a.wav"
    return str(error) or type(error).__name__


def _explain_choice(message: str, keys: Sequence[str]) -> str:
    """For a group's unknown choice; Hydra lists what there is."""
    wanted = re.search(r"'([^']*)/([^'/]*)'", message)
    if not wanted:
        return message
    group, choice = wanted.groups()
    choices = _choices(group)
    if not choices:
        return f"there is no group {group}{_nearest(group, keys)}"
    listed = ", ".join(choices)
    return f"{group}={choice} does not exist{_nearest(choice, choices)}; there are {listed}"


def _nearest(name: str, names: Sequence[str]) -> str:
    matches = difflib.get_close_matches(name, names, n=1, cutoff=0.5)
    return f"; did you mean {matches[0]}?" if matches else "; --help lists them"


def known_keys(config_name: str) -> list[str]:
    """Every key and group of a command line, as dotted names."""
    config = OmegaConf.to_container(OmegaConf.load(resources.CONF / f"{config_name}.yaml"))
    names = _flatten(config, "")
    for default in config["defaults"]:
        if isinstance(default, str) and default != "_self_":
            names += _flatten(resources.settings("", default), "")
        group = next(iter(default)).removeprefix("optional ") if isinstance(default, dict) else ""
        if (resources.CONF / group).is_dir() and group:
            names.append(group)
            for path in (resources.CONF / group).rglob("*.yaml"):
                options = OmegaConf.to_container(OmegaConf.load(path))
                names += _flatten(options, f"{group}.")
    return sorted(set(names))


def _flatten(config: dict, prefix: str) -> list[str]:
    names = []
    for key, value in config.items():
        if str(key).startswith("_") or key == "defaults":
            continue
        names.append(f"{prefix}{key}")
        if isinstance(value, dict):
            names += _flatten(value, f"{prefix}{key}.")
    return names


def existing_paths(value: str | Sequence[str], key: str, suffixes: frozenset[str]) -> list[Path]:
    """Files that a path key names: a file, a list, a folder (its files with suffixes) or a glob.

    Raises: InputError when there are none.
    """
    if not isinstance(value, str):
        return [path for item in value for path in existing_paths(str(item), key, suffixes)]
    path = Path(value).expanduser()
    try:
        is_folder, exists = path.is_dir(), path.exists()
    except OSError as error:
        raise InputError(f"{key}={value}: cannot be opened ({error.strerror})") from error
    if is_folder:
        if not os.access(path, os.R_OK | os.X_OK):
            raise InputError(f"{key}={value}: the folder may not be read; change its permissions")
        found = sorted(p for p in path.rglob("*") if p.suffix.lower() in suffixes and p.is_file())
        if not found:
            raise InputError(f"{key}={value}: the folder holds no audio")
        return found
    if exists or not re.search(r"[*?\[]", value):
        return [path]  # a missing file is reported by who reads it
    anchor = Path(path.anchor) if path.anchor else Path()
    found = sorted(p for p in anchor.glob(str(path.relative_to(path.anchor))) if p.is_file())
    if not found:
        raise InputError(f"{key}={value}: no file is named like that")
    return found


def single_path(value: object, key: str) -> Path:
    """The one path that a key must name."""
    if not isinstance(value, str) or not value:
        raise InputError(f"{key}={'' if value is None else value}: name one file")
    return Path(value).expanduser()


def choices(value: str, key: str, allowed: Sequence[str]) -> list[str]:
    """Words of a comma-separated value; InputError for one that is not allowed."""
    words = [word.strip() for word in str(value or "").split(",") if word.strip()]
    for word in words:
        if word not in allowed:
            raise InputError(f"{key}={value}: {word} is none of {', '.join(allowed)}")
    return words


def writable_folder(value: object, key: str) -> Path:
    """A folder to write to, made where it is missing; InputError now rather than after the work."""
    folder = Path(str(value)).expanduser()
    if folder.suffix.lower() == ".wav" and not folder.is_dir():
        raise InputError(f"{key}={value}: several conversions are written into a folder; name one")
    return require_writable(folder, key, value)


def writable_path(value: object, key: str, suffix: str = ".wav") -> Path:
    """A file to write to, links followed; InputError now rather than after the work."""
    path = single_path(value, key).resolve()
    if path.suffix.lower() != suffix:
        raise InputError(f"{key}={value}: is written as {suffix[1:]}; let the name end in {suffix}")
    try:
        if path.is_dir():
            raise InputError(f"{key}={value}: is a folder; name a file")
        if path.exists() and not path.is_file():
            raise InputError(f"{key}={value}: is a device or pipe; name a file")
    except OSError as error:
        raise InputError(
            f"{key}={value}: cannot be written ({error.strerror}); name another place"
        ) from error
    require_writable(path.parent, key, value)
    return path


def made_converter(cfg: DictConfig) -> VoiceConverter:
    """The converter that the keys of conf/converter.yaml and the group vocoder describe."""
    require_fitting(cfg)
    return VoiceConverter.from_checkpoint(
        single_path(cfg.ckpt or str(resources.AUTOVC), "ckpt"),
        vocoder=instantiate(cfg.vocoder),
        speaker_encoder=single_path(
            cfg.speaker_encoder or str(resources.SPEAKER_ENCODER), "speaker_encoder"
        ),
        freq=cfg.ckpt_freq,
        guidance=cfg.guidance,
    ).to(torch_device(cfg.device))


def require_fitting(cfg: DictConfig) -> None:
    """Raises InputError when a value is not of the type that what it is given to asks for."""
    annotations.require_fitting(OmegaConf.to_container(cfg, resolve=True, throw_on_missing=True))


def torch_device(name: str) -> torch.device:
    """The device that `device=` names; auto is a GPU where there is one."""
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(name)
        torch.zeros(1, device=device).item()
    except (RuntimeError, AssertionError, TypeError) as error:
        raise InputError(f"device={name}: {str(error).splitlines()[0]}") from error
    return device
