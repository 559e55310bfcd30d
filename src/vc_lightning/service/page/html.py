"""The page's HTML: headings, sentences, similarities and pictures."""

import base64
import html
import io
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import quote

import numpy as np
import torch
from PIL import Image

from vc_lightning.common.errors import InputError
from vc_lightning.common.plots import picture
from vc_lightning.conversion.measuring import MeasuredConversion
from vc_lightning.conversion.voices.file import LearnedVoice
from vc_lightning.service.refusal import RefusedError

PICTURE_SIZE = (960, 160)  # pixels of a mel-spectrogram
ASSETS = Path(__file__).with_name("assets")
TRY = '<p class="try">Try it:</p>'
OWN = (
    '<p class="hint">A few seconds by the microphone that you will use: '
    "fewer of your first words are lost.</p>"
)
EMPTY = '<p class="hint">The result and its similarity to the voice will appear here.</p>'


def asset(name: str) -> str:
    """Read HTML from a file of the package, such as `header.html`."""
    return (ASSETS / name).read_text(encoding="utf-8")


def heading(number: int, title: str, text: str) -> str:
    """Make the heading of a column: one word as the title, and a sentence of instruction."""
    return f'<div class="step"><b>{number}</b><h2>{title}</h2><p>{text}</p></div>'


def sentence(error: InputError | RefusedError) -> str:
    """Format an error as HTML; its text is escaped, because file names may contain markup."""
    return f'<p class="refusal" role="alert">{html.escape(capitalized(error))}</p>'


def advice(sentences: Sequence[str]) -> str:
    """Format advice on recordings, sentences without a full stop; their text is escaped."""
    lines = (f'<p class="advice" role="status">{html.escape(one)}.</p>' for one in sentences)
    return "".join(lines)


def capitalized(error: InputError | RefusedError) -> str:
    """Format an error as a sentence with a capital letter and a full stop."""
    text = str(error).removesuffix(".")
    if ":" not in text:  # the word before a colon is a name, whose spelling is kept
        text = text[:1].upper() + text[1:]
    return f"{text}."


def credits_of(voice: LearnedVoice) -> str:
    """Describe who made a learned voice, under which licence and with whose consent."""
    parts = []
    if voice.made_by:
        parts.append(f"Made by {html.escape(voice.made_by)}")
    if voice.licence:
        parts.append(f"Licence: {html.escape(voice.licence)}")
    consent = voice.consent
    if consent is None:
        parts.append("No consent of the speaker is stored")
    elif consent.text:
        parts.append(f"Consent of {html.escape(consent.given)}: “{html.escape(consent.text)}”")
    else:
        parts.append(f"Spoken consent of {html.escape(consent.given)} ({consent.seconds:.0f} s)")
    return f'<p class="hint credits">{". ".join(parts)}.</p>'


def made(result: MeasuredConversion, duration: float) -> str:
    """Describe the duration, in seconds, and the computing time of a result."""
    return f'<p class="hint">{duration:.1f} s of sound, made in {result.seconds:.1f} s.</p>'


def figures(result: MeasuredConversion, path: Path) -> str:
    """Format the similarities before and after as numbers and bars, with the link to the file."""
    bars = _bars("to the voice", result.before, result.to_target)
    bars += _bars("to the source", 1.0, result.to_source)
    address = html.escape(f"gradio_api/file={quote(str(path))}")
    name = html.escape(path.name)
    link = f'<a id="download" href="{address}" download="{name}">Download the result</a>'
    return f'<div class="figures">{bars}{link}</div>'


def _bars(label: str, before: float, after: float | None) -> str:
    """Format one similarity before and after."""
    if after is None:
        return f'<p class="figure">Similarity {label}: too little speech to be measured</p>'
    width, mark = (f"{100 * max(0.0, value):.0f}%" for value in (after, before))
    return (
        f'<div class="figure"><span>Similarity {label}</span>'
        f"<span><i>{before:.2f}</i> → <b>{after:.2f}</b></span>"
        f'<div class="bar"><div style="width:{width}"></div><s style="left:{mark}"></s></div>'
        "<small>mark: before; bar: after</small></div>"
    )


def spectrogram(mel: np.ndarray | None) -> str:
    """Format a mel-spectrogram (n_mels, T) of values 0…1 as a picture; None for no picture."""
    if mel is None:
        return ""
    image = Image.fromarray(picture(torch.from_numpy(mel)[None])).resize(PICTURE_SIZE)
    file = io.BytesIO()
    image.save(file, "WEBP", quality=80)
    data = base64.b64encode(file.getvalue()).decode()
    return (
        "<figure><figcaption>Mel-spectrogram</figcaption>"
        f'<img alt="Mel-spectrogram: time to the right, frequency upwards" '
        f'src="data:image/webp;base64,{data}"></figure>'
    )
