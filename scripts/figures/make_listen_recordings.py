"""Cut the recordings of docs/listen/ from Debian's packages; credits stand in examples/README.md.

    apt-get download pocketsphinx-testdata asterisk-prompt-it-menardi-wav \
        asterisk-core-sounds-en-g722 asterisk-core-sounds-fr-g722 \
        asterisk-core-sounds-it-g722 asterisk-core-sounds-ru-g722
    for package in *.deb; do dpkg-deb --extract "$package" PACKAGES; done
    python scripts/figures/make_listen_recordings.py PACKAGES

A recording loses its mean and the silence at its ends, and is faded in and out over 10 ms. Its
level and its sample rate stay. The mixture is the sum of two of them.
"""

import sys
from pathlib import Path

import av
import numpy as np
import soundfile

from vc_lightning.common import resources

LISTEN = resources.ROOT / "docs" / "listen"
SOUNDS = "usr/share/asterisk/sounds"
LIBRIVOX = "usr/share/pocketsphinx/test/data/librivox/sense_and_sensibility_01_austen_64kb"
RECORDINGS = {  # name in docs/listen/ → file of a package
    "en_reader": f"{LIBRIVOX}-0870.wav",
    "en_allison": f"{SOUNDS}/en_US_f_Allison/queue-periodic-announce.g722",
    "fr_june": f"{SOUNDS}/fr_CA_f_June/queue-periodic-announce.g722",
    "fr_june_voice": f"{SOUNDS}/fr_CA_f_June/tt-allbusy.g722",
    "it_carlo": f"{SOUNDS}/it_IT_m_Carlo/queue-periodic-announce.g722",
    "it_menardi": f"{SOUNDS}/it_IT_f_Menardi/vm-opts.wav",
    "ru_ivrvoice": f"{SOUNDS}/ru_RU_f_IvrvoiceRU/queue-periodic-announce.g722",
}
MIXED = ("en_allison", "it_carlo")  # two people who speak at once
SILENCE = 10 ** (-45 / 20)  # of full scale, at the ends
KEPT_S, FADE_S = 0.1, 0.01  # beside the speech; of a fade


def main(packages: Path) -> None:
    """Write the recordings and the mixture as flac.

    Args:
        packages: The folder into which the packages were extracted.
    """
    LISTEN.mkdir(exist_ok=True)
    cut = {name: speech(*decoded(packages / path)) for name, path in RECORDINGS.items()}
    for name, (wav, sample_rate) in cut.items():
        soundfile.write(LISTEN / f"{name}.flac", wav, sample_rate, subtype="PCM_16")
    (first, sample_rate), (second, _) = (cut[name] for name in MIXED)
    length = min(len(first), len(second))
    together = (first[:length] + second[:length]) / 2
    soundfile.write(LISTEN / "two_at_once.flac", together, sample_rate, subtype="PCM_16")


def decoded(path: Path) -> tuple[np.ndarray, int]:
    """Decode a file, raw G.722 too, to a wav in −1…1 and its sample rate in Hz."""
    with av.open(str(path)) as container:
        (stream,) = container.streams.audio
        mono = av.AudioResampler(format="s16", layout="mono", rate=stream.rate)
        frames = [
            part.to_ndarray()[0]
            for frame in (*container.decode(stream), None)
            for part in mono.resample(frame)
        ]
    return np.concatenate(frames) / 32768, stream.rate


def speech(wav: np.ndarray, sample_rate: int) -> tuple[np.ndarray, int]:
    """Cut the silence at both ends, remove the mean and fade."""
    wav = wav - wav.mean()
    loud = np.flatnonzero(np.abs(wav) > SILENCE)
    kept = round(KEPT_S * sample_rate)
    wav = wav[max(loud[0] - kept, 0) : loud[-1] + kept]
    fade = np.linspace(0, 1, round(FADE_S * sample_rate))
    wav[: len(fade)] *= fade
    wav[-len(fade) :] *= fade[::-1]
    return wav, sample_rate


if __name__ == "__main__":
    main(Path(sys.argv[1]))
