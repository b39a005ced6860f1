"""Photos as tensors, held against the same done step by step."""

import struct
import sys
import zlib
from io import BytesIO

import numpy as np
import pytest
from PIL import Image

from headrace.errors import InvalidItem, LoadFailed
from headrace.transforms.image import Photos
from headrace.transforms.kinds import Picture

EXIF_ORIENTATION = 0x0112


def gradient(height, width):
    """An image whose every part looks different, and smooth, so that JPEG keeps it."""
    rows, columns = np.mgrid[:height, :width]
    return np.stack(
        [rows * 255 // height, columns * 255 // width, (rows + columns) * 255 // (height + width)], 2
    ).astype("u1")


def encoded(pixels, kind="PNG", **options):
    image = pixels if isinstance(pixels, Image.Image) else Image.fromarray(pixels)
    file = BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def tensor(content, **picture):
    return Photos("photo", Picture(**picture)).tensor(content)


PHOTO = gradient(70, 100)


# --- from pixels to numbers -------------------------------------------------------------------------------------------


def test_pixels_stay_as_they_are_if_nothing_else_is_said():
    assert np.array_equal(tensor(encoded(PHOTO)), PHOTO.transpose(2, 0, 1))
    assert tensor(encoded(PHOTO)).dtype == np.uint8


def test_the_usual_preparation_of_training_pipelines():
    mean, std = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
    given = tensor(encoded(PHOTO), size=(32, 32), resize_to=(40, 40), scale=1 / 255, mean=mean, std=std)
    small = Image.fromarray(PHOTO).resize((57, 40), Image.Resampling.BILINEAR).crop((12, 4, 44, 36))
    expected = (np.asarray(small).astype("f4") / 255 - np.array(mean)) / np.array(std)
    assert (given.dtype, given.shape) == (np.float32, (3, 32, 32))
    assert np.allclose(given, expected.transpose(2, 0, 1), atol=1e-5)


@pytest.mark.parametrize("resample", ["nearest", "bilinear", "bicubic", "lanczos"])
def test_pixels_between_pixels_are_found_as_declared(resample):
    small = Image.fromarray(PHOTO).resize((20, 30), getattr(Image.Resampling, resample.upper()))
    given = tensor(encoded(PHOTO), size=(30, 20), resize="stretch", resample=resample, layout="NHWC")
    assert np.array_equal(given, np.asarray(small))


def test_blue_may_come_first_and_channels_last():
    given = tensor(encoded(PHOTO), mode="BGR", layout="NHWC", mean=(104, 117, 123))
    assert np.array_equal(given, PHOTO[:, :, ::-1] - np.array([104, 117, 123], "f4"))


def test_one_number_does_for_all_channels():
    given = tensor(encoded(PHOTO), mean=127.0, std=128.0, layout="NHWC")
    assert np.allclose(given, (PHOTO.astype("f4") - 127) / 128, atol=1e-6)


def test_grey_has_one_channel():
    assert tensor(encoded(PHOTO), mode="L").shape == (1, 70, 100)
    assert tensor(encoded(PHOTO), mode="L", layout="NHWC").shape == (70, 100, 1)


def test_pixels_as_they_are_may_be_asked_for_as_floats():
    assert tensor(encoded(PHOTO), datatype="FP32").dtype == np.float32


@pytest.mark.parametrize(
    ("resize", "black"), [("shortest", 0), ("stretch", 0), ("fit", 6 * 20)], ids=["cover", "stretch", "fit"]
)
def test_every_way_of_resizing_gives_the_size(resize, black):
    given = tensor(encoded(np.full((70, 100, 3), 200, "u1")), size=(20, 20), resize=resize)
    assert given.shape == (3, 20, 20)
    assert (given[0] == 0).sum() == black


def test_without_resizing_the_middle_stays():
    given = tensor(encoded(PHOTO), size=(10, 20), resize="none", layout="NHWC")
    assert np.array_equal(given, PHOTO[30:40, 40:60])


# --- images as they come ----------------------------------------------------------------------------------------------


def test_a_photo_is_turned_upright():
    exif = Image.Exif()
    exif[EXIF_ORIENTATION] = 6
    given = tensor(encoded(PHOTO, exif=exif.tobytes()), layout="NHWC")
    assert np.array_equal(given, np.rot90(PHOTO, -1))


def test_a_broken_description_of_an_image_costs_nothing():
    assert tensor(encoded(PHOTO, exif=b"Exif\0\0II*\0\xff\xff\xff\xff")).shape == (3, 70, 100)


def test_a_large_jpeg_is_decoded_whole_unless_the_skill_says_otherwise():
    content = encoded(gradient(1400, 2000), "JPEG", quality=95)
    assert Photos("photo", Picture(size=(80, 80))).decoded(content).size == (2000, 1400)


def test_a_large_jpeg_decoded_smaller_looks_the_same():
    large = gradient(1400, 2000)
    content = encoded(large, "JPEG", quality=95)
    photos = Photos("photo", Picture(size=(80, 80), layout="NHWC", reduced=True))
    assert photos.decoded(content).size == (250, 175), "an eighth, which is more than twice what is wanted"
    whole = Image.fromarray(large).resize((114, 80), Image.Resampling.BILINEAR).crop((17, 0, 97, 80))
    assert np.abs(photos.tensor(content).astype(int) - np.asarray(whole)).mean() < 2


@pytest.mark.parametrize("kind", ["PNG", "WEBP", "GIF", "BMP", "TIFF"])
def test_the_usual_formats_are_read(kind):
    assert tensor(encoded(np.full((8, 8, 3), 200, "u1"), kind))[0, 0, 0] in range(195, 205)


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P", "PA", "L", "1", "CMYK"])
def test_every_mode_becomes_the_declared_one(mode):
    image = Image.new("RGB", (4, 4), (255, 255, 255)).convert("L" if mode == "LA" else "RGB")
    image = image.convert("P").convert("PA") if mode == "PA" else image.convert(mode)
    kind = {"CMYK": "JPEG", "PA": "TIFF"}.get(mode, "PNG")
    assert (
        tensor(encoded(image, kind) if mode != "PA" else encoded(image.convert("RGBA"))).tolist()
        == [[[255] * 4] * 4] * 3
    )


def test_a_palette_with_transparency_is_read_without_a_warning():
    image = Image.new("P", (4, 4), 1)
    image.putpalette([0, 0, 0, 10, 20, 30])
    given = tensor(encoded(image, transparency=b"\0\xff"))
    assert given[:, 0, 0].tolist() == [10, 20, 30]


def test_16_bits_are_scaled_and_not_cut_off():
    pixels = np.array([[0, 257, 32896, 65535]], "u2")
    assert tensor(encoded(Image.fromarray(pixels)), mode="L").ravel().tolist() == [0, 1, 128, 255]


def test_of_a_film_the_first_picture_is_taken():
    frames = [Image.new("RGB", (4, 4), (shade,) * 3) for shade in (10, 200)]
    content = encoded(frames[0], "GIF", save_all=True, append_images=frames[1:])
    assert tensor(content)[0, 0, 0] == 10


# --- what is refused --------------------------------------------------------------------------------------------------


def bomb(width, height):
    """A PNG that says it is so large, and is not."""

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(b""))
        + chunk(b"IEND", b"")
    )


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "is empty"),
        (b"hello, world", "is no image that can be read"),
        (b"%PDF-1.4 ...", "send JPEG, PNG, WEBP, GIF, BMP or TIFF"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "is no image that can be read"),
        (bomb(60_000, 60_000), "pixels"),
        (bomb(8_000, 8_000), "has 8000 x 8000 pixels, and 50000000 are the limit"),
        (bomb(10, 10), "may be cut off or damaged"),
        (encoded(gradient(200, 200), "JPEG")[:1500], "may be cut off or damaged"),
        (encoded(PHOTO)[:-40], "may be cut off or damaged"),
        (encoded(PHOTO)[:20], "is no image that can be read"),
    ],
    ids=[
        "empty",
        "text",
        "pdf",
        "eps",
        "huge",
        "large",
        "nothing inside",
        "cut jpeg",
        "cut png",
        "cut header",
    ],
)
def test_what_is_no_whole_image_of_a_decent_size_is_refused(content, reason):
    with pytest.raises(InvalidItem, match=reason):
        tensor(content)


def test_floating_point_pixels_are_refused():
    with pytest.raises(InvalidItem, match="floating-point"):
        tensor(encoded(Image.new("F", (4, 4)), "TIFF"))


@pytest.mark.parametrize(
    ("picture", "reason"),
    [
        ({"mean": (1, 2)}, "has 2 numbers for `mean`: RGB needs 3, or one for all"),
        ({"mode": "L", "std": (1, 2, 3)}, "L needs 1"),
        ({"std": 0.0}, "a 0 in `std`"),
        ({"resize": "stretch"}, "write `size:"),
        ({"datatype": "UINT8", "scale": 2.0}, "leave scale, mean and std out"),
    ],
    ids=["mean", "std", "zero", "size", "datatype"],
)
def test_a_declaration_that_contradicts_itself_is_refused(picture, reason):
    with pytest.raises(LoadFailed, match=reason):
        Photos("photo", Picture(**picture))


def test_a_missing_package_is_named_with_what_installs_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "PIL", None)
    with pytest.raises(LoadFailed, match=r"pip install 'headrace\[image\]'"):
        Photos("photo", Picture())
