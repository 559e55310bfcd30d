"""Says what one recording says in another's voice: python convert.py source=a.wav target=b.wav"""

import logging
import time
from pathlib import Path

import hydra
import numpy as np
from hydra.utils import instantiate
from omegaconf import DictConfig

from vc_lightning import audio, cli, resources
from vc_lightning.errors import InputError
from vc_lightning.speaker_encoder import similarity
from vc_lightning.voice_converter import VoiceConverter

log = logging.getLogger("convert")


@hydra.main(version_base="1.3", config_path="conf", config_name="convert")
@cli.reports_input_errors
def main(cfg: DictConfig) -> None:
    """Converts one recording and says how near it came to the voice."""
    if cfg.source is None or cfg.target is None:
        raise InputError("say which recordings: convert.py source=FILE target=FILE")
    source = Path(cfg.source)
    targets = cli.existing_paths(cfg.target, "target", audio.AUDIO_SUFFIXES)
    also = cli.choices(cfg.also, "also", ("source", "target"))
    output = cli.writable_path(cfg.output, "output")
    converter = VoiceConverter.from_checkpoint(
        cfg.ckpt or resources.AUTOVC,
        vocoder=instantiate(cfg.vocoder),
        speaker_encoder=cfg.speaker_encoder or resources.SPEAKER_ENCODER,
        freq=cfg.ckpt_freq,
    ).to(cli.torch_device(cfg.device))

    # With several target recordings one is kept out of the voice, so that it can judge it.
    voice_targets, judge = (
        (targets[:-1], targets[-1]) if len(targets) > 1 else (targets, targets[0])
    )
    started = time.perf_counter()
    wav = converter.convert(source, voice_targets, cfg.seed)
    seconds = time.perf_counter() - started
    duration = len(wav) / converter.sample_rate
    audio.save(output, wav, converter.sample_rate)
    log.info(
        "%s: %.2f s of sound in %.2f s (real-time factor %.2f), vocoder %s",
        output,
        duration,
        seconds,
        seconds / duration,
        type(converter.vocoder).__name__,
    )
    report_similarity(converter, source, judge, wav, left_out=len(targets) > 1)
    for name, path in {"source": source, "target": judge}.items():
        if name in also:
            copy = output.with_stem(f"{output.stem}_{name}")
            audio.save(copy, converter.resynthesize(path, cfg.seed), converter.sample_rate)
            log.info("%s: %s through the vocoder alone", copy, path)


def report_similarity(
    converter: VoiceConverter, source: Path, target: Path, wav: np.ndarray, left_out: bool
) -> None:
    """Logs GE2E cosines of source and conversion to both voices."""
    voices = [converter.embed(path) for path in (target, source)]
    log.info("voice similarity (GE2E cosine)   to target   to source")
    rows = {"before (source)": source, "after (conversion)": wav}
    for name, recording in rows.items():
        try:
            embedding = converter.embed(recording)
        except InputError as error:
            log.info("%-31s  not measured: %s", name, error)
            continue
        log.info("%-31s  %9.2f   %9.2f", name, *(similarity(embedding, v) for v in voices))
    if left_out:
        log.info("(target: %s, left out of the voice's embedding)", target)


if __name__ == "__main__":
    cli.run(main, "convert")
