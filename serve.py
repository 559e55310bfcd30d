"""Serve conversions to other programs over HTTP: python serve.py"""

from vc_lightning.commands.serve import run

if __name__ == "__main__":
    run()
