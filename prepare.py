"""Prepare recordings for training: python prepare.py check data.dir=FOLDER"""

from vc_lightning.commands.prepare import run

if __name__ == "__main__":
    run()
