"""Pieces of the page's HTML: headings, sentences, similarities and pictures."""

import base64
import html
import io
from pathlib import Path
from urllib.parse import quote

import numpy as np
import torch
from PIL import Image

from vc_lightning.common.errors import InputError
from vc_lightning.common.plots import picture
from vc_lightning.conversion.voice_library import Learned
from vc_lightning.demo.service import Outcome

PICTURE_SIZE = (960, 160)  # pixels of a mel-spectrogram
ASSETS = Path(__file__).with_name("assets")
TRY = '<p class="try">Try it:</p>'
EMPTY = '<p class="hint">The result will appear here, beside how near it came to the voice.</p>'


def asset(name: str) -> str:
    """Returns a piece that has its own file.

    Args:
        name: Of the file, such as `header.html`.
    """
    return (ASSETS / name).read_text(encoding="utf-8")


def heading(number: int, title: str, what: str) -> str:
    """Returns the head of a column.

    Args:
        number: Of the column.
        title: One word.
        what: One sentence on what to do here.
    """
    return f'<div class="step"><b>{number}</b><h2>{title}</h2><p>{what}</p></div>'


def sentence(error: InputError) -> str:
    """Returns an error as HTML. It may hold names of files, so nothing in it is markup.

    Args:
        error: The error.
    """
    return f'<p class="refusal" role="alert">{html.escape(capitalized(error))}</p>'


def capitalized(error: InputError) -> str:
    """Returns an error as a whole sentence.

    Args:
        error: The error.
    """
    text = str(error).removesuffix(".")
    if ":" not in text:  # what stands before a colon is a name, which is spelt as it is
        text = text[:1].upper() + text[1:]
    return f"{text}."


def credits_of(voice: Learned) -> str:
    """Returns who made a learned voice, under which licence and with whose consent.

    Args:
        voice: The voice.
    """
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


def made(outcome: Outcome) -> str:
    """Returns how long a result is and how long it took.

    Args:
        outcome: The conversion.
    """
    duration = len(outcome.wav) / outcome.sample_rate
    return f'<p class="hint">{duration:.1f} s of sound, made in {outcome.seconds:.1f} s.</p>'


def figures(outcome: Outcome, path: Path) -> str:
    """Returns similarities before and after, as numbers and bars, and the link to the file.

    Args:
        outcome: The conversion.
        path: Its file.
    """
    rows = {"to the voice": outcome.to_target, "to the source": outcome.to_source}
    bars = "".join(_bars(*row) for row in rows.items())
    address = html.escape(f"gradio_api/file={quote(str(path))}")
    name = html.escape(path.name)
    link = f'<a id="download" href="{address}" download="{name}">Download the result</a>'
    return f'<div class="figures">{bars}{link}</div>'


def _bars(label: str, similarities: tuple[float, float | None]) -> str:
    """Returns one similarity before and after."""
    before, after = similarities
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
    """Returns a mel-spectrogram as a picture inside the page.

    Args:
        mel: Values 0…1 of shape (n_mels, T); None for no picture.
    """
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
