"""The tab "Live": convert live speech."""

from pathlib import Path
from typing import Any

import gradio as gr
from gradio.components import Component

from vc_lightning.common.errors import InputError
from vc_lightning.service.page import html as fragments
from vc_lightning.service.page.components import (
    QUICK,
    Desk,
    check_at_once,
    recording,
    voice_card,
    wanted,
)
from vc_lightning.service.refusal import RefusedError

# Functions of live.js: the first runs in the click, the second when the server has answered.
WAKE = "(...values) => { vcLive.wake(); return values; }"
START = "(ticket, hasLoudspeakers) => { vcLive.start(ticket, hasLoudspeakers); }"
STOP = "() => { vcLive.stop(); }"


def build(desk: Desk, settings: list[Component]) -> None:
    """Build two columns and their events.

    Args:
        desk: The objects that the page's events use.
        settings: Components of the settings, which another part of the page shows.
    """
    with gr.Row(elem_classes="desk"):
        with gr.Column(elem_classes="card", min_width=300):
            gr.HTML(fragments.heading(1, "Voice", "Ten seconds of speech are enough."))
            voice = voice_card(desk, "live_target", prefix="live_")
        with gr.Column(elem_classes="card", min_width=300):
            gr.HTML(fragments.heading(2, "Speak", "The voice comes within half a second."))
            with gr.Accordion("A recording of yourself", open=False):
                gr.HTML(fragments.OWN)
                own = recording("Recording of yourself", "live_own")
                advice = gr.HTML()
                check_at_once(desk, own, advice)
            with gr.Row():
                start = gr.Button("Start", variant="primary", size="lg", elem_id="live_start")
                stop = gr.Button("Stop", size="lg", elem_id="live_stop")
            refusal = gr.HTML(elem_id="live_refusal")
            gr.HTML(fragments.asset("live_panel.html"))
            loudspeakers = gr.Checkbox(
                label="I have no headphones",
                info="Removes the echo of loudspeakers, at some cost of quality",
            )
    ticket = gr.Textbox(visible=False)

    async def let_speak(request: gr.Request, own: str | None, *values: Any) -> tuple[str, str]:
        try:
            target, settings = wanted(*values)
            desk.claim(request, target)
            speaker = Path(own) if own else None
            if speaker is not None:
                desk.claim(request, (speaker,))
            return await desk.live.ticket(target, settings, speaker), ""
        except (InputError, RefusedError) as error:
            return "", fragments.sentence(error)

    inputs = [own, *voice.inputs, *settings]
    asked = start.click(let_speak, inputs, [ticket, refusal], js=WAKE, **QUICK)
    asked.then(None, [ticket, loudspeakers], js=START)
    stop.click(None, js=STOP)
