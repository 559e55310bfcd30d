"""The web server of the page, which serves nothing else of Gradio."""

import contextlib
import os
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import gradio as gr
from starlette.middleware import Middleware
from starlette.routing import Mount, WebSocketRoute
from starlette.staticfiles import StaticFiles

from vc_lightning.common.errors import InputError, require_at_least, require_within
from vc_lightning.demo import page
from vc_lightning.demo.components import Desk
from vc_lightning.demo.gate import Gate
from vc_lightning.demo.html import ASSETS
from vc_lightning.demo.live import LiveDesk, LiveLimits
from vc_lightning.demo.service import ConversionService
from vc_lightning.demo.uploads import Uploads

FONT = ("system-ui", "sans-serif")  # installed on every computer: nothing is downloaded
HEAD = '<script src="live/live.js"></script>'
WORDS = {  # texts that replace Gradio's
    "upload_text.drop_audio": "Drop a recording here",
    "upload_text.drop_file": "Drop recordings here",
    "upload_text.click_to_upload": "choose a file",
}


@contextlib.contextmanager
def serving(
    service: ConversionService,
    live_limits: LiveLimits,
    *,
    host: str,
    port: int,
    max_waiting: int,
    keep_minutes: float,
    examples: Sequence[Path],
) -> Iterator[str]:
    """Serve the page while the block runs, then delete all uploads and results.

    Args:
        service: Makes the conversions.
        live_limits: Limits of live sessions.
        host: Address to listen on.
        port: Port to listen on.
        max_waiting: Most conversions that wait; further ones are refused.
        keep_minutes: How long files are kept on a page that stays open.
        examples: Two recordings, or none.

    Yields:
        The page's address.

    Raises:
        InputError: A value is out of range, or the port is taken.
    """
    require_at_least(1, "", port=port, max_waiting=max_waiting)
    require_within(1, 1e6, "", keep_minutes=keep_minutes)
    with tempfile.TemporaryDirectory(prefix="vc_lightning_page_") as folder:
        copies = Path(folder, "examples")
        copies.mkdir()
        gr.set_static_paths([copies])
        shown = [str(shutil.copy(example, copies)) for example in examples]
        uploads = Uploads(Path(folder, "uploads"), map(Path, shown))
        live = LiveDesk(service, live_limits)
        # Gradio reads its folder from this variable at every request.
        with _environment("GRADIO_TEMP_DIR", str(uploads.folder)):
            blocks = page.build(Desk(service, uploads), live, shown, keep_minutes)
            blocks.queue(max_size=max_waiting, default_concurrency_limit=1)
            app_kwargs = {
                "middleware": [Middleware(Gate, uploads)],
                "routes": [_live_routes(live)],
            }
            max_bytes = int(service.limits.max_megabytes * 1e6)
            try:
                yield _launched(blocks, host, port, max_bytes, app_kwargs)
            finally:
                blocks.close(verbose=False)


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


def _live_routes(live: LiveDesk) -> Mount:
    """Make the routes that live.js and its worklet request."""
    return Mount(
        "/live",
        routes=[WebSocketRoute("/speak", live.speak), Mount("/", StaticFiles(directory=ASSETS))],
    )


def _launched(
    blocks: gr.Blocks, host: str, port: int, max_bytes: int, app_kwargs: dict[str, object]
) -> str:
    """Start the page's server and return its address."""
    try:
        _, address, _ = blocks.launch(
            server_name=host,
            server_port=port,
            prevent_thread_lock=True,
            quiet=True,
            share=False,
            show_error=False,
            footer_links=[],
            run_history=False,
            max_file_size=max_bytes,
            enable_monitoring=False,
            ssr_mode=False,
            mcp_server=False,
            pwa=False,
            i18n=gr.I18n(en=WORDS),
            theme=gr.themes.Base(font=FONT, font_mono="monospace"),
            css_paths=ASSETS / "page.css",
            head=HEAD,
            app_kwargs=app_kwargs,
        )
    except OSError:
        raise InputError(
            f"port={port}: is taken, or {host} is no address of this computer; give another"
        ) from None
    return address
