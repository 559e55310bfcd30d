"""Score a converter on held-out recordings: python evaluate.py data.manifest=MANIFEST.tsv"""

from vc_lightning.commands.evaluate import run

if __name__ == "__main__":
    run()
