"""Picture files: every format becomes the same pixels, upright and on white, cut to the size that is asked for."""

import struct
import zlib
from io import BytesIO

import numpy as np
import pytest
from PIL import Image

from odyssey_core.data.pictures import MODES, fitted, opened, read
from odyssey_core.errors import DataError

RED, BLUE = (200, 30, 30), (20, 40, 160)


def picture(size=(30, 20)):
    """Red on the left, blue on the right."""
    image = Image.new("RGB", size, RED)
    image.paste(BLUE, (size[0] // 2, 0, size[0], size[1]))
    return image


def turned():
    exif = Image.Exif()
    exif[0x0112] = 6  # a quarter clockwise puts it right
    return exif


FILES = {
    "png": ("x.png", lambda image: image, {}),
    "jpeg": ("x.jpg", lambda image: image, {"quality": 95, "subsampling": 0}),
    "webp": ("x.webp", lambda image: image, {"lossless": True}),
    "bmp": ("x.bmp", lambda image: image, {}),
    "tiff": ("x.tif", lambda image: image, {}),
    "gif": ("x.gif", lambda image: image, {}),
    "palette": ("x.png", lambda image: image.quantize(16), {}),
    "CMYK": ("x.jpg", lambda image: image.convert("CMYK"), {"quality": 95, "subsampling": 0}),
    "alpha": ("x.png", lambda image: image.convert("RGBA"), {}),
    "turned by EXIF": ("x.jpg", lambda i: i.transpose(Image.Transpose.ROTATE_90), {"exif": turned(), "quality": 95}),
}


@pytest.mark.parametrize("kind", FILES)
def test_every_format_gives_the_same_colours_upright(tmp_path, kind):
    name, make, options = FILES[kind]
    make(picture()).save(tmp_path / name, **options)
    pixels = read(tmp_path / name, channels=3)
    assert (pixels.shape, pixels.dtype, pixels.flags.c_contiguous) == ((3, 20, 30), np.uint8, True)
    np.testing.assert_allclose(pixels[:, 10, 4], RED, atol=6)
    np.testing.assert_allclose(pixels[:, 10, -4], BLUE, atol=6)


def test_one_channel_is_the_luminance_of_three_and_three_repeat_one(tmp_path):
    picture().save(tmp_path / "colour.png")
    (grey,) = read(tmp_path / "colour.png", channels=1)
    assert grey[0, 0] == round(0.299 * 200 + 0.587 * 30 + 0.114 * 30)  # ITU-R BT.601
    Image.fromarray(grey).save(tmp_path / "grey.png")
    assert (read(tmp_path / "grey.png", channels=3) == grey).all()


@pytest.mark.parametrize("values", [np.uint16([[0, 65535]]), np.float32([[0.0, 1.0]]), np.int32([[0, 65535]])])
def test_sixteen_bits_and_fractions_keep_their_range(tmp_path, values):
    Image.fromarray(values).save(tmp_path / "x.tif")
    assert read(tmp_path / "x.tif", channels=1).tolist() == [[[0, 255]]]


@pytest.mark.parametrize("colour", [(0, 0, 0, 0), (255, 0, 0, 0)])
def test_what_is_transparent_lies_on_white(tmp_path, colour):
    Image.new("RGBA", (2, 2), colour).save(tmp_path / "x.png")
    assert (read(tmp_path / "x.png", channels=3) == 255).all()
    Image.new("L", (2, 2), 7).save(tmp_path / "x.png", transparency=7)
    assert (read(tmp_path / "x.png", channels=1) == 255).all()


def test_a_picture_is_cut_to_a_size_in_the_way_that_is_asked_for():
    image = picture((40, 20))  # red | blue
    seen = {mode: np.asarray(fitted(image, (10, 10), mode)) for mode in MODES}
    assert all(pixels.shape == (10, 10, 3) for pixels in seen.values())
    for mode in ("resize", "center_crop"):
        assert (seen[mode][:, 0] == RED).all() and (seen[mode][:, -1] == BLUE).all()
    top, middle = seen["pad"][0], seen["pad"][5]
    assert (top == 0).all() and (middle[0] == RED).all() and (middle[-1] == BLUE).all()
    wide = Image.fromarray(np.uint8(np.arange(120)[None].repeat(30, 0)))  # 30 by 120: a crop keeps columns 45 to 74
    cropped = np.asarray(fitted(wide, (30, 30), "center_crop"))
    assert (cropped == np.arange(45, 75)).all()


@pytest.mark.parametrize("mode", MODES)
def test_a_picture_of_the_size_keeps_its_pixels_and_a_thin_one_gets_it(mode):
    image = picture((8, 6))
    assert fitted(image, (6, 8), mode) is image
    for size in ((1, 900), (900, 1), (1, 1)):
        assert fitted(Image.new("L", size, 9), (6, 8), mode).size == (8, 6)


def test_a_working_copy_says_how_many_pixels_of_the_file_are_one_of_it(tmp_path):
    picture((2000, 1000)).save(tmp_path / "x.jpg")
    image, scale = opened(tmp_path / "x.jpg", working=500)
    assert (image.size, scale) == ((500, 250), 4.0)


def png(size=(8, 8)):
    out = BytesIO()
    Image.effect_noise(size, 50).save(out, "PNG")
    return out.getvalue()


def huge():
    """A PNG whose head says that it has 100,000 by 100,000 pixels."""
    whole = png()
    head = b"IHDR" + struct.pack(">II", 100_000, 100_000) + whole[24:29]
    return whole[:12] + head + struct.pack(">I", zlib.crc32(head)) + whole[33:]


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"text", "x.png: is not an image that can be read"),
        (b"", "x.png: is empty"),
        (b"%PDF-1.7 ...", "x.png: is a PDF; save its page as PNG"),
        (huge(), "x.png: is larger than 110 million pixels; make it smaller"),
        (png((100, 100))[:2000], "x.png: cannot be read: "),
    ],
    ids=["text", "empty", "PDF", "huge", "cut short"],
)
def test_a_file_that_holds_no_usable_image_is_named_in_one_line(tmp_path, content, says):
    (tmp_path / "x.png").write_bytes(content)
    with pytest.raises(DataError, match=says) as caught:
        read(tmp_path / "x.png", channels=3, size=(8, 8))
    assert "\n" not in str(caught.value)
