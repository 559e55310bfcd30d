"""Mounts the page on the server at /, without the other routes of Gradio."""

import contextlib
import logging
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import SimpleNamespace

import gradio as gr
from gradio import queueing
from starlette.middleware import Middleware
from starlette.staticfiles import StaticFiles

from vc_lightning.common.errors import require_within
from vc_lightning.service.app import ConversionApi
from vc_lightning.service.page import layout, sessions
from vc_lightning.service.page.components import Desk
from vc_lightning.service.page.gate import Gate
from vc_lightning.service.page.html import ASSETS
from vc_lightning.service.page.uploads import Uploads
from vc_lightning.service.refusal import without_message

log = logging.getLogger(__name__)

FONT = ("system-ui", "sans-serif")  # installed on every computer: nothing is downloaded
HEAD = '<script src="page/live.js"></script>'
WORDS = {  # texts that replace Gradio's
    "upload_text.drop_audio": "Drop a recording here",
    "upload_text.drop_file": "Drop recordings here",
    "upload_text.click_to_upload": "choose a file",
}


@contextlib.contextmanager
def mounted(api: ConversionApi, keep_minutes: float, examples: Sequence[Path]) -> Iterator[Path]:
    """Mount the page; delete all uploads and results when the block ends.

    Args:
        api: The server's endpoints, before the server starts.
        keep_minutes: How long files are kept on a page that stays open.
        examples: Two recordings, or none.

    Yields:
        The folder of uploads and results.

    Raises:
        InputError: `keep_minutes` is out of range.
    """
    require_within(1, 1e6, "", keep_minutes=keep_minutes)
    with tempfile.TemporaryDirectory(prefix="page_", dir=api.folder) as folder:
        copies = Path(folder, "examples")
        copies.mkdir()
        gr.set_static_paths([copies])
        shown = [str(shutil.copy(example, copies)) for example in examples]
        uploads = Uploads(Path(folder, "uploads"), map(Path, shown), api.service.kept.forget)
        # Gradio reads its folder from this variable at every request.
        with _environment("GRADIO_TEMP_DIR", str(uploads.folder)):
            blocks = layout.build(Desk(api.service, api.live, uploads), shown, keep_minutes)
            # The server's own queue bounds the conversions.
            blocks.queue(max_size=None, default_concurrency_limit=None)
            sessions.bound(blocks)
            _mount(api, blocks, uploads)
            yield uploads.folder


def _log_failure() -> None:
    """Log the failure of an event without its message, which may have what a client sent."""
    error = sys.exception()
    if error is not None:
        log.warning("an event of the page failed: %s", without_message(error))


def _mount(api: ConversionApi, blocks: gr.Blocks, uploads: Uploads) -> None:
    # Gradio's queue would print the traceback.
    vars(queueing)["traceback"] = SimpleNamespace(print_exc=_log_failure)
    limits = api.service.limits
    api.app.add_api_route(
        "/login", api.access.login, methods=["GET", "POST"], include_in_schema=False
    )
    api.app.mount("/page", StaticFiles(directory=ASSETS))
    gr.mount_gradio_app(
        api.app,
        blocks,
        "/",
        app_kwargs={
            "middleware": [
                Middleware(Gate, uploads=uploads, service=api.service, events=list(blocks.fns))
            ]
        },
        max_file_size=int(limits.max_megabytes * 1e6),
        show_error=False,
        footer_links=[],
        run_history=False,
        enable_monitoring=False,
        ssr_mode=False,
        mcp_server=False,
        pwa=False,
        i18n=gr.I18n(en=WORDS),
        theme=gr.themes.Base(font=FONT, font_mono="monospace"),
        css_paths=ASSETS / "page.css",
        head=HEAD,
    )


@contextlib.contextmanager
def _environment(name: str, value: str) -> Iterator[None]:
    """Set an environment variable while the block runs."""
    before = os.environ.get(name)
    os.environ[name] = value
    try:
        yield
    finally:
        del os.environ[name]
        if before is not None:
            os.environ[name] = before
