"""Picture files as people have them: opened upright, 8 bits a channel, whatever their format; cut to a size.

A data set made of files and a prediction on a new file go through the same functions, so both see the same pixels.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal, get_args

from PIL import Image, ImageOps, UnidentifiedImageError

from odyssey_core import lazy_numpy as np
from odyssey_core.data.preparation import Looked, Seen
from odyssey_core.errors import DataError

MOST_PIXELS = 110_000_000  # of a file: 12,000 by 9,000
SHOWN = 1000  # pixels of the longer side of a picture that is drawn
Mode = Literal["resize", "center_crop", "pad"]
MODES = get_args(Mode)
FOREIGN = {  # what is no image for Pillow, by its first bytes, and what to do
    b"ftypheic": "is HEIC, as iPhones write it; save it as JPEG or PNG",
    b"ftypmif1": "is HEIF; save it as JPEG or PNG",
    b"%PDF": "is a PDF; save its page as PNG",
    b"<svg": "is an SVG drawing; save it as PNG",
}


def opened(path: Path | str, working: int | None = None) -> tuple[Image.Image, float]:
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
            with Image.open(path) as file:
                if file.width * file.height > MOST_PIXELS:
                    raise Image.DecompressionBombError
                whole = max(file.size)
                if working:
                    file.draft("RGB", (2 * working, 2 * working))
                image = _of_eight_bits(file)
                ImageOps.exif_transpose(image, in_place=True)  # else what needs no turning is copied
                image = _plain(image)
                if working:
                    image.thumbnail((working, working))
                return image, whole / max(image.size)
    except Image.DecompressionBombError:
        raise DataError(f"{path}: is larger than {MOST_PIXELS // 1_000_000} million pixels; make it smaller") from None
    except UnidentifiedImageError:
        raise DataError(f"{path}: {_foreign(path)}") from None
    except Exception as error:  # a damaged file makes Pillow's readers raise almost anything
        raise DataError(f"{path}: cannot be read: {error}") from None


def read(
    path: Path | str, channels: int, size: tuple[int, int] | None = None, mode: Mode = "center_crop"
) -> np.ndarray:
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
    return _pixels(image if size is None else fitted(image, size, mode))


def on_white(image: Image.Image, channels: int) -> Image.Image:
    """A picture without transparency: mode L for one channel, RGB for three."""
    if "A" in image.mode:
        white = Image.new("RGBA", image.size, "white")
        image = Image.alpha_composite(white, image.convert("RGBA"))
    mode = "L" if channels == 1 else "RGB"
    return image if image.mode == mode else image.convert(mode)


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
        return image.resize((w, h), method, box=_middle(image.size, size))
    scale = min(w / image.width, h / image.height)
    inside = image.resize([max(1, round(scale * n)) for n in image.size], method)
    frame = Image.new(image.mode, (w, h))
    frame.paste(inside, ((w - inside.width) // 2, (h - inside.height) // 2))
    return frame


def _middle(picture: tuple[int, int], size: tuple[int, int]) -> tuple[float, float, float, float]:
    """(left, top, right, bottom) of the largest part, in the middle of a picture (w, h), that is as (H, W)."""
    h, w = size
    scale = min(picture[0] / w, picture[1] / h)
    left, top = (picture[0] - scale * w) / 2, (picture[1] - scale * h) / 2
    return left, top, picture[0] - left, picture[1] - top


@dataclass(frozen=True)
class Resize:
    """The preparation of photographs: a picture is one image, cut to the size of the data set's.

    Args:
        mode: see `fitted`.
        polarity: ``"light on dark"`` where the data set's images are so: a picture with light edges is inverted. None
            leaves pictures as they are.
    """

    mode: Mode = "center_crop"
    polarity: Literal["light on dark"] | None = None
    part: ClassVar[None] = None

    def __post_init__(self) -> None:
        if self.mode not in MODES or self.polarity not in ("light on dark", None):
            raise DataError(f"preparation: expected mode {', '.join(MODES)} and polarity light on dark, got {self}")

    def look(self, path: Path, shape: tuple[int, int, int]) -> Looked:
        """See `Reader.look`."""
        channels, height, width = shape
        size = (height, width)
        if channels not in (1, 3):
            raise DataError(f"{path}: a picture has 1 or 3 channels; the model takes {channels}")
        picture = opened(path)[0]
        pixels = _pixels(fitted(self._turned(on_white(picture, channels)), size, self.mode))
        shown = on_white(picture, 3).copy()
        shown.thumbnail((SHOWN, SHOWN))
        part = _middle(shown.size, size) if self.mode == "center_crop" else (0, 0, *shown.size)
        left, top, right, bottom = (round(edge) for edge in part)
        box = (left, top, right, bottom)
        return Looked(np.asarray(shown), max(picture.size) / max(shown.size), [Seen(pixels, box)], [])

    def variants(self, image: np.ndarray) -> np.ndarray:
        """The image alone: what else shows the same, mirrored or shifted, depends on the data."""
        return image[None]

    def _turned(self, image: Image.Image) -> Image.Image:
        grey = np.asarray(image.convert("L"))
        edges = np.concatenate([grey[0], grey[-1], grey[:, 0], grey[:, -1]])
        return ImageOps.invert(image) if self.polarity and np.median(edges) > 127 else image


def _pixels(image: Image.Image) -> np.ndarray:
    """(C, H, W) uint8 of a picture of mode L or RGB."""
    pixels = np.asarray(image)
    return np.ascontiguousarray(pixels.transpose(2, 0, 1) if pixels.ndim == 3 else pixels[None])


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
    if image.mode in ("L", "RGB"):
        image.load()
        return image
    return image.convert("L" if image.mode == "1" else "RGB")


def _foreign(path: Path | str) -> str:
    with open(path, "rb") as file:
        head = file.read(256)
    if not head:
        return "is empty"
    return next(
        (what for mark, what in FOREIGN.items() if mark in head), "is not an image that can be read (PNG, JPEG, ...)"
    )
