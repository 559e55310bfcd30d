"""Learn, show and share voices: python voices.py learn Anna target=FOLDER"""

from vc_lightning.commands.voices import run

if __name__ == "__main__":
    run()
