"""Run a command: its log, its exit codes, and errors as one sentence."""

import functools
import logging
import os
import re
import sys
import traceback
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NoReturn

from hydra.core.hydra_config import HydraConfig
from hydra.errors import ConfigCompositionException, HydraException, MissingConfigException
from hydra.errors import InstantiationException as HydraInstantiationException
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from soundfile import SoundFileError

from vc_lightning.commands.support import moved, overrides
from vc_lightning.common import resources
from vc_lightning.common.errors import InputError

log = logging.getLogger(__name__)

USERS_ERRORS = (InputError, HydraException, OmegaConfBaseException, OSError, SoundFileError)

EXIT_SOME_FAILED = 1
EXIT_BAD_INPUT = 2
EXIT_INTERRUPTED = 130

OPTIONS_WITH_VALUE = (  # of Hydra
    *("-c", "--cfg", "-p", "--package", "-cp", "--config-path", "-cn", "--config-name"),
    *("-cd", "--config-dir", "-sc", "--shell-completion", "--experimental-rerun"),
)

swept_keys: set[str] = set()  # of the command line
failed_jobs: list[str] = []  # of a sweep


class JobError(Exception):
    """A job of a sweep failed; it has been reported, and the next job may run."""


def run(main: Callable[[], object], config_name: str) -> None:
    """Run a Hydra command; paths may hold any character, and an error is one line.

    Args:
        main: The command, decorated by `hydra.main`.
        config_name: Its file in `conf/`, whose keys are suggested for misspelt ones.
    """
    try:
        moved.require_current(config_name, sys.argv[1:])
        named = name_words(sys.argv[1:], config_name)
        arguments = overrides.translate(named)
        swept_keys.update(overrides.swept_keys(arguments))
    except InputError as error:
        fail(str(error))
    # Hydra takes its options only before the overrides; here they may stand anywhere.
    sys.argv[1:] = sorted(arguments, key=lambda argument: argument not in ("-m", "--multirun"))
    OmegaConf.register_new_resolver("command", resources.command, replace=True)  # used in --help
    OmegaConf.register_new_resolver("choices", overrides.described_choices, replace=True)
    logging.raiseExceptions = False  # no traceback if `| head` closes the pipe
    os.environ.setdefault("HYDRA_FULL_ERROR", "1")  # Hydra passes exceptions on
    # Warnings of Lightning 2.6 under torch 2.13 that a user cannot act on.
    warnings.filterwarnings("ignore", r".*treespec, LeafSpec.*", FutureWarning)
    warnings.filterwarnings("ignore", r"Total length of `list` across ranks is zero")
    # The data module resumes in the middle of an epoch; steps are logged across epochs.
    warnings.filterwarnings("ignore", r"You're resuming from a checkpoint that ended before")
    warnings.filterwarnings("ignore", r"The number of training batches \(\d+\) is smaller than")
    try:
        main()
    except KeyboardInterrupt:
        sys.exit(EXIT_INTERRUPTED)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # silence Python's own flush
    except (HydraException, OmegaConfBaseException, OSError) as error:
        fail(explain(error, config_name))
    except JobError as error:
        failed_jobs.append(str(error))  # unless it ran in another process, it is there already
    except ValueError as error:
        if str(error).startswith("Config group override must be"):
            fail("name a choice for each group, not null or a number; --help lists the choices")
        if not failed_jobs:
            raise  # a bug: show its traceback
    if failed_jobs:
        names = ", ".join(dict.fromkeys(failed_jobs))
        sys.stderr.write(f"error: these jobs failed: {names}; the messages above say why\n")
        sys.exit(EXIT_SOME_FAILED)


def name_words(arguments: Sequence[str], config_name: str) -> list[str]:
    """Give their keys to a verb and its object, such as `learn Anna` of voices.py.

    Args:
        arguments: All arguments of the command.
        config_name: The command's file in `conf/`; only commands with a key `verb` have verbs.

    Returns:
        The arguments, such as `verb=learn name=Anna`.
    """
    if "verb" not in resources.settings("", config_name):
        return list(arguments)
    words = [
        index
        for index, argument in enumerate(arguments)
        if not re.search(r"[=]|^[-+~]", argument) or (index and Path(argument).exists())
        if index == 0 or arguments[index - 1] not in OPTIONS_WITH_VALUE
    ]
    named = list(arguments)
    if not words:
        return named
    verb = named[words[0]]
    named[words[0]] = f"verb={verb}"
    for index in words[1:2]:
        is_file = verb == "import" or (verb == "show" and Path(named[index]).exists())
        named[index] = f"{'file' if is_file else 'name'}={named[index]}"
    return named


def require_verb(verb: str | None, verbs: Mapping[str, str]) -> None:
    """Raise InputError unless a command was given one of its verbs.

    Args:
        verb: The verb, or None.
        verbs: The command's verbs, and what they do.
    """
    if verb not in verbs:
        listed = ", ".join(f"{name} ({meaning})" for name, meaning in verbs.items())
        given = f"{verb}: is not a verb; " if verb is not None else ""
        raise InputError(f"{given}say what to do: {listed}")


