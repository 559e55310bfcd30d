"""The page for converting recordings and live speech, built with Gradio."""

import asyncio
from collections.abc import Callable, Sequence

import gradio as gr

from vc_lightning.service.page import components, live_tab, recordings_tab, sessions
from vc_lightning.service.page import html as fragments
from vc_lightning.service.page.components import Desk

TITLE = "vc_lightning: say it in another voice"
SWEEP_SECONDS = 60  # between two searches for files that are too old


def build(desk: Desk, examples: Sequence[str], keep_minutes: float) -> gr.Blocks:
    """Build the page.

    Args:
        desk: The objects that the page's events use.
        examples: Two recordings, or none.
        keep_minutes: How long files are kept on a page that stays open.
    """
    cache = (SWEEP_SECONDS, int(keep_minutes * 60))
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
        page.unload(_forgetter(desk, page))
    return page


def _forgetter(desk: Desk, page: gr.Blocks) -> Callable:
    """Make the event that deletes a session's files when its page is closed, and forgets it."""

    async def leave(request: gr.Request) -> None:
        await asyncio.to_thread(desk.uploads.release, request.session_hash)
        sessions.forget(page, request.session_hash)

    return leave
