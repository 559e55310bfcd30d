"""The tab for converting recordings, and the same conversion as an endpoint for programs."""

from collections.abc import Callable, Sequence
from pathlib import Path

import gradio as gr
from gradio.components import Component
from gradio.events import Dependency

from vc_lightning.audio import io as audio
from vc_lightning.common.errors import InputError
from vc_lightning.conversion import provenance
from vc_lightning.demo import html as fragments
from vc_lightning.demo.components import (
    QUICK,
    WAVEFORM,
    Desk,
    check_at_once,
    recording,
    voice_card,
    voice_request,
)
from vc_lightning.demo.service import ConversionResult, Progress, Settings, VoiceRequest

PROGRESS = gr.Progress()
QUEUE = "conversion"  # shared by the page's and the programs' conversions
PAIRS = ("his words, her voice", "her words, his voice")


def build(desk: Desk, settings: list[Component], examples: Sequence[str]) -> None:
    """Build the three columns and their events.

    Args:
        desk: The page's service and uploads.
        settings: Components of the settings, which another part of the page shows.
        examples: Two recordings, or none.
    """
    with gr.Row(elem_id="examples", visible=bool(examples)):
        gr.HTML(fragments.TRY)
        buttons = [gr.Button(pair, size="sm", min_width=0, scale=0) for pair in PAIRS]
    with gr.Row(elem_classes="desk"):
        with gr.Column(elem_classes="card", min_width=300):
            gr.HTML(fragments.heading(1, "Words", "The recording to convert."))
            source = recording("Recording of the words", "source")
            source_mel = gr.HTML(elem_classes="mel")
            check_at_once(desk, source, source_mel)
        with gr.Column(elem_classes="card", min_width=300):
            gr.HTML(fragments.heading(2, "Voice", "Ten seconds of speech are enough."))
            voice = voice_card(desk, "target")
        with gr.Column(elem_classes="card", min_width=300):
            gr.HTML(fragments.heading(3, "Result", "The words in the voice."))
            button = gr.Button("Convert", variant="primary", size="lg", elem_id="convert")
            status = gr.HTML(fragments.EMPTY, elem_id="status")
            result = _result()
            result_mel = gr.HTML(elem_classes="mel")
    figures = gr.HTML()
    shown = [status, result, figures, source_mel, voice.below, result_mel]

    def convert_after(event: Callable[..., Dependency]) -> None:
        event(
            _converter(desk),
            [source, *voice.inputs, *settings],
            shown,
            show_progress="full",
            show_progress_on=status,
            concurrency_id=QUEUE,
            api_name="press_convert",
            api_visibility="private",
        )

    convert_after(button.click)
    if examples:
        filled = [source, voice.target, voice.more, voice.learned]
        for pressed, pair in zip(buttons, (examples, examples[::-1]), strict=True):
            fill = pressed.click(lambda pair=pair: [*pair, None, ""], None, filled, **QUICK)
            convert_after(fill.then)


def _result() -> gr.Audio:
    """Make the player of the result, hidden until there is a result."""
    return gr.Audio(
        label="Result",
        interactive=False,
        visible=False,
        type="filepath",
        buttons=[],
        waveform_options=WAVEFORM,
        elem_id="result",
    )


def _converter(desk: Desk) -> Callable:
    """Make the event of the button Convert."""

    def convert(
        source: str | None,
        learned: str,
        target: str | None,
        more: list[str] | None,
        checkpoint: str,
        vocoder: str,
        guidance: float,
        seed: int,
        request: gr.Request,
        progress: gr.Progress = PROGRESS,
    ) -> list:
        wanted = voice_request(learned, target, more, checkpoint, vocoder, guidance, seed)
        try:
            result, path = _converted(desk, source, wanted, request, _progress_shown(progress))
        except InputError as error:
            hidden = gr.update(visible=False, value=None)
            return [fragments.sentence(error), hidden, "", "", "", ""]
        sound = gr.update(visible=True, value=str(path))
        pictures = map(fragments.spectrogram, result.mels)
        return [fragments.made(result), sound, fragments.figures(result, path), *pictures]

    return convert


def build_endpoint(desk: Desk) -> None:
    """Offer the conversion to programs, as `/convert` of `gradio_client`.

    Args:
        desk: The page's service and uploads.
    """
    checkpoint, vocoder = next(iter(desk.service.checkpoints)), desk.service.vocoders[0]
    guidance = desk.service.converter(checkpoint, vocoder).guidance

    def convert(
        request: gr.Request,
        source: gr.FileData,
        target: gr.FileData | None = None,
        more: list[gr.FileData] | None = None,
        learned: str = "",
        checkpoint: str = checkpoint,
        vocoder: str = vocoder,
        guidance: float = guidance,
        seed: int = 0,
    ) -> tuple[gr.FileData, dict]:
        """Convert `source` to the voice of `target` or to a learned voice.

        The answer has the file, its similarities to the target and to the source before and after
        the conversion, and the computing time in seconds.
        """
        try:
            paths = [_path(desk, file) for file in (source, target, *(more or [])) if file]
            settings = Settings(checkpoint, vocoder, guidance, seed)
            wanted = VoiceRequest(paths[1:], learned, settings)
            result, path = _converted(desk, str(paths[0]), wanted, request, lambda *_: None)
        except InputError as error:
            raise gr.Error(fragments.capitalized(error), print_exception=False) from None
        numbers = {
            "similarity_to_target": result.to_target,
            "similarity_to_source": result.to_source,
            "seconds": result.seconds,
        }
        return gr.FileData(path=str(path)), numbers

    gr.api(convert, api_name="convert", concurrency_id=QUEUE)


def _path(desk: Desk, file: object) -> Path:
    """Find the upload that a program names."""
    return desk.uploads.require(file.get("path") if isinstance(file, dict) else None)


def _converted(
    desk: Desk, source: str | None, wanted: VoiceRequest, request: gr.Request, progress: Progress
) -> tuple[ConversionResult, Path]:
    """Convert for one session and write the file, which is deleted with the session."""
    result = desk.service.convert(Path(source) if source else None, wanted, progress)
    path = desk.uploads.new_folder() / result.name
    desk.uploads.claim(request.session_hash, [path, *wanted.targets, Path(source or "")])
    strings = provenance.strings(result.note)
    audio.save(path, result.wav, result.sample_rate, strings)
    return result, path


def _progress_shown(progress: gr.Progress) -> Progress:
    """Make the function that shows the progress of a conversion on the page."""
    return lambda share, what: progress(share, desc=what)
