"""Picture files as people have them: opened upright, 8 bits a channel, whatever their format; cut to a size.

A data set made of files and a prediction on a new file go through the same functions, so both see the same pixels.
"""

import warnings
from pathlib import Path
from typing import Literal, get_args

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from odyssey_core.errors import DataError

MOST_PIXELS = 110_000_000  # of a file: 12,000 by 9,000
Mode = Literal["resize", "center_crop", "pad"]
MODES = get_args(Mode)
FOREIGN = {  # what is no image for Pillow, by its first bytes, and what to do
    b"ftypheic": "is HEIC, as iPhones write it; save it as JPEG or PNG",
    b"ftypmif1": "is HEIF; save it as JPEG or PNG",
    b"%PDF": "is a PDF; save its page as PNG",
    b"<svg": "is an SVG drawing; save it as PNG",
}


def opened(path: Path, working: int | None = None) -> tuple[Image.Image, float]:
    """A picture of mode L, LA, RGB or RGBA, turned as its EXIF says; and how many pixels of the file are one of it.

    Args:
        path: of the file.
        working: pixels that the longer side has at most; None leaves the picture as large as it is.

    Raises:
        DataError: no image, one that is damaged, or one that is too large to be opened safely.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Pillow's on large images: the check below refuses them
            with Image.open(path) as image:
                if image.width * image.height > MOST_PIXELS:
                    raise Image.DecompressionBombError
                whole = max(image.size)
                if working:
                    image.draft("RGB", (2 * working, 2 * working))
                image = _plain(ImageOps.exif_transpose(_of_eight_bits(image)))
                if working:
                    image.thumbnail((working, working))
                return image, whole / max(image.size)
    except Image.DecompressionBombError:
        raise DataError(f"{path}: is larger than {MOST_PIXELS // 1_000_000} million pixels; make it smaller") from None
    except UnidentifiedImageError:
        raise DataError(f"{path}: {_foreign(path)}") from None
    except Exception as error:  # a damaged file makes Pillow's readers raise almost anything
        raise DataError(f"{path}: cannot be read: {error}") from None


def read(path: Path, channels: int, size: tuple[int, int] | None = None, mode: Mode = "center_crop") -> np.ndarray:
    """A picture as an image of a data set: (C, H, W) uint8.

    Args:
        path: of the file.
        channels: 1, grey, or 3, red, green and blue; what is transparent lies on white.
        size: (H, W); None leaves the picture as large as it is.
        mode: what is done with a picture of another size, see `fitted`.

    Raises:
        DataError: as `opened` does.
    """
    image = on_white(opened(path)[0], channels)
    pixels = np.asarray(image if size is None else fitted(image, size, mode))
    return np.ascontiguousarray(pixels[None] if channels == 1 else np.moveaxis(pixels, 2, 0))


def on_white(image: Image.Image, channels: int) -> Image.Image:
    """A picture without transparency: mode L for one channel, RGB for three."""
    if "A" in image.mode:
        white = Image.new("RGBA", image.size, "white")
        image = Image.alpha_composite(white, image.convert("RGBA"))
    return image.convert("L" if channels == 1 else "RGB")


def fitted(image: Image.Image, size: tuple[int, int], mode: Mode) -> Image.Image:
    """A picture cut to a size, with the bilinear filter that averages over what it makes smaller.

    Args:
        image: of mode L or RGB; one of the size is left as it is.
        size: (H, W).
        mode: ``resize`` scales both sides, which changes the proportions; ``center_crop`` scales until the picture
            covers the size, and cuts off what lies beyond it on two sides; ``pad`` scales until the picture lies
            within the size, and fills the rest with black.

    Source: the transforms of torchvision by these names: ``Resize((h, w))``, ``Resize`` of the shorter side with
    ``CenterCrop``, and ``Resize`` with ``max_size`` and ``Pad``.
    """
    (h, w), method = size, Image.Resampling.BILINEAR
    if image.size == (w, h):
        return image
    if mode == "resize":
        return image.resize((w, h), method)
    if mode == "center_crop":
        return ImageOps.fit(image, (w, h), method)
    scale = min(w / image.width, h / image.height)
    inside = image.resize([max(1, round(scale * n)) for n in image.size], method)
    frame = Image.new(image.mode, (w, h))
    frame.paste(inside, ((w - inside.width) // 2, (h - inside.height) // 2))
    return frame


def _of_eight_bits(image: Image.Image) -> Image.Image:
    """Whole numbers of 16 or 32 bits and floating-point ones, which Pillow would cut off at 255."""
    if image.mode not in ("I", "F") and not image.mode.startswith("I;16"):
        return image
    values = np.nan_to_num(np.asarray(image, np.float32), posinf=0, neginf=0)
    values -= min(float(values.min()), 0.0)
    full = next((top for top in (1.0, 255.0, 65535.0) if values.max() <= top), float(values.max()))
    eight = Image.fromarray(np.uint8(np.rint(values * (255 / (255.0 if image.mode != "F" and full == 1 else full)))))
    eight.info, exif = image.info, image.getexif()
    eight.getexif().update(exif)
    return eight


def _plain(image: Image.Image) -> Image.Image:
    """A palette, CMYK, black and white and their like as grey or colour, with transparency where there is any."""
    if image.has_transparency_data:
        return image if image.mode == "LA" else image.convert("RGBA")
    return image.convert("L" if image.mode in ("1", "L") else "RGB")


def _foreign(path: Path) -> str:
    with open(path, "rb") as file:
        head = file.read(256)
    if not head:
        return "is empty"
    return next(
        (what for mark, what in FOREIGN.items() if mark in head), "is not an image that can be read (PNG, JPEG, ...)"
    )
