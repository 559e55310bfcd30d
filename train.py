"""Train AutoVC, or a vocoder, on a folder of recordings: python train.py data.dir=FOLDER"""

from vc_lightning.commands.train import run

if __name__ == "__main__":
    run()
