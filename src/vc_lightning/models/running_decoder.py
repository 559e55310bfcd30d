"""Decode speech that goes on: each step computes the newest frames alone."""

import torch
from torch import Tensor

from vc_lightning.models.autovc import AutoVC
from vc_lightning.models.lstm import run_on


class RunningDecoder:
    """Decodes a stream step by step, in constant time and memory.

    The LSTMs go on from the states of the step before, and each stack of convolutions is given the
    frames before the new ones that it reads. So what is decoded depends on all that was said
    before, as in a file.

    `decode` and `refined` are those of `AutoVC`, outside of training. Each step calls them once for
    the same frames: the last `n_open` ones of the step before, which may have changed, then the new
    ones.

    Args:
        autovc: The network, in eval mode.
        n_open: Last frames of a step that the next one decodes again; at least 1, and less than the
            first step has.
    """

    def __init__(self, autovc: AutoVC, n_open: int):
        self.autovc = autovc
        self._n_open = n_open
        self._states: list[tuple[Tensor, Tensor] | None] = [None, None]  # of the decoder's LSTMs
        self._before_convolutions = Past(autovc.decoder.reach)
        self._before_postnet = Past(autovc.postnet.reach)
        if autovc.has_reference:
            self._before_reference = Past(autovc.reference.reach)

    def decode(
        self, codes: Tensor, n_frames: int, embedding: Tensor, harmonics: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Decode the next codes, see `AutoVC.decode`.

        Raises:
            ValueError: There are not more than `n_open` frames.
        """
        network, n_settled = self.autovc, n_frames - self._n_open
        if n_settled < 1:
            raise ValueError(f"{n_frames} frames; give more than {self._n_open}")
        voice = network.voice(embedding)
        x = network.decoder_inputs(codes, n_frames, voice, harmonics)
        x = self._run_on(0, x, n_settled)
        x = network.decoder.convolved(self._before_convolutions.joined(x, n_settled), voice)
        x = self._run_on(1, x[..., -n_frames:], n_settled)
        mel = network.decoder.projection(x.transpose(1, 2)).transpose(1, 2)
        residual = network.postnet(self._before_postnet.joined(mel, n_settled), voice)
        return mel, mel + residual[..., -n_frames:]

    def refined(self, codes: Tensor, mel: Tensor, reference: Tensor) -> Tensor:
        """Refine the mel of the next codes, see `AutoVC.refined`."""
        n_frames = mel.shape[-1]
        read = torch.cat([self.autovc.repeat_codes(codes, n_frames), mel], dim=1)
        read = self._before_reference.joined(read, n_frames - self._n_open)
        codes, mel = read.split([codes.shape[1], mel.shape[1]], dim=1)
        return self.autovc.reference(codes, mel, reference)[..., -n_frames:]

    def _run_on(self, number: int, x: Tensor, n_settled: int) -> Tensor:
        """Run one of the decoder's LSTMs, x (B, C, T) -> (B, cells, T)."""
        lstm = (self.autovc.decoder.lstm1, self.autovc.decoder.lstm2)[number]
        x, self._states[number] = run_on(lstm, x.transpose(1, 2), self._states[number], n_settled)
        return x.transpose(1, 2)


class Past:
    """Keeps the settled frames that a stack of convolutions reads before the frames of a step.

    Args:
        n: Their number.
    """

    def __init__(self, n: int):
        self._n = n
        self._frames: Tensor | None = None

    def joined(self, x: Tensor, n_settled: int) -> Tensor:
        """Put the kept frames before x (B, C, T), whose first n_settled frames are kept in turn."""
        n_more = 0 if self._frames is None else self._frames.shape[-1]
        joined = x if self._frames is None else torch.cat([self._frames, x], dim=-1)
        stop = n_more + n_settled
        self._frames = joined[..., max(0, stop - self._n) : stop].clone()
        return joined
