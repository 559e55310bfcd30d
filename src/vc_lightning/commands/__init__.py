"""The commands: a file for each program, and what they share in `support`."""

import gc
import importlib

# Modules are never garbage. Python would search those of PyTorch for it several times while they
# are imported, and again and again later.
gc.disable()
importlib.import_module("vc_lightning.conversion.converter")
gc.freeze()
gc.enable()
