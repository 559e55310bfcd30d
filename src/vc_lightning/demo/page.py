"""The page on which recordings are converted in a browser, made of Gradio's components."""

import contextlib
import os
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import gradio as gr
from gradio.components import Component
from starlette.middleware import Middleware
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from vc_lightning.audio import io as audio
from vc_lightning.common.errors import InputError, require_at_least, require_within
from vc_lightning.conversion import provenance
from vc_lightning.conversion import voice_library as voices
from vc_lightning.demo import html as fragments
from vc_lightning.demo.service import ConversionService, Settings
from vc_lightning.demo.uploads import Uploads

CSS = Path(__file__).with_name("page.css")
TITLE = "vc_lightning: say it in another voice"
SWEEP_SECONDS = 60  # between looks for files that are too old
FONT = ("system-ui", "sans-serif")  # the reader's own: nothing is fetched from elsewhere
PROGRESS = gr.Progress()
WAVEFORM = {"waveform_color": "#b79cc9", "waveform_progress_color": "#9e2f7f", "skip_length": 20}
WORDS = {  # Gradio's own, in our words
    "upload_text.drop_audio": "Drop a recording here",
    "upload_text.drop_file": "Drop recordings here",
    "upload_text.click_to_upload": "choose a file",
}
VOCODERS = {"griffin_lim": "Griffin-Lim", "wavernn": "WaveRNN"}
ROUTES = (  # what the page itself asks for; Gradio has many more
    *("/config", "/theme.css", "/assets/", "/static/", "/favicon.ico", "/manifest.json"),
    *("/gradio_api/queue/", "/gradio_api/run/", "/gradio_api/upload", "/gradio_api/heartbeat/"),
    *("/gradio_api/file=/", "/gradio_api/startup-events", "/gradio_api/cancel"),
    *("/gradio_api/info", "/gradio_api/reset"),
)


