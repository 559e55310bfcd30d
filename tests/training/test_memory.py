"""Freed memory stays with the process."""

import subprocess
import sys

import pytest

CODE = """
import resource
import torch
from vc_lightning.training.memory import keep_freed_memory

def page_faults(n):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    torch.ones(n)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

returned = page_faults(2**24)  # 64 MB
keep_freed_memory()
page_faults(2**24)
print(page_faults(2**24 - 2**10) < returned / 10)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="only glibc can be told to")
def test_large_tensors_take_the_memory_of_those_before():
    printed = subprocess.run([sys.executable, "-c", CODE], capture_output=True, check=True)
    assert printed.stdout.strip() == b"True", printed.stderr
