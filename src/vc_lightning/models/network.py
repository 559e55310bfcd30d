"""What every network with weight files of its own has: a kind, and the arguments that build it."""

from typing import ClassVar

from torch import Tensor, nn

State = dict[str, Tensor]


class Network(nn.Module):
    """A network that weight files hold; see `files.kinds.KINDS` for all of them.

    Attributes:
        kind: Name of the class in weight files.
        vocoder: For a vocoder, the choice in `conf/vocoder/` that runs it; also the name of the
            shipped weights. Else "".
        title: What the page calls this choice.
        sizes_of_mels: Arguments that are mel settings, too.
        arguments: Arguments of the constructor, for the header of weight files.
        mel_settings: Settings of the mels it was trained on; set when weights are loaded.

    Args:
        given: `locals()` at the start of a subclass's constructor, which are its arguments.
    """

    kind: ClassVar[str]
    vocoder: ClassVar[str] = ""
    title: ClassVar[str] = ""
    sizes_of_mels: ClassVar[tuple[str, ...]] = ()

    def __init__(self, given: dict):
        super().__init__()
        own = ("self", "__class__")
        self.arguments = {name: value for name, value in given.items() if name not in own}
        self.mel_settings: dict = {}

    @classmethod
    def sizes(cls, state: State) -> dict:  # noqa: ARG003
        """Read those arguments of the constructor that show in the shapes of weights; here none.

        Raises:
            KeyError: A weight is missing.
            ValueError: A weight has another number of dimensions.
        """
        return {}


def n_listed(state: State, name: str) -> int:
    """Count the parts of a module list in weights."""
    keys = [key.removeprefix(f"{name}.") for key in state if key.startswith(f"{name}.")]
    return len({key.split(".")[0] for key in keys})
