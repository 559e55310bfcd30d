"""The tab on which recordings are converted, and the same for programs."""

from collections.abc import Callable, Sequence
from pathlib import Path

import gradio as gr
from gradio.components import Component

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
from vc_lightning.demo.service import Outcome, Progress, Settings, VoiceRequest

PROGRESS = gr.Progress()
QUEUE = "conversion"  # in which the page's and the programs' conversions wait together
PAIRS = ("his words, her voice", "her words, his voice")


def build(desk: Desk, settings: list[Component], examples: Sequence[str]) -> None:
    """Builds three columns, and what happens when something is pressed.

    Args:
        desk: The page's service and uploads.
        settings: Components of the settings, which are placed elsewhere.
        examples: Two recordings, or none.
    """
    with gr.Row(elem_id="examples", visible=bool(examples)):
        gr.HTML(fragments.TRY)
        buttons = [gr.Button(pair, size="sm", min_width=0, scale=0) for pair in PAIRS]
    with gr.Row(elem_classes="desk"):
        with gr.Column(elem_classes="card", min_width=300):
            gr.HTML(fragments.heading(1, "Words", "What is to be said."))
            source = recording("Recording of the words", "source")
            source_mel = gr.HTML(elem_classes="mel")
            check_at_once(desk, source, source_mel)
        with gr.Column(elem_classes="card", min_width=300):
            gr.HTML(fragments.heading(2, "Voice", "Ten seconds of clear speech will do."))
            voice = voice_card(desk, "target")
        with gr.Column(elem_classes="card", min_width=300):
            gr.HTML(fragments.heading(3, "Result", "The words in the voice."))
            button = gr.Button("Convert", variant="primary", size="lg", elem_id="convert")
            status = gr.HTML(fragments.EMPTY, elem_id="status")
            result = _result()
            result_mel = gr.HTML(elem_classes="mel")
    figures = gr.HTML()
    shown = [status, result, figures, source_mel, voice.below, result_mel]
    convert_event = {
        "fn": _converter(desk),
        "inputs": [source, *voice.inputs, *settings],
        "outputs": shown,
        "show_progress": "full",
        "show_progress_on": status,
        "concurrency_id": QUEUE,
        "api_name": "press_convert",
        "api_visibility": "private",
    }
    button.click(**convert_event)
    if examples:
        filled = [source, voice.target, voice.more, voice.learned]
        for pressed, pair in zip(buttons, (examples, examples[::-1]), strict=True):
            fill = pressed.click(lambda pair=pair: [*pair, None, ""], None, filled, **QUICK)
            fill.then(**convert_event)


def _result() -> gr.Audio:
    """The player of the result, which is hidden until there is one."""
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
    """What happens when Convert is pressed."""

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
            outcome, path = _converted(desk, source, wanted, request, _told(progress))
        except InputError as error:
            hidden = gr.update(visible=False, value=None)
            return [fragments.sentence(error), hidden, "", "", "", ""]
        sound = gr.update(visible=True, value=str(path))
        pictures = map(fragments.spectrogram, outcome.mels)
        return [fragments.made(outcome), sound, fragments.figures(outcome, path), *pictures]

    return convert


def build_endpoint(desk: Desk) -> None:
    """Offers the conversion to programs, as `/convert` of `gradio_client`.

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
        """Says the words of `source` in the voice of `target` or of a learned voice.

        The answer holds the file and the similarities to the target and to the source, before
        and after.
        """
        try:
            paths = [_path(desk, file) for file in (source, target, *(more or [])) if file]
            settings = Settings(checkpoint, vocoder, guidance, seed)
            wanted = VoiceRequest(paths[1:], learned, settings)
            outcome, path = _converted(desk, str(paths[0]), wanted, request, lambda *_: None)
        except InputError as error:
            raise gr.Error(fragments.capitalized(error), print_exception=False) from None
        numbers = {
            "similarity_to_target": outcome.to_target,
            "similarity_to_source": outcome.to_source,
            "seconds": outcome.seconds,
        }
        return gr.FileData(path=str(path)).model_dump(), numbers

    gr.api(convert, api_name="convert", concurrency_id=QUEUE)


def _path(desk: Desk, file: dict) -> Path:
    """The upload that a program names."""
    return desk.uploads.require(file.get("path") if isinstance(file, dict) else None)


def _converted(
    desk: Desk, source: str | None, wanted: VoiceRequest, request: gr.Request, progress: Progress
) -> tuple[Outcome, Path]:
    """Converts for one session and writes the file, which the session owns."""
    outcome = desk.service.convert(Path(source) if source else None, wanted, progress)
    path = desk.uploads.new_folder() / outcome.name
    desk.uploads.claim(request.session_hash, [path, *wanted.targets, Path(source or "")])
    strings = provenance.strings(outcome.note)
    audio.save(path, outcome.wav, outcome.sample_rate, strings)
    return outcome, path


def _told(progress: gr.Progress) -> Progress:
    """Tells the page how far a conversion is."""
    return lambda share, what: progress(share, desc=what)
