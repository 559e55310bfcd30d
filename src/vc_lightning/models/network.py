"""What every network with weight files of its own has: a kind, and the arguments that build it."""

from typing import ClassVar

from torch import nn


class Network(nn.Module):
    """A network that weight files hold; see `files.kinds.KINDS` for all of them.

    Attributes:
        kind: Name of the class in weight files.
        arguments: Arguments of the constructor, for the header of weight files.
        mel_settings: Settings of the mels it was trained on; set when weights are loaded.

    Args:
        given: `locals()` at the start of a subclass's constructor, which are its arguments.
    """

    kind: ClassVar[str]

    def __init__(self, given: dict):
        super().__init__()
        own = ("self", "__class__")
        self.arguments = {name: value for name, value in given.items() if name not in own}
        self.mel_settings: dict = {}
