"""Convert a recording to the voice of another: python convert.py source=a.wav target=b.wav"""

from vc_lightning.commands.convert import run

if __name__ == "__main__":
    run()