class Gate:
    """Answers only what the page asks for; Gradio's other routes do not exist here."""

    def __init__(self, app: ASGIApp):
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Passes a request on, or refuses it."""
        path = scope.get("path", "/")
        if scope["type"] == "lifespan" or path == "/" or path.startswith(ROUTES):
            await self.app(scope, receive, send)
        else:
            await PlainTextResponse("there is no such page", 404)(scope, receive, send)


@contextlib.contextmanager
def serving(
    service: ConversionService,
    *,
    host: str,
    port: int,
    max_waiting: int,
    keep_minutes: float,
    examples: Sequence[Path],
) -> Iterator[str]:
    """Serves the page while the block runs, then deletes every file that people brought.

    Args:
        max_waiting: conversions; whoever comes then is asked to come again.
        keep_minutes: how long files last on a page that stays open.
        examples: two recordings, or none.
    Yields: the page's address.
    Raises: InputError when the port is taken.
    """
    require_at_least(1, "", port=port, max_waiting=max_waiting)
    require_within(1, 1e6, "", keep_minutes=keep_minutes)
    with tempfile.TemporaryDirectory(prefix="vc_lightning_page_") as folder:
        uploads = Uploads(Path(folder, "uploads"))
        copies = Path(folder, "examples")
        copies.mkdir()
        gr.set_static_paths([copies])
        shown = [shutil.copy(example, copies) for example in examples]
        # Gradio asks for its folder at every request, by this name only.
        with _environment("GRADIO_TEMP_DIR", str(uploads.folder)):
            page = build(service, uploads, shown, keep_minutes)
            page.queue(max_size=max_waiting, default_concurrency_limit=1)
            try:
                yield _launched(page, host, port, int(service.limits.max_megabytes * 1e6))
            finally:
                page.close(verbose=False)


@contextlib.contextmanager
def _environment(name: str, value: str) -> Iterator[None]:
    before = os.environ.get(name)
    os.environ[name] = value
    try:
        yield
    finally:
        del os.environ[name]
        if before is not None:
            os.environ[name] = before


def _launched(page: gr.Blocks, host: str, port: int, max_bytes: int) -> str:
    """Opens the page with nothing but what it needs; its address."""
    try:
        _, address, _ = page.launch(
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
            css_paths=CSS,
            app_kwargs={"middleware": [Middleware(Gate)]},
        )
    except OSError:
        raise InputError(f"port={port}: is taken, or {host} is not here; name another") from None
    return address


def build(
    service: ConversionService, uploads: Uploads, examples: Sequence[str], keep_minutes: float
) -> gr.Blocks:
    """The page: three columns, and what happens when something is pressed."""
    with gr.Blocks(
        title=TITLE,
        analytics_enabled=False,
        delete_cache=(SWEEP_SECONDS, int(keep_minutes * 60)),
    ) as page:
        gr.HTML(fragments.HEADER)
        with gr.Row(elem_id="examples", visible=bool(examples)):
            gr.HTML(fragments.TRY)
            buttons = [
                gr.Button("his words, her voice", size="sm", min_width=0, scale=0),
                gr.Button("her words, his voice", size="sm", min_width=0, scale=0),
            ]
        with gr.Row(elem_id="desk"):
            with gr.Column(elem_classes="card", min_width=300):
                gr.HTML(fragments.heading(1, "Words", "What is to be said."))
                source = _recording("Recording of the words", "source")
                source_mel = gr.HTML(elem_classes="mel")
            with gr.Column(elem_classes="card", min_width=300):
                gr.HTML(fragments.heading(2, "Voice", "Ten seconds of clear speech will do."))
                names = voices.names(service.voices)
                learned = gr.Dropdown(
                    [("none: take the recordings", ""), *((name, name) for name in names)],
                    value="",
                    label="Learned voice",
                    visible=bool(names),
                    elem_id="learned",
                )
                target = _recording("Recording of the voice", "target")
                with gr.Accordion("More recordings of this voice", open=False):
                    more = gr.File(
                        label="More recordings",
                        show_label=False,
                        file_count="multiple",
                        file_types=sorted(audio.AUDIO_SUFFIXES),
                        type="filepath",
                        height=140,
                        elem_id="more",
                    )
                    _only_uploads(more)
                target_mel = gr.HTML(elem_classes="mel")
            with gr.Column(elem_classes="card", min_width=300):
                gr.HTML(fragments.heading(3, "Result", "The words in the voice."))
                button = gr.Button("Convert", variant="primary", size="lg", elem_id="convert")
                status = gr.HTML(fragments.EMPTY, elem_id="status")
                result = gr.Audio(
                    label="Result",
                    interactive=False,
                    visible=False,
                    type="filepath",
                    buttons=[],
                    waveform_options=WAVEFORM,
                    elem_id="result",
                )
                result_mel = gr.HTML(elem_classes="mel")
        figures = gr.HTML()
        with gr.Accordion("Settings", open=False, elem_id="settings"), gr.Row():
            first = {"checkpoint": next(iter(service.checkpoints)), "vocoder": service.vocoders[0]}
            vocoders = [(VOCODERS.get(name, name), name) for name in service.vocoders]
            settings = [
                gr.Dropdown(
                    list(service.checkpoints), value=first["checkpoint"], label="Checkpoint"
                ),
                gr.Dropdown(vocoders, value=first["vocoder"], label="Vocoder"),
                gr.Slider(
                    0,
                    1,
                    value=service.converter(**first).guidance,
                    step=0.05,
                    label="Guidance",
                    info="More voice, fewer words",
                ),
                gr.Number(0, precision=0, minimum=0, label="Seed", info="Of the vocoder"),
            ]
        gr.HTML(fragments.FOOTER)
        shown = [status, result, figures, source_mel, target_mel, result_mel]

        def take(path: str | None, request: gr.Request) -> tuple[object, str]:
            """Looks at a recording as soon as it is there; a bad one does not stay."""
            if path is None:
                return gr.skip(), ""
            uploads.claim(request.session_hash, [Path(path)])
            try:
                service.check(Path(path))
            except InputError as error:
                return None, fragments.sentence(error)
            return gr.skip(), ""

        def take_more(paths: list[str] | None, request: gr.Request) -> tuple[object, str]:
            """The same for several; the good ones stay."""
            good, sentences = [], []
            uploads.claim(request.session_hash, map(Path, paths or []))
            for path in paths or []:
                try:
                    service.check(Path(path))
                    good.append(path)
                except InputError as error:
                    sentences.append(fragments.sentence(error))
            return good or None, "".join(sentences)

        def convert(
            source: str | None,
            target: str | None,
            more: list[str] | None,
            learned: str,
            checkpoint: str,
            vocoder: str,
            guidance: float,
            seed: int,
            request: gr.Request,
            progress: gr.Progress = PROGRESS,
        ) -> list:
            """One conversion, with everything that is shown of it."""
            targets = [Path(path) for path in (target, *(more or [])) if path]
            try:
                outcome = service.convert(
                    Path(source) if source else None,
                    targets,
                    learned,
                    Settings(checkpoint, vocoder, guidance, seed),
                    lambda share, what: progress(share, desc=what),
                )
            except InputError as error:
                hidden = gr.update(visible=False, value=None)
                return [fragments.sentence(error), hidden, "", "", "", ""]
            path = uploads.new_folder() / outcome.name
            uploads.claim(request.session_hash, [path, *targets, Path(source)])
            strings = provenance.strings(outcome.note)
            audio.save(path, outcome.wav, outcome.sample_rate, strings)
            sound = gr.update(visible=True, value=str(path))
            pictures = map(fragments.spectrogram, outcome.mels)
            return [fragments.made(outcome), sound, fragments.figures(outcome, path), *pictures]

        def leave(request: gr.Request) -> None:
            """Somebody's page was closed."""
            uploads.release(request.session_hash)

        inputs = [source, target, more, learned, *settings]
        convert_event = {
            "fn": convert,
            "inputs": inputs,
            "outputs": shown,
            "show_progress": "full",
            "show_progress_on": status,
            "concurrency_id": "conversion",
            "api_name": "convert",
            "api_visibility": "private",
        }
        quick = {"queue": False, "show_progress": "hidden", "api_visibility": "private"}
        button.click(**convert_event)
        for recording, below in ((source, source_mel), (target, target_mel)):
            brought = [recording.upload, recording.stop_recording]
            gr.on(brought, take, recording, [recording, below], **quick)
        more.upload(take_more, more, [more, target_mel], **quick)
        if examples:
            for pressed, pair in zip(buttons, (examples, examples[::-1]), strict=True):
                filled = pressed.click(
                    lambda pair=pair: [*pair, None, ""], None, inputs[:4], **quick
                )
                filled.then(**convert_event)
        page.unload(leave)
    return page


def _recording(label: str, name: str) -> gr.Audio:
    recording = gr.Audio(
        label=label,
        sources=["upload", "microphone"],
        type="filepath",
        editable=False,
        buttons=[],
        waveform_options=WAVEFORM,
        elem_id=name,
    )
    return _only_uploads(recording)


def _only_uploads(component: Component) -> Component:
    """Makes it refuse addresses, which Gradio would fetch from anywhere."""
    take = component.async_move_resource_to_block_cache

    async def take_upload(path: str | Path | None) -> str | None:
        if path is not None and "://" in str(path):
            raise gr.Error("addresses are not fetched; upload the recording")
        return await take(path)

    component.async_move_resource_to_block_cache = take_upload
    return component