def reports_input_errors(main: Callable) -> Callable:
    """Decorate a Hydra command: bad input gives one line on stderr and exit code 2.

    In a sweep, a failed job gives the same line, and the next job runs.

    Args:
        main: A function of the composed configuration.

    Returns:
        The function with this error handling.
    """

    config_name = main.__module__.rpartition(".")[2]  # each command has the name of its file

    @functools.wraps(main)
    def reporting(cfg: DictConfig) -> object:
        try:
            overrides.require_kinds(cfg, config_name)
            return main(cfg)
        except USERS_ERRORS as error:
            log.debug("traceback of the error", exc_info=True)  # hydra.verbose=true shows it
            if not in_sweep():
                fail(explain(error))
            report_failed_job(explain(error))
        except SystemExit as end:
            if not in_sweep() or end.code != EXIT_SOME_FAILED:
                raise  # the whole sweep was interrupted
            report_failed_job("some recordings could not be used")
        except Exception:
            if not in_sweep():
                raise
            report_failed_job(traceback.format_exc())
        return None

    return reporting


def in_sweep() -> bool:
    """Return whether this is a job of a sweep."""
    return HydraConfig.initialized() and HydraConfig.get().mode == RunMode.MULTIRUN


def in_search() -> bool:
    """Return whether a sweeper chooses the next jobs by the results of the former ones."""
    return in_sweep() and "BasicSweeper" not in HydraConfig.get().sweeper._target_


def report_failed_job(reason: str) -> None:
    """Report a failed job of a sweep, so that `run` ends with an exit code that says so.

    Args:
        reason: A sentence, or a traceback.

    Raises:
        JobError: The job runs in another process, or its result is needed.
    """
    config = HydraConfig.get()
    keys = swept_keys | set(config.sweeper.get("params") or {})
    own = [one for one in config.overrides.task if overrides.key_of(one) in keys]
    name = f"{config.job.num} ({' '.join(own or config.overrides.task)})"
    failed_jobs.append(name)
    text = reason if "\n" in reason.strip() else " ".join(reason.split())
    sys.stderr.write(f"error: job {name}: {text}\n")
    if in_search() or "BasicLauncher" not in config.launcher._target_:
        raise JobError(name)


def fail(sentence: str) -> NoReturn:
    """Print an error on stderr and end the program with exit code 2.

    Args:
        sentence: The problem and its remedy.
    """
    sys.stderr.write(f"error: {' '.join(sentence.split())}\n")
    sys.exit(EXIT_BAD_INPUT)


def exit_at_once() -> NoReturn:
    """End the program with exit code 0 now: no thread is waited for, and no memory is tidied up.

    Python would delete all modules one by one, which takes a tenth of a second.
    """
    logging.shutdown()
    sys.stdout.flush()
    os._exit(0)


def explain(error: BaseException, config_name: str = "train") -> str:
    """Explain an error of the command line or the configuration in one sentence.

    Args:
        error: The exception.
        config_name: The command's file in `conf/`, whose keys are suggested.
    """
    if isinstance(error, InputError):  # after a DataLoader worker's traceback, if there is one
        return str(error).rsplit("vc_lightning.common.errors.InputError: ", 1)[-1]
    if isinstance(error, HydraInstantiationException):
        cause = error.__cause__ or error
        key = re.search(r"full_key: (\S+)", str(error))
        reason = str(cause).strip().splitlines()[0] if str(cause).strip() else type(cause).__name__
        if wanted := re.match(r"Error (?:loading|locating) (?:target )?'([^']+)'", reason):
            reason = f"{wanted[1]} cannot be imported; put its folder into PYTHONPATH"
        return reason if isinstance(cause, InputError) or not key else f"{key[1]}: {reason}"
    if isinstance(error, MissingConfigException):
        return overrides.explain_unknown_choice(str(error), overrides.known_keys(config_name))
    key = re.search(r"Could not override '([^']+)'", str(error))
    if isinstance(error, ConfigCompositionException) and key:
        known = overrides.known_keys(config_name)
        if key[1] in known:
            return f"there is no key {key[1]} with the chosen groups; --cfg job shows all keys"
        return f"there is no key {key[1]}{overrides.suggestion(key[1], known)}"
    while not str(error) and error.__cause__:  # Hydra wraps errors of the grammar in empty ones
        error = error.__cause__
    if isinstance(error, OSError) and error.filename:
        return f"{error.filename}: {error.strerror}"
    if listed := re.search(r"argument '(([^=]+)=(.*?))'\n", str(error)):
        return f"{listed[1]}: for a list, give {listed[2]}=[{listed[3]}]; for one job a value, -m"
    if swept := re.search(r"Sweep parameters? '(.*)' requires? --multirun", str(error)):
        return f"{swept[1]}: several values are several jobs; give -m"
    if "missing EQUAL" in str(error):
        return f"{str(error).split(' missing')[0]}: give key=value, such as source=a.wav"
    return str(error) or type(error).__name__
