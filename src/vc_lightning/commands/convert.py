"""Says what one recording says in another's voice: python convert.py source=a.wav target=b.wav"""

import logging
import time

import hydra
import numpy as np
from omegaconf import DictConfig

from vc_lightning import audio, cli, resources
from vc_lightning.errors import InputError
from vc_lightning.speaker_encoder import similarity
from vc_lightning.voice_converter import VoiceConverter

log = logging.getLogger("convert")


@hydra.main(version_base="1.3", config_path=str(resources.CONF), config_name="convert")
@cli.reports_input_errors
def main(cfg: DictConfig) -> None:
    """Converts one recording and says how near it came to the voice."""
    if not cfg.source or not cfg.target:
        raise InputError("say which recordings: source=FILE target=FILE")
    source = cli.single_path(cfg.source, "source")
    targets = cli.existing_paths(cfg.target, "target", audio.AUDIO_SUFFIXES)
    also = cli.choices(cfg.also, "also", ("source", "target"))
    output = cli.writable_path(cfg.output, "output")
    converter = cli.made_converter(cfg)

    started = time.perf_counter()
    source_voice = converter.embed(source)
    judge = converter.embed(targets[-1])
    # With several target recordings one is kept out of the voice, so that it can judge it.
    voice = converter.voice(targets[:-1] or targets)
    wav = converter.convert_to(source, voice, cfg.seed)
    seconds = time.perf_counter() - started
    audio.save(output, wav, converter.sample_rate)
    duration = len(wav) / converter.sample_rate
    log.info(
        "%s: %.2f s of sound in %.2f s (real-time factor %.2f), vocoder %s",
        cfg.output,
        duration,
        seconds,
        seconds / duration,
        type(converter.vocoder).__name__,
    )
    report_similarity(converter, wav, source_voice, judge)
    if len(targets) > 1:
        log.info("(target: %s, left out of the voice)", targets[-1])
    for name, path in {"source": source, "target": targets[-1]}.items():
        if name in also:
            copy = output.with_stem(f"{output.stem}_{name}")
            audio.save(copy, converter.resynthesize(path, cfg.seed), converter.sample_rate)
            log.info("%s: %s through the vocoder alone", copy, path)


def report_similarity(
    converter: VoiceConverter, wav: np.ndarray, source: np.ndarray, target: np.ndarray
) -> None:
    """Logs GE2E cosines of the source's voice and the conversion's to both voices."""
    rows = {"before (source)": source}
    try:
        rows["after (conversion)"] = converter.embed(wav)
    except InputError as error:
        log.warning("the conversion's voice is not measured: %s", error)
    log.info("voice similarity (GE2E cosine)   to target   to source")
    for name, voice in rows.items():
        log.info("%-31s  %9.2f   %9.2f", name, similarity(voice, target), similarity(voice, source))


def run() -> None:
    """`python convert.py`, and `vc-convert` where the package is installed."""
    cli.run(main, "convert")
