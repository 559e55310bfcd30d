"""The fastest number format that a processor computes in by itself."""

import torch


def best_precision(accelerator: str) -> str:
    """Lightning's `precision` for an accelerator ("auto", "cpu", "gpu", …) on this machine.

    bf16-mixed where there are bfloat16 units (GPUs since Ampere; CPUs with AMX or AVX512-BF16,
    whose products of matrices are about four times as fast), else 32-true, which is never wrong.
    """
    if accelerator in ("auto", "gpu", "cuda") and torch.cuda.is_available():
        has_bf16 = torch.cuda.is_bf16_supported(including_emulation=False)
    elif accelerator in ("auto", "cpu"):
        capabilities = torch.cpu.get_capabilities()
        has_bf16 = capabilities.get("amx_bf16", False) or capabilities.get("avx512_bf16", False)
    else:
        has_bf16 = False
    return "bf16-mixed" if has_bf16 else "32-true"
