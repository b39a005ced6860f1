"""Photos as tensors: decoded, turned upright, resized, cropped, normalised, as the usual training pipelines do it.

What comes from strangers is refused before it costs anything: by its format, then by the size in its header. Pillow is
imported by the worker that needs it, never by the gateway.
"""

from collections.abc import Callable
from contextlib import AbstractContextManager, suppress
from io import BytesIO
from typing import Any

import numpy as np

from headrace.errors import InvalidItem, LoadFailed
from headrace.transforms.kinds import Numbers, Picture, Size

FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF")
"""What is taken. Others are never sent on purpose, and some of their readers start programs."""
DRAFT = 2
"""A JPEG is decoded at half, a quarter or an eighth of its size if so many times the size that is wanted is left."""
MOST_OF_16_BITS = 257
"""65535 / 255: what makes 8 bits of 16."""

Resize = Callable[[Any], Any]


class Photos:
    """Turns image files into rows of a tensor. Thread-safe."""

    def __init__(self, name: str, picture: Picture) -> None:
        """Say how.

        Raises:
            LoadFailed: the declaration contradicts itself, or Pillow is not installed.
        """
        self._name = name
        self._picture = picture
        self._pillow = open_pillow()
        check(name, picture)
        limits = self._pillow.Image
        limits.MAX_IMAGE_PIXELS = max(limits.MAX_IMAGE_PIXELS or 0, picture.max_pixels)
        self.is_float = picture.datatype != "UINT8" and (picture.datatype == "FP32" or is_scaled(picture))
        self._factor, self._offset = line(picture)

    def tensor(self, content: bytes) -> np.ndarray:
        """One image as [channels, height, width], or in the other layout.

        Raises:
            InvalidItem: it is no image, a broken one, or too large.
        """
        pixels = np.asarray(self._placed(self.decoded(content)))
        if pixels.ndim == 2:  # noqa: PLR2004 - grey has no axis of channels
            pixels = pixels[:, :, None]
        if self._picture.mode == "BGR":
            pixels = pixels[:, :, ::-1]
        if self._picture.layout == "NCHW":
            pixels = pixels.transpose(2, 0, 1)
        if not self.is_float:
            return np.ascontiguousarray(pixels)
        numbers = np.empty(pixels.shape, np.float32)
        numbers[...] = pixels
        numbers *= self._factor
        numbers += self._offset
        return numbers

    def decoded(self, content: bytes) -> Any:
        """The upright image in the declared mode, at its own size or a smaller one that is large enough.

        Raises:
            InvalidItem: as `tensor`.
        """
        if not content:
            raise InvalidItem(f"'{self._name}' is empty: send an image file")
        image = self._opened(content)
        width, height = image.size
        if width * height > self._picture.max_pixels:
            raise InvalidItem(
                f"'{self._name}' has {width} x {height} pixels, and {self._picture.max_pixels} are the limit: send it smaller"
            )
        if self._picture.reduced and image.format == "JPEG" and (least := self._least(image)):
            image.draft(None, least)
        with reading(self._name):
            image.load()
            with suppress(Exception):  # a broken description of an image that is whole itself
                self._pillow.ImageOps.exif_transpose(image, in_place=True)
            return self._in_mode(image)

    def _opened(self, content: bytes) -> Any:
        image_module = self._pillow.Image
        try:
            return image_module.open(BytesIO(content), formats=FORMATS)
        except (image_module.DecompressionBombError, image_module.DecompressionBombWarning) as exc:
            raise InvalidItem(
                f"'{self._name}' has more pixels than {self._picture.max_pixels}: {exc}"
            ) from exc
        except Exception as exc:  # readers raise whatever a broken header makes of them
            raise InvalidItem(
                f"'{self._name}' is no image that can be read ({len(content)} bytes that begin with {content[:8]!r}): "
                f"send {', '.join(FORMATS[:-1])} or {FORMATS[-1]}"
            ) from exc

    def _least(self, image: Any) -> tuple[int, int] | None:
        """Width and height that must be left for resizing to be as good as from the whole image."""
        picture = self._picture
        size = picture.resize_to or picture.size
        if size is None or picture.resize == "none":
            return None
        # The image may lie on its side until it is turned, so what holds for either side has to do.
        side = max(image.size) if picture.resize == "fit" else min(image.size)
        scale = side // (DRAFT * max(size))
        return (image.size[0] // scale, image.size[1] // scale) if scale > 1 else None

    def _in_mode(self, image: Any) -> Any:
        mode = "L" if self._picture.mode == "L" else "RGB"
        if image.mode.startswith("I"):
            image = self._pillow.Image.fromarray(eight_bits(np.asarray(image)))
        elif image.mode == "F":
            raise InvalidItem(f"'{self._name}' has floating-point pixels: send 8 or 16 bits a channel")
        elif image.mode == "P" and "transparency" in image.info:
            image = image.convert("RGBA")
        return image if image.mode == mode else image.convert(mode)

    def _placed(self, image: Any) -> Any:
        """Resized and cropped."""
        picture = self._picture
        size = picture.size
        if size is None:
            return image
        target = picture.resize_to or size
        height, width = image.height, image.width
        if picture.resize != "none":
            height, width = RESIZED[picture.resize](height, width, target)
        cropped = size
        if picture.crop == "none" and picture.resize != "fit":
            cropped = height, width
        return self._resized(image, (height, width), cropped)

    def _resized(self, image: Any, whole: Size, size: Size) -> Any:
        """The middle of the image when it is resized to `whole`; black where `size` is larger than that.

        What is not kept is not computed: the part of the image that becomes the middle is resized alone.
        """
        top, left = round((whole[0] - size[0]) / 2), round((whole[1] - size[1]) / 2)
        box = (left, top, left + size[1], top + size[0])
        if whole == (image.height, image.width):
            return image if whole == size else image.crop(box)
        resample = getattr(self._pillow.Image.Resampling, self._picture.resample.upper())
        if top < 0 or left < 0:
            return image.resize((whole[1], whole[0]), resample).crop(box)
        across, down = image.width / whole[1], image.height / whole[0]
        part = (
            box[0] * across,
            box[1] * down,
            min(box[2] * across, image.width),
            min(box[3] * down, image.height),
        )
        return image.resize((size[1], size[0]), resample, part)


class Pillow:
    """The parts of Pillow that are used here."""

    def __init__(self) -> None:
        from PIL import Image, ImageOps  # noqa: PLC0415 - only whoever has images needs it

        self.Image: Any = Image
        self.ImageOps: Any = ImageOps


def open_pillow() -> Pillow:
    """Pillow, if it is installed.

    Raises:
        LoadFailed: it is not.
    """
    try:
        return Pillow()
    except ModuleNotFoundError as exc:
        raise LoadFailed("images need Pillow; install it with: pip install 'headrace[image]'") from exc


class reading(AbstractContextManager[None]):  # noqa: N801 - reads as a verb
    """Translates whatever decoding raises."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __exit__(self, kind: object, exc: BaseException | None, trace: object) -> None:
        if isinstance(exc, Exception) and not isinstance(exc, InvalidItem):
            raise InvalidItem(
                f"'{self._name}' cannot be decoded, it may be cut off or damaged: {exc}"
            ) from exc


def check(name: str, picture: Picture) -> None:
    """Hold a declaration against itself.

    Raises:
        LoadFailed: with what to write instead.
    """
    channels = 1 if picture.mode == "L" else 3
    for key, given in (("mean", picture.mean), ("std", picture.std)):
        values = numbers(given, 1.0)
        if len(values) not in {1, channels}:
            raise LoadFailed(
                f"input '{name}' has {len(values)} numbers for `{key}`: {picture.mode} needs {channels}, or one for all"
            )
    if not all(numbers(picture.std, 1.0)):
        raise LoadFailed(f"input '{name}' has a 0 in `std`, and nothing can be divided by that")
    if picture.size is None and picture.resize not in {"none", "shortest"}:
        raise LoadFailed(f"input '{name}' is to be resized: write `size: [height, width]`")
    if picture.datatype == "UINT8" and is_scaled(picture):
        raise LoadFailed(
            f"input '{name}' is UINT8, so its pixels stay as they are: leave scale, mean and std out"
        )


def is_scaled(picture: Picture) -> bool:
    return not (picture.scale is None and picture.mean is None and picture.std is None)


def line(picture: Picture) -> tuple[np.ndarray, np.ndarray]:
    """Scaling, mean and deviation as one factor and one offset a channel, in the layout's place for channels."""
    scale = 1.0 if picture.scale is None else picture.scale
    mean, std = np.array(numbers(picture.mean, 0.0)), np.array(numbers(picture.std, 1.0))
    shape = (-1, 1, 1) if picture.layout == "NCHW" else (-1,)
    return (scale / std).astype(np.float32).reshape(shape), (-mean / std).astype(np.float32).reshape(shape)


def numbers(given: Numbers | None, default: float) -> tuple[float, ...]:
    """One a channel, or one for all."""
    if given is None:
        return (default,)
    return given if isinstance(given, tuple) else (given,)


def eight_bits(pixels: np.ndarray) -> np.ndarray:
    """16 bits a pixel as 8, which converting would cut off at white."""
    shares: np.ndarray = np.rint(np.clip(pixels, 0, 65535) / MOST_OF_16_BITS)
    return shares.astype(np.uint8)


def covering(height: int, width: int, size: Size) -> Size:
    """The smallest size of the same proportions that covers `size`; fractions are cut off."""
    if width * size[0] >= height * size[1]:
        return size[0], max(size[1], size[0] * width // height)
    return max(size[0], size[1] * height // width), size[1]


def within(height: int, width: int, size: Size) -> Size:
    """The largest size of the same proportions that fits into `size`."""
    if width * size[0] >= height * size[1]:
        return max(1, round(size[1] * height / width)), size[1]
    return size[0], max(1, round(size[0] * width / height))


def exactly(height: int, width: int, size: Size) -> Size:  # noqa: ARG001 - the form of the others
    return size


RESIZED: dict[str, Callable[[int, int, Size], Size]] = {
    "shortest": covering,
    "stretch": exactly,
    "fit": within,
}
"""How to resize → height and width of the image, and the size to reach → what it is resized to."""
