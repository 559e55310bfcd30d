"""Convert live speech, or serve live conversion to programs: python live.py target=b.wav"""

import contextlib
import logging
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import hydra
import numpy as np
import torch
from omegaconf import DictConfig

from vc_lightning.audio import io as audio
from vc_lightning.commands import builders, entry_point, paths
from vc_lightning.commands.convert import target_of
from vc_lightning.common import resources
from vc_lightning.common.errors import (
    InputError,
    require_at_least,
    require_flag,
    require_one_of,
    require_within,
)
from vc_lightning.conversion import provenance
from vc_lightning.conversion import voice_library as voices
from vc_lightning.conversion.converter import VoiceConverter
from vc_lightning.conversion.recordings import Voice
from vc_lightning.conversion.streaming import VoiceStream
from vc_lightning.live import devices
from vc_lightning.live.recorder import recording
from vc_lightning.live.session import FileSource, Session, SilentSink, Sink, Source
from vc_lightning.live.terminal import Keys, Meter

log = logging.getLogger("live")

MODES = ("speak", "serve", "devices")
MAX_INTERRUPTIONS = 3
REFRESH_SECONDS = 0.1  # between two checks of the keyboard
NO_VOICE = "there is no target voice: give target=FILE, or the name of a learned voice"


@hydra.main(version_base="1.3", config_path=str(resources.CONF), config_name="live")
@entry_point.reports_input_errors
def main(cfg: DictConfig) -> None:
    """Convert, serve or list the devices, as `mode` says.

    Args:
        cfg: The configuration `conf/live.yaml`.

    Raises:
        InputError: A value is wrong, a device or file cannot be used, or an extra is missing.
    """
    require_valid(cfg)
    # SIGTERM closes devices and files as Ctrl-C does.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    if cfg.mode == "devices":
        log.info("%s", "\n".join(devices.listed()) or "there are no sound devices")
    elif cfg.mode == "serve":
        serve(cfg)
    else:
        speak(cfg)


def require_valid(cfg: DictConfig) -> None:
    """Check the values that nothing else checks before the networks are loaded.

    Args:
        cfg: The configuration `conf/live.yaml`.

    Raises:
        InputError: A value is wrong.
    """
    require_one_of(MODES, "", mode=cfg.mode)
    require_flag("monitor", cfg.monitor)
    require_within(0, 1, "", cushion_seconds=cfg.cushion_seconds)
    require_within(0.2, 60, "", max_buffered_seconds=cfg.max_buffered_seconds)
    for key in ("input_rate", "output_rate"):
        if cfg[key] is not None:
            require_within(audio.MIN_SAMPLE_RATE, audio.MAX_SAMPLE_RATE + 1, "", **{key: cfg[key]})
            require_at_least(1, "", **{key: cfg[key]})
    if cfg.device_latency not in ("low", "high"):
        require_within(0, 5, "", device_latency=cfg.device_latency)
    for key in ("input_device", "output_device"):
        if isinstance(cfg[key], bool) or not isinstance(cfg[key], int | str | None):
            raise InputError(f"{key}={cfg[key]}: give a number or a name")
    if cfg.mode == "serve":
        require_within(0, 2**16, "serve", port=cfg.serve.port)
        require_at_least(0, "serve", port=cfg.serve.port)


