"""Export of the conversion network to ONNX, for programs without PyTorch."""

import importlib.util
import json
import warnings
from dataclasses import asdict
from pathlib import Path

import torch
from torch import Tensor, nn

from vc_lightning.audio.mel import n_harmonics
from vc_lightning.common.errors import InputError
from vc_lightning.common.files import atomic_path
from vc_lightning.models.autovc import AutoVC
from vc_lightning.models.checkpoints import METADATA_KEY, read_autovc

OUTPUT = "converted_mel"
FRAMES = {0: "batch", 2: "frames"}  # dynamic axes
VOICE = {0: "batch"}


class ConvertedMel(nn.Module):
    """AutoVC with the sharpened mel as its only output; it reads mels also if it can listen."""

    def __init__(self, autovc: AutoVC):
        super().__init__()
        self.autovc = autovc

    def forward(
        self,
        mel: Tensor,
        source_embedding: Tensor,
        target_embedding: Tensor,
        harmonics: Tensor | None = None,
    ) -> Tensor:
        """Convert a mel, see `AutoVC.forward` -> the sharpened mel (B, n_mels, T)."""
        codes = self.autovc.encode_live(mel, source_embedding)
        made = self.autovc.decode(codes, mel.shape[-1], target_embedding, harmonics)[1]
        return self.autovc.sharpened(made)


def export_converter(path: Path | str, output: Path | str, freq: int = 32) -> Path:
    """Write the network of an AutoVC file as an ONNX file.

    Inputs are float32 with any B ≥ 1 and T ≥ 1: `mel` (B, n_mels, T), `source_embedding` and
    `target_embedding` (B, dim_emb), and `harmonics` (B, n_mels + 2, T) where the network has F0
    inputs. The output `converted_mel` (B, n_mels, T) is the postnet's mel, sharpened. A network
    that listens through a recogniser is written with its live encoder, which reads mels. The
    metadata hold the file's `Card` as JSON: mel settings, identity of the speaker encoder, step and
    licence.

    Args:
        path: AutoVC file, ours or public.
        output: The file to write.
        freq: Frames per code, for public files, which do not store it.

    Returns:
        output.

    Raises:
        InputError: The weights cannot be used, or the package onnx is missing.
    """
    if importlib.util.find_spec("onnx") is None:
        raise InputError("the export needs onnx: pip install 'vc-lightning[onnx]'")
    import onnx

    autovc, card = read_autovc(path, freq)
    examples, axes = example_inputs(autovc)
    with atomic_path(output) as temporary:
        with warnings.catch_warnings():
            # They say that the trace may fix sizes (tests show that it does not), and that this
            # exporter is deprecated.
            warnings.simplefilter("ignore")
            # The new exporter (dynamo=True) fails at LSTMs over a variable number of frames.
            torch.onnx.export(
                ConvertedMel(autovc).eval(),
                tuple(examples.values()),
                temporary,
                input_names=list(examples),
                output_names=[OUTPUT],
                dynamic_axes=axes | {OUTPUT: FRAMES},
                dynamo=False,
            )
        model = onnx.load(temporary)
        onnx.helper.set_model_props(model, {METADATA_KEY: json.dumps(asdict(card))})
        onnx.save(model, temporary)
    return Path(output)


def example_inputs(autovc: AutoVC) -> tuple[dict[str, Tensor], dict[str, dict[int, str]]]:
    """Make inputs by name for tracing, and list their dynamic axes by input and dimension."""
    batch, n_frames = 2, 2 * autovc.freq
    n_mels, dim_emb = autovc.arguments["n_mels"], autovc.arguments["dim_emb"]
    inputs = {"mel": torch.zeros(batch, n_mels, n_frames)}
    for name in ("source_embedding", "target_embedding"):
        inputs[name] = torch.zeros(batch, dim_emb)
    if autovc.f0:
        inputs["harmonics"] = torch.zeros(batch, n_harmonics(n_mels), n_frames)
    return inputs, {name: FRAMES if one.dim() == 3 else VOICE for name, one in inputs.items()}
