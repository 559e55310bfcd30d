"""The page for converting recordings and live speech, built with Gradio and mounted at /."""

import asyncio
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
from vc_lightning.service.page import components, live_tab, recordings_tab, sessions
from vc_lightning.service.page import html as fragments
from vc_lightning.service.page.components import Desk
from vc_lightning.service.page.gate import Gate
from vc_lightning.service.page.uploads import Uploads
from vc_lightning.service.refusal import without_message

log = logging.getLogger(__name__)

TITLE = "vc_lightning: say it in another voice"
SWEEP_SECONDS = 60  # between two searches for files that are too old
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
        uploads = Uploads(Path(folder, "uploads"), map(Path, shown), api.service.recordings.forget)
        # Gradio reads its folder from this variable at every request.
        with _environment("GRADIO_TEMP_DIR", str(uploads.folder)):
            blocks = _built(Desk(api.service, api.live, uploads), shown, keep_minutes)
            # The server's own queue bounds the conversions.
            blocks.queue(max_size=None, default_concurrency_limit=None)
            sessions.bound(blocks)
            _mount(api, blocks, uploads)
            yield uploads.folder


def _built(desk: Desk, examples: Sequence[str], keep_minutes: float) -> gr.Blocks:
    """Build the page, which keeps its files for `keep_minutes` even if it stays open."""
    cache = (SWEEP_SECONDS, int(keep_minutes * 60))

    async def leave(request: gr.Request) -> None:
        """Delete a session's files when its page is closed, and forget it."""
        await asyncio.to_thread(desk.uploads.release, request.session_hash)
        sessions.forget(page, request.session_hash)

    with gr.Blocks(title=TITLE, analytics_enabled=False, delete_cache=cache) as page:
        gr.HTML(fragments.asset("header.html"))
        with gr.Row(render=False) as row:
            settings = components.settings(desk.service.converters)
        with gr.Tab("Recordings"):
            recordings_tab.build(desk, settings, examples)
        with gr.Tab("Live"):
            live_tab.build(desk, settings)
        with gr.Accordion("Settings", open=False, elem_id="settings"):
            row.render()
        gr.HTML(fragments.asset("footer.html"))
        recordings_tab.build_endpoint(desk)
        page.unload(leave)
    return page


def _log_failure() -> None:
    """Log the failure of an event without its message, which may have what a client sent."""
    error = sys.exception()
    if error is not None:
        log.warning("an event of the page failed: %s", without_message(error))


def _mount(api: ConversionApi, blocks: gr.Blocks, uploads: Uploads) -> None:
    # Gradio's queue would print the traceback.
    vars(queueing)["traceback"] = SimpleNamespace(print_exc=_log_failure)
    gate = Middleware(Gate, uploads=uploads, service=api.service, events=list(blocks.fns))
    api.app.add_api_route(
        "/login", api.access.login, methods=["GET", "POST"], include_in_schema=False
    )
    api.app.mount("/page", StaticFiles(directory=fragments.ASSETS))
    gr.mount_gradio_app(
        api.app,
        blocks,
        "/",
        app_kwargs={"middleware": [gate]},
        max_file_size=int(api.service.limits.max_megabytes * 1e6),
        show_error=False,
        footer_links=[],
        run_history=False,
        enable_monitoring=False,
        ssr_mode=False,
        mcp_server=False,
        pwa=False,
        i18n=gr.I18n(en=WORDS),
        theme=gr.themes.Base(font=FONT, font_mono="monospace"),
        css_paths=fragments.ASSETS / "page.css",
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