def speak(cfg: DictConfig) -> None:
    """Convert the sound of a microphone or a file until it ends or the user stops it.

    Args:
        cfg: The configuration `conf/live.yaml`.

    Raises:
        InputError: A value is wrong, or a device or file cannot be used.
    """
    if not cfg.target:
        raise InputError(NO_VOICE)
    output = None if cfg.record is None else paths.writable_path(cfg.record, "record", ".wav")
    if cfg.output_device == devices.NONE and output is None:
        raise InputError("output_device=none: the conversion goes nowhere; add record=FILE")
    chosen = chosen_devices(cfg)  # before the networks are loaded
    torch.set_num_threads(1)  # small tensors are slower on two
    converter = builders.build_converter(cfg)
    folder = paths.single_path(cfg.voices.dir, "voices.dir")
    voice, speaker = voice_of(cfg.target, converter, folder), speaker_of(cfg, converter, folder)
    warm_up(opened(cfg, converter, voice, speaker, None))
    with contextlib.ExitStack() as stack:
        source = source_of(cfg, *chosen["input"])
        stack.callback(source.close)
        stream = opened(cfg, converter, voice, speaker, source.rate)
        sink = sink_of(cfg, source, chosen["output"])
        stack.callback(sink.close)
        recorder = None
        if output is not None:
            strings = provenance.strings(converter.note())
            recorder = stack.enter_context(recording(output, source.rate, strings))
        run_session(Session(stream, source, sink, recorder, is_muted=not cfg.monitor))
    if output is not None:
        log.info("recorded: %s (left: what was said, right: the conversion)", cfg.record)


