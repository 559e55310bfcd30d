"""Components that several tabs of the page share."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypedDict

import gradio as gr
from gradio.components import Component

from vc_lightning.audio.files import io as audio
from vc_lightning.common.errors import InputError
from vc_lightning.conversion.voices.shelf import VoiceShelf
from vc_lightning.conversion.voices.voice import Target
from vc_lightning.models.files.kinds import NETWORKS
from vc_lightning.service.engine.conversions import ConversionService
from vc_lightning.service.engine.converters import Converters, Settings
from vc_lightning.service.live.desk import LiveDesk
from vc_lightning.service.page import html as fragments
from vc_lightning.service.page.uploads import Uploads
from vc_lightning.service.refusal import RefusedError

WAVEFORM = {"waveform_color": "#b79cc9", "waveform_progress_color": "#9e2f7f", "skip_length": 20}
TITLES = {"auto": "Automatic"} | {one.vocoder: one.title for one in NETWORKS if one.vocoder}


class EventOptions(TypedDict):
    """Options of an event of Gradio."""

    queue: bool
    show_progress: Literal["full", "minimal", "hidden"]
    api_visibility: Literal["public", "private", "undocumented"]


# Options of events without a conversion.
QUICK = EventOptions(queue=False, show_progress="hidden", api_visibility="private")


@dataclass(frozen=True)
class Desk:
    """The objects that the page's events use.

    Attributes:
        service: Makes the conversions.
        live: Issues the tickets of live speech.
        uploads: Uploaded recordings and results.
    """

    service: ConversionService
    live: LiveDesk
    uploads: Uploads

    def claim(self, request: gr.Request, files: Target) -> None:
        """Keep files, unless it is the name of a voice, for as long as the page is open."""
        if not isinstance(files, str):
            self.uploads.claim(request.session_hash, files)


@dataclass(frozen=True)
class VoiceCard:
    """The components for choosing a voice.

    Attributes:
        learned: Name of a learned voice.
        target: One recording.
        more: More recordings.
        below: Place for an error sentence, advice, or the mel-spectrogram of the recording.
    """

    learned: gr.Dropdown
    target: gr.Audio
    more: gr.File
    below: gr.HTML

    @property
    def inputs(self) -> list[Component]:
        """Components whose values `voice_request` takes."""
        return [self.learned, self.target, self.more]


def recording(label: str, name: str) -> gr.Audio:
    """Make the component for a recording, from a file or the microphone; `name` is its HTML id."""
    return gr.Audio(
        label=label,
        sources=["upload", "microphone"],
        type="filepath",
        editable=False,
        buttons=[],
        waveform_options=WAVEFORM,
        elem_id=name,
    )


def check_at_once(desk: Desk, component: gr.Audio, below: gr.HTML, is_voice: bool = False) -> None:
    """Check a recording when it is uploaded or recorded; remove an unusable one.

    Args:
        desk: The objects that the page's events use.
        component: Component of the recording.
        below: Place for the error sentence, or for advice.
        is_voice: Whether it is a recording of the target voice.
    """

    async def check(path: str | None, request: gr.Request) -> tuple[object, str]:
        if path is None:
            return gr.skip(), ""
        desk.claim(request, (Path(path),))
        try:
            sentences = await desk.service.check(Path(path))
            if is_voice:
                sentences += await desk.service.check_voice([Path(path)])
        except (InputError, RefusedError) as error:
            return None, fragments.sentence(error)
        return gr.skip(), fragments.advice(sentences)

    gr.on(
        [component.upload, component.stop_recording], check, component, [component, below], **QUICK
    )


def voice_card(desk: Desk, target_name: str, prefix: str = "") -> VoiceCard:
    """Build the components and events for choosing a voice.

    Args:
        desk: The objects that the page's events use.
        target_name: HTML id of the recording.
        prefix: Prefix of the other HTML ids.
    """
    names = VoiceShelf(desk.service.voices).names()
    learned = gr.Dropdown(
        [("none: take the recordings", ""), *((name, name) for name in names)],
        value="",
        label="Learned voice",
        visible=bool(names),
        elem_id=f"{prefix}learned",
    )
    credit = gr.HTML(elem_id=f"{prefix}credits", visible=bool(names))
    target = recording("Recording of the voice", target_name)
    with gr.Accordion("More recordings of this voice", open=False):
        more = gr.File(
            label="More recordings",
            show_label=False,
            file_count="multiple",
            file_types=sorted(audio.AUDIO_SUFFIXES),
            type="filepath",
            height=140,
            elem_id=f"{prefix}more",
        )
    below = gr.HTML(elem_classes="mel")
    check_at_once(desk, target, below, is_voice=True)
    more.upload(_more_checker(desk), [target, more], [more, below], **QUICK)
    learned.change(lambda name: _credits(desk, name), learned, credit, **QUICK)
    return VoiceCard(learned, target, more, below)


def _more_checker(desk: Desk) -> Callable:
    """Make the event that checks several recordings and removes the unusable ones."""

    async def check(
        target: str | None, paths: list[str] | None, request: gr.Request
    ) -> tuple[object, str]:
        good, sentences, advice = [], [], []
        desk.claim(request, tuple(map(Path, paths or [])))
        for path in paths or []:
            try:
                advice += await desk.service.check(Path(path))
                good.append(path)
            except (InputError, RefusedError) as error:
                sentences.append(fragments.sentence(error))
        voice = [Path(path) for path in (target, *good) if path]
        try:
            advice += await desk.service.check_voice(voice) if voice else []
        except (InputError, RefusedError) as error:
            sentences.append(fragments.sentence(error))
        return good or None, "".join(sentences) + fragments.advice(advice)

    return check


def _credits(desk: Desk, name: str) -> str:
    """Describe who made a learned voice, as HTML."""
    if not name:
        return ""
    try:
        return fragments.credits_of(VoiceShelf(desk.service.voices).get(name))
    except InputError:
        return ""  # the conversion shows the error


def settings(converters: Converters) -> list[Component]:
    """Build the components of the settings, in the order of `Settings`."""
    default = converters.default
    vocoders = [(TITLES.get(name, name), name) for name in converters.vocoders]
    return [
        gr.Dropdown(list(converters.checkpoints), value=default.checkpoint, label="Checkpoint"),
        gr.Dropdown(vocoders, value=default.vocoder, label="Vocoder"),
        gr.Slider(
            0,
            1,
            value=default.guidance,
            step=0.05,
            label="Guidance",
            info="More voice, fewer words",
        ),
        gr.Number(default.seed, precision=0, minimum=0, label="Seed", info="Of the vocoder"),
    ]


def wanted(
    learned: str,
    target: str | None,
    more: Sequence[str] | None,
    *settings: Any,
) -> tuple[Target, Settings]:
    """Return the voice and the settings that a person chose.

    Args:
        learned: Name of a learned voice, or "".
        target: Path of a recording.
        more: Paths of more recordings.
        settings: Values of `Settings`.

    Raises:
        InputError: There is no voice.
    """
    recordings = tuple(Path(path) for path in (target, *(more or [])) if path)
    if not recordings and not learned:
        raise InputError("there is no voice yet; record or upload a recording of one")
    return learned or recordings, Settings(*settings)
