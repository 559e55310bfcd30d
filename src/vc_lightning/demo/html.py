"""Pieces of the page's HTML: headings, sentences, figures and pictures."""

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
from vc_lightning.demo.service import Outcome

PICTURE_SIZE = (960, 160)  # pixels of a mel-spectrogram
HEADER = """<header><p class="wordmark">vc_lightning</p>
<h1>Say it in another voice</h1>
<p class="lead">One recording gives the words, another the voice. The result says the words in that
voice, which the network need never have heard before.</p></header>"""
FOOTER = """<footer><p><strong>Convert only voices whose owners agreed.</strong> Every result says
in its file that it is synthetic; docs/ethics.md says what else is right. What you upload stays on
this server and is deleted when you leave the page.</p></footer>"""
TRY = '<p class="try">Try it:</p>'
EMPTY = '<p class="hint">The result will appear here, beside how near it came to the voice.</p>'


def heading(number: int, title: str, what: str) -> str:
    """The head of one of the columns."""
    return f'<div class="step"><b>{number}</b><h2>{title}</h2><p>{what}</p></div>'


def sentence(error: InputError) -> str:
    """An error as a person reads it; names of files are theirs, so nothing in them is markup."""
    text = str(error).removesuffix(".")
    if ":" not in text:  # with one it begins with a name, which is spelt as it is
        text = text[:1].upper() + text[1:]
    return f'<p class="refusal" role="alert">{html.escape(text)}.</p>'


def made(outcome: Outcome) -> str:
    """How much was made in what time."""
    duration = len(outcome.wav) / outcome.sample_rate
    return f'<p class="hint">{duration:.1f} s of sound, made in {outcome.seconds:.1f} s.</p>'


def figures(outcome: Outcome, path: Path) -> str:
    """Similarities before and after, as numbers and bars, and the link to the file."""
    rows = {"to the voice": outcome.to_target, "to the source": outcome.to_source}
    bars = "".join(_bars(*row) for row in rows.items())
    address = html.escape(f"gradio_api/file={quote(str(path))}")
    name = html.escape(path.name)
    link = f'<a id="download" href="{address}" download="{name}">Download the result</a>'
    return f'<div class="figures">{bars}{link}</div>'


def _bars(label: str, similarities: tuple[float, float | None]) -> str:
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
    """A mel-spectrogram (n_mels, T) as a picture inside the page."""
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
