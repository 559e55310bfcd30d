"""The mode `speak` of live.py: from a microphone or a file to a loudspeaker or a recording."""

import contextlib
import logging
import signal
from collections.abc import Callable, Iterator

import numpy as np
import torch
from omegaconf import DictConfig

from vc_lightning.audio.files import io
from vc_lightning.commands.support import builders, paths
from vc_lightning.commands.support.targets import target_of
from vc_lightning.common.errors import InputError
from vc_lightning.conversion import provenance
from vc_lightning.conversion.converter import VoiceConverter
from vc_lightning.conversion.live.pace import Pace, affordable
from vc_lightning.conversion.live.stream import VoiceStream
from vc_lightning.conversion.voices.shelf import VoiceShelf
from vc_lightning.conversion.voices.voice import Voice
from vc_lightning.live import devices
from vc_lightning.live.recorder import recording
from vc_lightning.live.session import FileSource, Session, SilentSink, Sink, Source
from vc_lightning.live.terminal import Keys, Meter

log = logging.getLogger("live")

MAX_INTERRUPTIONS = 3
REFRESH_SECONDS = 0.1  # between two checks of the keyboard


def speak(cfg: DictConfig) -> None:
    """Convert the sound of a microphone or a file until it ends or the user stops it.

    Raises:
        InputError: A value is wrong, or a device or file cannot be used.
    """
    if not cfg.target:
        raise InputError("there is no target voice: give target=FILE, or a learned voice's name")
    output = None if cfg.record is None else paths.writable_path(cfg.record, "record", ".wav")
    if cfg.output_device == devices.NONE and output is None:
        raise InputError("output_device=none: the conversion would be lost; add record=FILE")
    # Devices first: an error in them comes before the networks are loaded.
    microphone, loudspeaker = device_of(cfg, "input"), device_of(cfg, "output")
    torch.set_num_threads(1)  # faster for small tensors
    converter = builders.build_converter(cfg)
    shelf = VoiceShelf(paths.single_path(cfg.voices.dir, "voices.dir"))
    target = shelf.find(target_of(cfg.target, shelf.folder), converter)
    speaker, earlier = speaker_of(cfg, shelf, converter)

    def opened(pace: Pace, rate: int = converter.sample_rate) -> VoiceStream:
        return converter.stream(
            target,
            pace.block_seconds,
            sample_rate=rate,
            lookahead_seconds=cfg.lookahead_seconds,
            context_seconds=cfg.context_seconds,
            listens=pace.listens,
            source=speaker,
            earlier=earlier,
            seed=cfg.seed,
        )

    pace = affordable(opened, cfg.block_seconds, cfg.listens)
    with contextlib.ExitStack() as stack:
        source = source_of(cfg, microphone)
        stack.callback(source.close)
        stream = opened(pace, source.rate)
        sink = sink_of(cfg, loudspeaker, source.rate)
        stack.callback(sink.close)
        recorder = None
        if output is not None:
            strings = provenance.strings(converter.note())
            recorder = stack.enter_context(recording(output, source.rate, strings))
        run_session(Session(stream, source, sink, recorder, is_muted=not cfg.monitor))
    if output is not None:
        log.info("recorded: %s (left: the input, right: the conversion)", cfg.record)


def speaker_of(
    cfg: DictConfig, shelf: VoiceShelf, converter: VoiceConverter
) -> tuple[Voice | None, np.ndarray | None]:
    """Load what is known of the person who speaks: their voice, and earlier speech (n,).

    Raises:
        InputError: A recording or a learned voice cannot be loaded.
    """
    if not cfg.speaker:
        return None, None
    found = target_of(cfg.speaker, shelf.folder, "speaker")
    earlier = None if isinstance(found, str) else converter.end_of_speech(found[-1])
    return shelf.find(found, converter), earlier


def run_session(session: Session) -> None:
    """Start a session, run it to its end, show its state and react to the keys."""
    meter = Meter()
    with Keys() as keys, interruptions() as is_interrupted, stopped_at_the_end(session):
        log.info(
            "latency %.0f ms plus computing time%s; Ctrl-C ends it",
            1000 * session.latency_seconds,
            "; p pauses, m mutes, q ends" if keys.is_active else "",
        )
        try:
            session.start()
            while session.is_running and not is_interrupted():
                session.wait(REFRESH_SECONDS)
                meter.show(session)
                key = keys.pressed()
                if key == "q":
                    break
                if key == "m":
                    session.is_muted = not session.is_muted
                if key in ("p", " "):
                    session.is_paused = not session.is_paused
        finally:
            meter.clear()


@contextlib.contextmanager
def interruptions() -> Iterator[Callable[[], bool]]:
    """Catch Ctrl-C and SIGTERM, so that a session can close its files; a third one ends it at once.

    Yields:
        A function that returns whether one of them arrived.
    """
    count = 0

    def note(*_: object) -> None:
        nonlocal count
        count += 1
        if count >= MAX_INTERRUPTIONS:
            raise KeyboardInterrupt

    before = {one: signal.signal(one, note) for one in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield lambda: count > 0
    finally:
        for one, handler in before.items():
            signal.signal(one, handler)


@contextlib.contextmanager
def stopped_at_the_end(session: Session) -> Iterator[None]:
    """Stop a session when the block ends, and log one line of statistics."""
    try:
        yield
    finally:
        session.stop()
        status = session.status
        log.info(
            "%.1f s converted, measured delay %.0f ms (longest %.0f ms), %d under-runs, %d gaps in "
            "the input, computing took %.0f %% of it",
            status.seconds,
            1000 * status.delay_seconds,
            1000 * status.longest_delay_seconds,
            status.n_underruns,
            status.n_gaps,
            100 * status.load,
        )


def device_of(cfg: DictConfig, kind: devices.Kind) -> tuple[int, int] | None:
    """Find the device that the configuration names.

    Returns:
        Number and sample rate in Hz of the device; None if no device is needed.

    Raises:
        InputError: The device cannot be found or does not support the rate.
    """
    is_needed = not cfg.source if kind == "input" else cfg.output_device != devices.NONE
    if not is_needed:
        return None
    number = devices.find(cfg[f"{kind}_device"], kind)
    return number, devices.rate_of(number, kind, cfg[f"{kind}_rate"])


def source_of(cfg: DictConfig, device: tuple[int, int] | None) -> Source:
    """Open the microphone that `device_of` found, or the file in its place."""
    if device is not None:
        return devices.Microphone(*device, cfg.device_latency)
    path = paths.single_path(cfg.source, "source")
    return FileSource(*io.load(path), devices.PIECE_SECONDS)


def sink_of(cfg: DictConfig, device: tuple[int, int] | None, rate: int) -> Sink:
    """Open the output device, or a sink without sound in its place.

    Args:
        cfg: The configuration `conf/live.yaml`.
        device: Result of `device_of` for the output.
        rate: Sample rate in Hz of a sink without sound.
    """
    lengths = (cfg.cushion_seconds, cfg.max_buffered_seconds)
    if device is None:
        return SilentSink(rate, *lengths)
    return devices.Speaker(*device, cfg.device_latency, *lengths)
