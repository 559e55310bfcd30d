"""The server with a tiny network, with and without its page."""

from pathlib import Path

import pytest

from helpers import SOURCE, TARGET, composed
from vc_lightning.commands import serve
from vc_lightning.conversion.voices.consent import Consent
from vc_lightning.conversion.voices.shelf import VoiceShelf


@pytest.fixture(scope="session")
def overrides(shared_checkpoint, tmp_path_factory):
    """The command line of a quick server."""
    helpers = pytest.importorskip("server_helpers")
    quick = {"ckpt": shared_checkpoint, "vocoder": "griffin_lim", "vocoder.n_iter": 1, "port": 0}
    quick |= {"voices.dir": tmp_path_factory.mktemp("voices"), "vocoder.path": "null"}
    return [
        f"{key}={value}" for key, value in (quick | helpers.LIMITS | helpers.LIVE_LIMITS).items()
    ]


@pytest.fixture(scope="session")
def converters(overrides):
    """The loaded networks; one voice is learned."""
    cfg = composed("serve", *overrides)
    converters = serve.build_converters(cfg)
    converter = converters.get(converters.default)
    credit = {"made_by": "Ben <b>", "consent": Consent("Use it & say so.", "2026-11-24")}
    samples = [converter.sample(TARGET)]
    VoiceShelf(Path(cfg.voices.dir)).learn("Ann", samples, converter, **credit)
    return converters


@pytest.fixture(scope="session")
def converter(converters):
    return converters.get(converters.default)


@pytest.fixture(scope="session")
def build(overrides, converters):
    """Build the endpoints with changed settings, without loading the networks again."""
    from vc_lightning.service.engine.conversions import ConversionService

    def build(folder, *changes, convert=None, keys=()):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(serve, "build_converters", lambda _: converters)
            patch.setattr(serve, "api_keys", lambda _: list(keys))
            if convert is not None:
                patch.setattr(ConversionService, "convert_batch", staticmethod(convert))
            return serve.build_api(composed("serve", *overrides, *changes), folder)

    return build


@pytest.fixture(scope="session")
def served(build, tmp_path_factory):
    """The address of the server with its page, and the folder that holds what people upload."""
    mount = pytest.importorskip(
        "vc_lightning.service.page.mount", reason="the extra demo is not installed"
    )
    from server_helpers import running

    api = build(tmp_path_factory.mktemp("work"))
    with mount.mounted(api, 60, [SOURCE, TARGET]) as folder, running(api) as (address, _):
        yield address, folder, api
    assert not folder.exists()  # nothing is left when the server stops
    assert not folder.parent.exists()


@pytest.fixture
def slow():
    """A conversion that waits until it may go on."""
    from server_helpers import Slow

    convert = Slow()
    yield convert
    convert.may_go.set()
