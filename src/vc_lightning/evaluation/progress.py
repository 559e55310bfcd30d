"""Progress of an evaluation: a bar on a terminal, else one line a stage."""

import logging
import sys
from collections.abc import Collection, Iterable

from tqdm import tqdm

log = logging.getLogger(__name__)


def show_progress(items: Collection, title: str) -> Iterable:
    """Yield the items, with a progress bar on a terminal, or a line in the log."""
    if not sys.stderr.isatty():
        log.info("%s: %d", title, len(items))
    return tqdm(items, desc=title, disable=None, leave=False)
