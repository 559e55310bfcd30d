"""Convert live speech: python live.py target=b.wav"""

from vc_lightning.commands.live import run

if __name__ == "__main__":
    run()
