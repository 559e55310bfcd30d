"""Says what one recording says in another's voice: python convert.py source=a.wav target=b.wav"""

from vc_lightning.commands.convert import run

if __name__ == "__main__":
    run()
