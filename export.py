"""Write the converter's network as an ONNX file: python export.py output=converter.onnx"""

from vc_lightning.commands.export import run

if __name__ == "__main__":
    run()
