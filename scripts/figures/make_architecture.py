"""Draw docs/architecture.svg; the sizes in it are read from the shipped checkpoint.

python scripts/figures/make_architecture.py
"""

from html import escape

from vc_lightning.common import resources
from vc_lightning.models import checkpoints

DRAWING = resources.ROOT / "docs" / "architecture.svg"
WIDTH, HEIGHT = 1050, 540
# The card is white in GitHub's light and dark theme alike, as docs/recipe.svg is.
INK, GREY, BLUE, ORANGE = "#222", "#777", "#06a", "#c50"
PALE_BLUE, PALE_ORANGE, WHITE = "#e8f1f7", "#fbeee5", "#fff"


def main() -> None:
    """Write the drawing."""
    DRAWING.write_text(shipped(), encoding="utf-8")


def shipped() -> str:
    """Make the drawing of the shipped checkpoint."""
    network, card = checkpoints.read_autovc(resources.AUTOVC)
    encoder = checkpoints.load_speaker_encoder()
    millions = sum(p.numel() for p in network.parameters()) / 1e6
    encoder_millions = sum(p.numel() for p in encoder.parameters()) / 1e6
    return drawing(card.network, card.mel, millions, encoder_millions)


def drawing(network: dict, mel: dict, millions: float, encoder_millions: float) -> str:
    """Make the SVG of a network with F0 inputs, from its arguments, mels and parameters."""
    codes_ms = 1000 * network["freq"] * mel["hop_length"] / mel["sample_rate"]
    encoder = f"GE2E, frozen, {encoder_millions:.1f} M"
    layers = network["decoder_layers"]
    listens = bool(network.get("dim_features"))  # to a recogniser, in place of mel and voice
    heard = (
        ("recogniser", "Whisper base, frozen") if listens else ("mel", f"{network['n_mels']} bands")
    )
    attends = bool(network.get("dim_reference"))  # to the target's own frames
    told = f"embedding, {network['dim_emb']} numbers"
    if network.get("dim_acoustics"):
        told += f"; acoustics, {network['dim_acoustics']}"
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" '
        'font-family="sans-serif" font-size="13">',
        "<title>How vc_lightning converts a voice</title>",
        f'<defs><marker id="tip" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" '
        f'markerHeight="7" orient="auto"><path d="M0 0L8 4L0 8Z" fill="{GREY}"/></marker></defs>',
        f'<rect width="{WIDTH}" height="{HEIGHT}" rx="10" fill="{WHITE}"/>',
        # The frame around the trained parts.
        f'<rect x="352" y="42" width="500" height="{348 if attends else 266}" rx="12" '
        f'fill="none" stroke="{ORANGE}" '
        'stroke-dasharray="5 4"/>',
        text(602, 30, f"AutoVC: trained, {millions:.1f} M parameters", ORANGE, "middle"),
        # Recordings.
        *box(20, 120, 120, 60, WHITE, GREY, "source", "gives the words"),
        *box(20, 372, 120, 60, WHITE, GREY, "target", "gives the voice"),
        # Their features.
        *box(185, 58, 140, 60, PALE_BLUE, BLUE, *heard),
        *(
            []
            if listens
            else box(185, 145, 140, 60, PALE_BLUE, BLUE, "speaker encoder", "GE2E, frozen")
        ),
        *box(185, 228, 140, 74, PALE_BLUE, BLUE, "pitch", "moved to the", "target's range"),
        *box(185, 372, 140, 60, PALE_BLUE, BLUE, "speaker encoder", encoder),
        # The network.
        *box(
            *(380, 92, 140, 92, PALE_ORANGE, ORANGE, "content encoder"),
            *(f"3 conv, {network['dim_encoder']} wide", f"2 BLSTM, 2 × {network['dim_neck']}"),
        ),
        *codes(544, 90, 2 * network["dim_neck"], codes_ms),
        *box(
            *(676, 92, 150, 92, PALE_ORANGE, ORANGE, "decoder"),
            *(f"LSTM {network['dim_pre']}, 3 conv", f"{layers} × LSTM {network['dim_decoder']}"),
        ),
        *box(
            *(676, 228, 150, 60, PALE_ORANGE, ORANGE, "postnet"),
            f"5 conv, {network['dim_postnet']} wide",
        ),
        *(
            box(676, 318, 150, 60, PALE_ORANGE, ORANGE, "attention", "to the target's frames")
            if attends
            else []
        ),
        # The output.
        *box(900, 221, 130, 74, PALE_BLUE, BLUE, "vocoder", "source-filter,", "or another"),
        *box(900, 372, 130, 60, WHITE, GREY, "conversion", "in the target's voice"),
        # From the recordings to their features.
        arrow("M140 150H162V88H185"),
        *([] if listens else [arrow("M140 150H162V175H185")]),
        arrow("M140 150H162V250H185"),
        arrow("M80 372V280H185"),
        arrow("M140 402H185"),
        # Into the content encoder, and through the bottleneck.
        arrow("M325 88H366V122H380"),
        *([] if listens else [arrow("M325 175H366V154H380")]),
        arrow("M520 138H546"),
        arrow("M626 138H676"),
        # Into the decoder: the pitch and the target's voice.
        arrow("M325 265H634V156H676"),
        arrow("M325 402H654V170H676"),
        text(380, 258, "harmonics", GREY, size=12),
        text(380, 416 if attends else 395, told, GREY, size=12),
        # To the output.
        arrow("M751 184V228"),
        *(
            [arrow("M751 288V318"), arrow("M826 348H866V258H900"), arrow("M80 432V442H751V378")]
            if attends
            else [arrow("M826 258H900")]
        ),
        text(876, 250, "mel", GREY, "middle", 12),
        arrow("M965 295V372"),
        *training(),
        "</svg>",
        "",
    ]
    return "\n".join(parts)


