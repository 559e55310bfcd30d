"""The mode `serve` of live.py: live conversion for other programs."""

import logging
import threading

from omegaconf import DictConfig

from vc_lightning.commands.live_streams import Streams
from vc_lightning.common.errors import InputError, needs_extra
from vc_lightning.conversion.streaming import VoiceStream
from vc_lightning.live.protocol import Hello

log = logging.getLogger("live")


def serve(cfg: DictConfig) -> None:
    """Serve live conversion to other programs until the program is stopped.

    Args:
        cfg: The configuration `conf/live.yaml`.

    Raises:
        InputError: A value is wrong, the port is taken, or the extra `live` is missing.
    """
    with needs_extra("the server", "live"):
        from vc_lightning.live import server
    logging.getLogger("websockets").setLevel(logging.CRITICAL)  # a lost connection is no error
    token = None if cfg.serve.token is None else str(cfg.serve.token)
    server.require_token_beyond_loopback(cfg.serve.host, token)
    streams = Streams(cfg)
    streams.warm_up()

    def open_stream(hello: Hello) -> VoiceStream:
        if hello.voice is None and streams.target is None:
            raise InputError("voice: the server has no target; name a learned voice")
        voice = None if hello.voice is None else streams.learned_voice(hello.voice)
        speaker = streams.learned_voice(hello.speaker) if hello.speaker else None
        return streams.open(hello.rate, hello.block, voice, speaker)

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
