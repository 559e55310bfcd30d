"""Run a program as on a processor with fewer instructions than this one.

    python benchmarks/as_processor.py AVX2_VNNI benchmarks/live_latency.py --wall --seconds 8

oneDNN, MKL and PyTorch then use no later instructions than those named (oneDNN's names), and the
project chooses formats as it does there. Clock, caches and memory stay those of this machine.
"""

import argparse
import os
import runpy
import sys
from pathlib import Path
from unittest import mock

LATER = {  # instructions that each processor lacks, by the start of their names
    "AVX2": ("avx512", "avx_vnni", "amx"),
    "AVX2_VNNI": ("avx512", "amx"),
    "AVX512_CORE": ("avx512_vnni", "avx_vnni", "avx512_bf16", "amx"),
    "AVX512_CORE_VNNI": ("avx512_bf16", "amx"),
    "AVX512_CORE_BF16": ("amx",),
}


def main() -> None:
    """Hide later instructions, then run the program in this process."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("processor", choices=LATER)
    parser.add_argument("program", type=Path)
    parser.add_argument("arguments", nargs=argparse.REMAINDER)
    arguments = parser.parse_args()
    if not arguments.program.is_file():
        parser.error(f"{arguments.program} is not a file; give the path of a Python program")
    vectors = arguments.processor.split("_")[0]
    os.environ["ONEDNN_MAX_CPU_ISA"] = arguments.processor
    os.environ["MKL_ENABLE_INSTRUCTIONS"] = vectors
    os.environ["ATEN_CPU_CAPABILITY"] = vectors.lower()
    import torch  # reads the variables when it is imported

    here = torch.cpu.get_capabilities()
    later = LATER[arguments.processor]
    there = {name: has for name, has in here.items() if not name.startswith(later)}
    sys.argv = [str(arguments.program), *arguments.arguments]
    sys.path[0] = str(arguments.program.resolve().parent)
    with mock.patch("torch.cpu.get_capabilities", return_value=there):
        runpy.run_path(sys.argv[0], run_name="__main__")


if __name__ == "__main__":
    main()
