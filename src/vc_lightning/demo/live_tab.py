"""The tab "Live": convert live speech."""

from pathlib import Path
from typing import Any

import gradio as gr
from gradio.components import Component

from vc_lightning.common.errors import InputError
from vc_lightning.demo import html as fragments
from vc_lightning.demo.components import QUICK, Desk, voice_card, voice_request
from vc_lightning.demo.live import LiveDesk

# Functions of live.js: the first runs in the click, the second when the server has answered.
WAKE = "(...values) => { vcLive.wake(); return values; }"
START = "(ticket, hasLoudspeakers) => { vcLive.start(ticket, hasLoudspeakers); }"
STOP = "() => { vcLive.stop(); }"


def build(desk: Desk, live: LiveDesk, settings: list[Component]) -> None:
    """Build two columns and their events.

    Args:
        desk: The page's service and uploads.
        live: Issues the tickets.
        settings: Components of the settings, which another part of the page shows.
    """
    with gr.Row(elem_classes="desk"):
        with gr.Column(elem_classes="card", min_width=300):
            gr.HTML(fragments.heading(1, "Voice", "Ten seconds of speech are enough."))
            voice = voice_card(desk, "live_target", prefix="live_")
        with gr.Column(elem_classes="card", min_width=300):
            gr.HTML(fragments.heading(2, "Speak", "You hear the voice half a second later."))
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

    def let_speak(request: gr.Request, *values: Any) -> tuple[str, str]:
        wanted = voice_request(*values)
        desk.uploads.claim(request.session_hash, map(Path, wanted.targets))
        try:
            return live.ticket(wanted), ""
        except InputError as error:
            return "", fragments.sentence(error)

    asked = start.click(let_speak, [*voice.inputs, *settings], [ticket, refusal], js=WAKE, **QUICK)
    asked.then(None, [ticket, loudspeakers], js=START)
    stop.click(None, js=STOP)
