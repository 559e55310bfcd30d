"""Open the page for converting recordings in a browser: python app.py"""

from vc_lightning.commands.app import run

if __name__ == "__main__":
    run()