def run_session(session: Session) -> None:
    """Run a session to its end, show its state and react to the keys.

    Args:
        session: The session, not started yet.
    """
    meter = Meter()
    with Keys() as keys, interruptions() as is_interrupted, stopped_at_the_end(session):
        log.info(
            "latency %.0f ms and the time of computing%s; Ctrl-C ends it",
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
    """Catch Ctrl-C and SIGTERM, so that a session can close its files; the third ends it at once.

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
    """Stop a session when the block ends, and log one line of statistics.

    Args:
        session: The session.
    """
    try:
        yield
    finally:
        session.stop()
        status = session.status
        log.info(
            "%.1f s converted, %d under-runs, %d gaps in the input, computing took %.0f %% of it",
            status.seconds,
            status.n_underruns,
            status.n_gaps,
            100 * status.load,
        )


def chosen_devices(cfg: DictConfig) -> dict[str, tuple[int | None, int | None]]:
    """Find the devices that the configuration names.

    Args:
        cfg: The configuration `conf/live.yaml`.

    Returns:
        Number and sample rate in Hz of the "input" and the "output"; None where none is used.

    Raises:
        InputError: A device cannot be found or does not support the rate.
    """
    found: dict[str, tuple[int | None, int | None]] = {}
    for kind, is_needed in (
        ("input", not cfg.source),
        ("output", cfg.output_device != devices.NONE),
    ):
        found[kind] = (None, None)
        if is_needed:
            number = devices.find(cfg[f"{kind}_device"], kind)
            found[kind] = number, devices.rate_of(number, kind, cfg[f"{kind}_rate"])
    return found


def source_of(cfg: DictConfig, number: int | None, rate: int | None) -> Source:
    """Open the microphone, or the file in its place.

    Args:
        cfg: The configuration `conf/live.yaml`.
        number: Number of the microphone; None for the file.
        rate: Its sample rate in Hz.
    """
    if number is not None and rate is not None:
        return devices.Microphone(number, rate, cfg.device_latency)
    path = paths.single_path(cfg.source, "source")
    return FileSource(*audio.load(path), devices.PIECE_SECONDS)


def sink_of(cfg: DictConfig, source: Source, chosen: tuple[int | None, int | None]) -> Sink:
    """Open the output device, or a sink without sound in its place.

    Args:
        cfg: The configuration `conf/live.yaml`.
        source: The source, whose sample rate a sink without sound takes.
        chosen: Number and sample rate of the device, or None for both.
    """
    lengths = (cfg.cushion_seconds, cfg.max_buffered_seconds)
    number, rate = chosen
    if number is None or rate is None:
        return SilentSink(source.rate, *lengths)
    return devices.Speaker(number, rate, cfg.device_latency, *lengths)


def voice_of(value: object, converter: VoiceConverter, folder: Path) -> Voice:
    """Make a voice from recordings, or load a learned one.

    Args:
        value: The key `target`.
        converter: The converter.
        folder: Folder of the learned voices.
    """
    target = target_of(value, folder)
    if isinstance(target, str):
        return learned(target, converter, folder)
    return converter.voice(target)


def learned(name: str, converter: VoiceConverter, folder: Path) -> Voice:
    """Load a learned voice for a converter.

    Args:
        name: Name of the voice.
        converter: The converter.
        folder: Folder of the learned voices.

    Raises:
        InputError: There is no such voice, or it belongs to another speaker encoder.
    """
    return voices.for_encoder(voices.load(folder, name), converter.encoder_identity)


def speaker_of(cfg: DictConfig, converter: VoiceConverter, folder: Path) -> Voice | None:
    """Load the learned voice of the person who speaks, if `speaker` names one.

    Args:
        cfg: The configuration `conf/live.yaml`.
        converter: The converter.
        folder: Folder of the learned voices.
    """
    return learned(str(cfg.speaker), converter, folder) if cfg.speaker else None


def opened(
    cfg: DictConfig,
    converter: VoiceConverter,
    voice: Voice,
    speaker: Voice | None,
    rate: int | None,
    block_seconds: float | None = None,
) -> VoiceStream:
    """Open a stream with the block, lookahead and context of the configuration.

    Args:
        cfg: The configuration `conf/live.yaml`.
        converter: The converter.
        voice: The target voice.
        speaker: Voice of the person who speaks; None if it is not known.
        rate: Sample rate in Hz of what is pushed and returned; None for that of the converter.
        block_seconds: Length of a step; None for that of the configuration.
    """
    return VoiceStream(
        converter,
        voice,
        sample_rate=rate,
        block_seconds=cfg.block_seconds if block_seconds is None else block_seconds,
        lookahead_seconds=cfg.lookahead_seconds,
        context_seconds=cfg.context_seconds,
        source=speaker,
        seed=cfg.seed,
    )


def warm_up(stream: VoiceStream) -> None:
    """Convert one second of noise, because the first steps of a process are slow.

    Args:
        stream: A stream that is not used afterwards.
    """
    noise = np.random.default_rng(0).normal(0, 0.01, stream.sample_rate)
    stream.push(noise.astype(np.float32))


def serve(cfg: DictConfig) -> None:
    """Serve live conversion to other programs until the program is stopped.

    Args:
        cfg: The configuration `conf/live.yaml`.

    Raises:
        InputError: A value is wrong, the port is taken, or the extra `live` is missing.
    """
    try:
        from vc_lightning.live import server
    except ModuleNotFoundError as error:
        raise InputError(
            f"the server needs {error.name}: pip install 'vc-lightning[live]'"
        ) from error
    logging.getLogger("websockets").setLevel(logging.CRITICAL)  # a lost connection is no error
    token = None if cfg.serve.token is None else str(cfg.serve.token)
    server.require_token_beyond_loopback(cfg.serve.host, token)
    torch.set_num_threads(1)  # every client has a thread
    converter = builders.build_converter(cfg)
    folder = paths.single_path(cfg.voices.dir, "voices.dir")
    target = voice_of(cfg.target, converter, folder) if cfg.target else None
    speaker = speaker_of(cfg, converter, folder)
    if target is not None:
        warm_up(opened(cfg, converter, target, speaker, None))

    def open_stream(hello: server.Hello) -> VoiceStream:
        voice = target if hello.voice is None else learned(hello.voice, converter, folder)
        if voice is None:
            raise InputError("voice: the server has no target; name a learned voice")
        who = learned(hello.speaker, converter, folder) if hello.speaker else speaker
        return opened(cfg, converter, voice, who, hello.rate, hello.block)

    limits = server.Limits(
        cfg.serve.max_clients,
        cfg.serve.max_message_kib,
        cfg.serve.max_unread_seconds,
        cfg.serve.max_idle_seconds,
    )
    live_server = server.LiveServer(open_stream, limits, token)
    with server.serving(live_server, cfg.serve.host, cfg.serve.port) as address:
        log.info("serving at %s (Ctrl-C ends it)", address)
        threading.Event().wait()


def run() -> None:
    """Run `python live.py`, or `vc-live` where the package is installed."""
    words = ("serve", "devices")
    sys.argv[1:] = [f"mode={word}" if word in words else word for word in sys.argv[1:]]
    entry_point.run(main, "live")
