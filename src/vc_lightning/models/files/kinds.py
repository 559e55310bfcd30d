"""The kinds of network whose weights files hold, as one table of their classes.

A new vocoder is a `Network` with the members of `vocoders.base.Vocoder`, a row here, a file in
`conf/model/`, one in `conf/vocoder/`, and a line in `conf/serve.yaml`.
"""

from pathlib import Path

from vc_lightning.common.errors import InputError
from vc_lightning.models.autovc import AutoVC
from vc_lightning.models.critics.speaker import SpeakerCritic
from vc_lightning.models.live_adapter import LiveAdapter
from vc_lightning.models.network import Network, State
from vc_lightning.models.recogniser import Recogniser
from vc_lightning.models.speaker_encoder import GE2E, DVector
from vc_lightning.models.swift_f0 import SwiftF0
from vc_lightning.models.vocoders.griffin_lim.network import GriffinLimNet
from vc_lightning.models.vocoders.source_filter.network import SourceFilter
from vc_lightning.models.vocoders.wavernn.multiband import MultiBandWaveRNN
from vc_lightning.models.vocoders.wavernn.network import WaveRNN

NETWORKS: tuple[type[Network], ...] = (
    AutoVC,
    GE2E,
    DVector,
    Recogniser,
    LiveAdapter,
    SwiftF0,
    SpeakerCritic,
    SourceFilter,
    WaveRNN,
    MultiBandWaveRNN,
    GriffinLimNet,
)
KINDS = {network.kind: network for network in NETWORKS}


def sizes_in(state: State, kind: str, path: Path | str) -> dict:
    """Read the arguments of a network off the shapes of its weights.

    Args:
        state: The weights.
        kind: One of `KINDS`.
        path: Their file, for messages.

    Raises:
        InputError: Weights are missing.
    """
    network = KINDS[kind]
    try:
        return network.sizes(state)
    except (KeyError, ValueError, IndexError) as error:
        raise InputError(f"{path}: is not a whole {network.__name__} network ({error})") from error
