"""The tab for converting recordings, and the same conversion as an endpoint for programs."""

import asyncio
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import gradio as gr
import torch
from gradio.components import Component
from gradio.events import Dependency

from vc_lightning.audio.files import io as audio
from vc_lightning.common.errors import InputError
from vc_lightning.conversion import provenance
from vc_lightning.conversion.measuring import MeasuredConversion
from vc_lightning.conversion.voices.voice import Target
from vc_lightning.service.engine.converters import Settings
from vc_lightning.service.engine.queue import PreparedConversion
from vc_lightning.service.page import html as fragments
from vc_lightning.service.page.components import (
    QUICK,
    WAVEFORM,
    Desk,
    check_at_once,
    recording,
    voice_card,
    wanted,
)
from vc_lightning.service.refusal import RefusedError

PROGRESS = gr.Progress()
PREPARED = 0.3  # share of the progress at which the conversion begins
Show = Callable[[float | None], None]  # takes the share of a conversion that is done
PAIRS = ("his words, her voice", "her words, his voice")


def build(desk: Desk, settings: list[Component], examples: Sequence[str]) -> None:
    """Build the three columns and their events.

    Args:
        desk: The objects that the page's events use.
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
    shown = [status, result, figures, source_mel, voice.below, result_mel]

    def convert_after(event: Callable[..., Dependency]) -> None:
        event(
            _converter(desk),
            [source, *voice.inputs, *settings],
            shown,
            show_progress="full",
            show_progress_on=status,
            api_name="press_convert",
            api_visibility="private",
        )

    convert_after(button.click)
    if examples:
        filled = [source, voice.target, voice.more, voice.learned]
        for pressed, pair in zip(buttons, (examples, examples[::-1]), strict=True):
            fill = pressed.click(lambda pair=pair: [*pair, None, ""], None, filled, **QUICK)
            convert_after(fill.then)


def _converter(desk: Desk) -> Callable:
    """Make the event of the button Convert."""

    async def convert(
        request: gr.Request,
        progress: gr.Progress = PROGRESS,
        source: str | None = None,
        *chosen: Any,
    ) -> list:
        try:
            if source is None:
                raise InputError("there is no recording of the words yet; record or upload one")
            voice, settings = wanted(*chosen)
            progress(0, desc="Analysing the recordings")
            prepared, result, path = await _converted(
                desk, Path(source), voice, settings, request, _shown(progress)
            )
        except (InputError, RefusedError) as error:
            hidden = gr.update(visible=False, value=None)
            return [fragments.sentence(error), hidden, "", "", "", ""]
        sound = gr.update(visible=True, value=str(path))
        pictures = await asyncio.to_thread(_pictures, prepared, result)
        made = fragments.made(result, prepared.source.seconds)
        return [made, sound, fragments.figures(result, path), *pictures]

    return convert


def build_endpoint(desk: Desk) -> None:
    """Offer the conversion to programs, as `/convert` of `gradio_client`."""
    default = desk.service.converters.default

    async def convert(
        request: gr.Request,
        source: gr.FileData,
        target: gr.FileData | None = None,
        more: list[gr.FileData] | None = None,
        learned: str = "",
        checkpoint: str = default.checkpoint,
        vocoder: str = default.vocoder,
        guidance: float = default.guidance,
        seed: int = default.seed,
    ) -> tuple[gr.FileData, dict]:
        """Convert `source` to the voice of `target` or to a learned voice.

        The answer has the file, its similarities to the target and to the source before and after
        the conversion, and the computing time in seconds.
        """
        try:
            paths = [str(_path(desk, file)) for file in (source, target, *(more or [])) if file]
            voice, settings = wanted(learned, None, paths[1:], checkpoint, vocoder, guidance, seed)
            _, result, path = await _converted(desk, Path(paths[0]), voice, settings, request)
        except (InputError, RefusedError) as error:
            raise gr.Error(fragments.capitalized(error), print_exception=False) from None
        numbers = {
            "similarity_to_target": (result.before, result.to_target),
            "similarity_to_source": (1.0, result.to_source),
            "seconds": result.seconds,
        }
        return gr.FileData(path=str(path)), numbers

    gr.api(convert, api_name="convert")


def _path(desk: Desk, file: object) -> Path:
    """Find the upload that a program names."""
    return desk.uploads.require(file.get("path") if isinstance(file, dict) else None)


async def _converted(
    desk: Desk,
    source: Path,
    target: Target,
    settings: Settings,
    request: gr.Request,
    show: Show = lambda _: None,
) -> tuple[PreparedConversion, MeasuredConversion, Path]:
    """Convert until the session ends and write the file, which is deleted with the session."""
    desk.claim(request, (source,))
    desk.claim(request, target)

    async def has_left(_: float | None) -> bool:
        return not desk.uploads.is_open(request.session_hash)

    async def watch(share: float | None) -> bool:
        show(share)
        return await has_left(share)

    with desk.service.queue.place():
        prepared = await desk.service.prepare(source, target, settings, keep=True, watch=has_left)
        result = await desk.service.convert(prepared, watch)
    voice = target if isinstance(target, str) else target[0].stem
    path = desk.uploads.new_folder() / f"{source.stem}_to_{voice}.wav"
    desk.claim(request, (path,))
    strings = provenance.strings(prepared.converter.note())
    rate = prepared.converter.sample_rate
    await asyncio.to_thread(audio.save, path, result.wav, rate, strings)
    return prepared, result, path


def _shown(progress: gr.Progress) -> Show:
    """Make the function that shows the progress of a conversion on the page."""

    def show(share: float | None) -> None:
        if share is None:
            progress(PREPARED, desc="Waiting for other conversions")
        else:
            progress(PREPARED + (1 - PREPARED) * share, desc="Converting")

    return show


@torch.inference_mode()
def _pictures(prepared: PreparedConversion, result: MeasuredConversion) -> list[str]:
    """Make the mel-spectrograms of source, voice and result, as HTML."""
    converter, reference = prepared.converter, prepared.reference
    filtered = torch.from_numpy(converter.mel.filtered(result.wav))  # at its own level
    mels = [
        converter.mel.extract(prepared.source.wav, converter.sample_rate),
        reference and converter.mel.extract(reference.wav, converter.sample_rate),
        converter.mel(filtered.to(converter.networks.device)).cpu().numpy(),
    ]
    return [fragments.spectrogram(mel) for mel in mels]
