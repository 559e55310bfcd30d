"""Run a command: its log, its exit codes, and errors as one sentence."""

import functools
import gc
import logging
import os
import re
import sys
import warnings
from collections.abc import Callable
from typing import NoReturn

from hydra.core.hydra_config import HydraConfig
from hydra.errors import ConfigCompositionException, HydraException, MissingConfigException
from hydra.errors import InstantiationException as HydraInstantiationException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from soundfile import SoundFileError

from vc_lightning.commands import overrides
from vc_lightning.common import resources
from vc_lightning.common.errors import InputError

log = logging.getLogger(__name__)

EXIT_BAD_INPUT = 2
EXIT_INTERRUPTED = 130


def run(main: Callable[[], None], config_name: str) -> None:
    """Run a Hydra command; paths may hold any character, and an error is one line.

    Args:
        main: The command, decorated by `hydra.main`.
        config_name: Its file in `conf/`, whose keys are suggested for misspelt ones.
    """
    # Modules are never garbage; else Python would search all of PyTorch for it again and again.
    gc.freeze()
    arguments = [overrides.quote_free_text(argument) for argument in sys.argv[1:]]
    try:
        for argument in arguments:
            overrides.require_current_key(argument)
            overrides.require_choice(argument)
    except InputError as error:
        fail(str(error))
    # Hydra takes its options only before the overrides; here they may stand anywhere.
    sys.argv[1:] = sorted(arguments, key=lambda argument: argument not in ("-m", "--multirun"))
    OmegaConf.register_new_resolver("command", resources.command, replace=True)  # used in --help
    logging.raiseExceptions = False  # no traceback if `| head` closes the pipe
    os.environ.setdefault("HYDRA_FULL_ERROR", "1")  # Hydra passes exceptions on
    # Warnings of Lightning 2.6 under torch 2.13 that a user cannot act on.
    warnings.filterwarnings("ignore", r".*treespec, LeafSpec.*", FutureWarning)
    warnings.filterwarnings("ignore", r"Total length of `list` across ranks is zero")
    try:
        main()
    except KeyboardInterrupt:
        sys.exit(EXIT_INTERRUPTED)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # silence Python's own flush
    except (HydraException, OmegaConfBaseException, OSError) as error:
        fail(explain(error, config_name))
    except ValueError as error:
        if not str(error).startswith("Config group override must be"):
            raise  # a bug: show its traceback
        fail("a group was given null or a number; --help lists its choices")


def reports_input_errors(main: Callable) -> Callable:
    """Decorate a Hydra command: bad input gives one line on stderr and exit code 2.

    Args:
        main: A function of the composed configuration.

    Returns:
        The function with this error handling.
    """

    @functools.wraps(main)
    def reporting(cfg: DictConfig) -> object:
        try:
            if HydraConfig.initialized():  # tests compose the configuration themselves
                overrides.require_groups(cfg, str(HydraConfig.get().job.config_name))
            return main(cfg)
        except (
            InputError,
            HydraException,
            OmegaConfBaseException,
            OSError,
            SoundFileError,
        ) as error:
            log.debug("traceback of the error", exc_info=True)  # hydra.verbose=true shows it
            fail(explain(error))

    return reporting


def fail(sentence: str) -> NoReturn:
    """Print an error on stderr and end the program with exit code 2.

    Args:
        sentence: The problem and its remedy.
    """
    sys.stderr.write(f"error: {' '.join(sentence.split())}\n")
    sys.exit(EXIT_BAD_INPUT)


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
    if "missing EQUAL" in str(error):
        return f"{str(error).split(' missing')[0]}: give key=value, such as source=a.wav"
    return str(error) or type(error).__name__