def training() -> list[str]:
    """Draw the lines below, which explain training."""
    return [
        f'<path d="M20 454H{WIDTH - 20}" stroke="{GREY}" stroke-width="0.5"/>',
        text(20, 480, "In training", ORANGE, weight="bold"),
        text(
            *(108, 480),
            "source and target are the same recording. Two losses compare its mel with the mels of "
            "decoder and postnet.",
            INK,
        ),
        text(
            *(108, 500),
            "A third one compares a recogniser's features with their prediction from the codes "
            "(without a teacher: the codes of input and output).",
            INK,
        ),
        text(108, 520, "The narrow bottleneck and VTLP copies keep the source's voice out.", INK),
    ]


def codes(x: float, y: float, channels: int, milliseconds: float) -> list[str]:
    """Draw the bottleneck: a few narrow columns."""
    columns = [
        f'<rect x="{x + 12 + 15 * i}" y="{y + 16}" width="9" height="64" rx="2" fill="{ORANGE}" '
        f'fill-opacity="{opacity}"/>'
        for i, opacity in enumerate((0.9, 0.5, 0.75, 0.35))
    ]
    return [
        text(x + 40, y - 8, "codes", INK, "middle", 14, "bold"),
        *columns,
        text(x + 40, y + 108, f"{channels} numbers", GREY, "middle", 12),
        text(x + 40, y + 123, f"every {milliseconds:.0f} ms", GREY, "middle", 12),
    ]


def box(
    x: float, y: float, width: float, height: float, fill: str, stroke: str, title: str, *more: str
) -> list[str]:
    """Draw a box with a title and further lines."""
    first = y + height / 2 + 5 - 9 * len(more)
    middle = x + width / 2
    return [
        f'<rect x="{x}" y="{y}" width="{width}" height="{height}" rx="7" fill="{fill}" '
        f'stroke="{stroke}" stroke-width="1.3"/>',
        text(middle, first, title, INK, "middle", 14, "bold"),
        *(
            text(middle, first + 18 * number, line, INK, "middle", 12)
            for number, line in enumerate(more, start=1)
        ),
    ]


def arrow(path: str) -> str:
    """Draw an arrow."""
    return (
        f'<path d="{path}" fill="none" stroke="{GREY}" stroke-width="1.3" marker-end="url(#tip)"/>'
    )


def text(
    x: float,
    y: float,
    words: str,
    fill: str,
    anchor: str = "start",
    size: int = 13,
    weight: str = "normal",
) -> str:
    """Draw text at a place."""
    return (
        f'<text x="{x:g}" y="{y:g}" fill="{fill}" text-anchor="{anchor}" font-size="{size}" '
        f'font-weight="{weight}">{escape(words)}</text>'
    )


if __name__ == "__main__":
    main()
