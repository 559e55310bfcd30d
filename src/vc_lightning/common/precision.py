"""The fastest number format that the hardware supports."""

import torch

HAS_AMX = torch.cpu.get_capabilities().get("amx_bf16", False)  # matrix units
# Whether oneDNN multiplies as fast as MKL or faster in float32; older processors were not measured.
HAS_FAST_ONEDNN = (
    torch.backends.mkldnn.is_available()
    and torch.cpu.get_capabilities().get("avx512_bw", False)
    and not HAS_AMX
)
# Whether oneDNN has a bfloat16 LSTM for this CPU: AVX-512 is enough, unlike for fast products.
HAS_BFLOAT16_LSTM = torch.cpu.get_capabilities().get("avx512_bw", False)
# Whether this CPU multiplies bytes much faster than float32.
HAS_VNNI = any(
    torch.cpu.get_capabilities().get(name, False) for name in ("avx512_vnni", "avx_vnni")
)
# Whether frozen networks gain by 8 bits: with matrix units bfloat16 is fast enough, and PyTorch's
# functions for them are deprecated since 2.13.
HAS_FAST_BYTES = (
    HAS_VNNI
    and not HAS_AMX
    and "onednn" in torch.backends.quantized.supported_engines
    and hasattr(torch, "quantize_per_channel")
)


def has_bfloat16_products() -> bool:
    """Return whether this CPU multiplies matrices much faster in bfloat16: AMX, AVX512-BF16."""
    return HAS_AMX or torch.cpu.get_capabilities().get("avx512_bf16", False)


def best_precision(accelerator: str) -> str:
    """Choose Lightning's `precision` for this machine.

    Args:
        accelerator: "auto", "cpu", "gpu", … as the Trainer takes it.

    Returns:
        "bf16-mixed" where the hardware computes in bfloat16 (GPUs since Ampere; CPUs with AMX or
        AVX512-BF16, whose matrix products are about four times as fast), else "32-true".
    """
    if accelerator in ("auto", "gpu", "cuda") and torch.cuda.is_available():
        has_bf16 = torch.cuda.is_bf16_supported(including_emulation=False)
    elif accelerator in ("auto", "cpu"):
        has_bf16 = has_bfloat16_products()
    else:
        has_bf16 = False
    return "bf16-mixed" if has_bf16 else "32-true"
