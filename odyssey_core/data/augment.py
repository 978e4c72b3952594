"""Random distortion of training images."""

import math
from dataclasses import dataclass
from typing import Annotated, Literal

from odyssey_core.ranges import Range, check_ranges


@dataclass(frozen=True)
class Augment:
    """How far each training image may be distorted, drawn anew in every epoch as a function of (seed, epoch, image).

    Each amount is uniform in plus or minus its field. An image is turned, scaled and sheared about its centre and
    sampled bilinearly; what comes from outside is 0, black, or what ``border`` says.

    Args:
        rotation: degrees.
        scale: fraction of the size.
        shear: horizontal shift per row, in pixels.
        shift: pixels, in each direction.
        flip: whether half of the images are mirrored, left for right, drawn in every epoch; ``alternating``: drawn for
            the first epoch, the others in the second, and so on, so that each is seen as often either way.
        crop: whole pixels by which an image is shifted, in each direction: as if it were given a border of so many
            black pixels, and a part of the image's size cut from it.
        border: what lies outside an image: ``black``, or ``reflect``, the image mirrored at its outermost pixels.
        cutout: side of a square somewhere in the image that is set to 0 after normalisation, to the mean; what of the
            square lies outside the image is lost.
        brightness: fraction; the pixels are multiplied by 1 plus or minus this, and stay within black and white.
        contrast: fraction; before that, so are the pixels' differences from their channel's mean in the image.

    Raises:
        ConfigError: an amount outside its range.

    Source: crop and flip He, Zhang, Ren, Sun 2016, section 4.2; alternating flip and reflection Jordan, "94% on
    CIFAR-10 in 3.29 Seconds on a Single GPU", 2024 (arXiv 2404.00498); cutout DeVries and Taylor 2017; brightness as in
    torchvision's ``ColorJitter``, contrast as in Keras's ``RandomContrast``.
    """

    rotation: Annotated[float, Range(0, 45)] = 0.0
    scale: Annotated[float, Range(0, 0.99)] = 0.0
    shear: Annotated[float, Range(0, 10)] = 0.0
    shift: Annotated[float, Range(0, 1000)] = 0.0
    flip: bool | Literal["alternating"] = False
    crop: Annotated[int, Range(0, 1000)] = 0
    border: Literal["black", "reflect"] = "black"
    cutout: Annotated[int, Range(0, 1000)] = 0
    brightness: Annotated[float, Range(0, 1)] = 0.0
    contrast: Annotated[float, Range(0, 1)] = 0.0

    def __post_init__(self) -> None:
        check_ranges(Augment, vars(self), "data.augment")

    def amounts(self) -> dict[str, float]:
        """As `ops.images` takes them: rotation in radians."""
        return {
            "rotation": math.pi / 180 * self.rotation,
            "scaling": self.scale,
            "shear": self.shear,
            "shift_by": self.shift,
            "brightness": self.brightness,
            "contrast": self.contrast,
            "flip": int(self.flip is True),
            "alternate": int(self.flip == "alternating"),
            "crop": self.crop,
            "reflect": int(self.border == "reflect"),
            "cutout": self.cutout,
        }
