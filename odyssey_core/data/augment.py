"""Random affine distortion of training images."""

import math
from dataclasses import dataclass
from typing import Annotated

from odyssey_core.ranges import Range, check_ranges


@dataclass(frozen=True)
class Augment:
    """How far each training image may be turned, scaled, sheared and shifted, drawn anew in every epoch.

    Each amount is uniform in plus or minus its field, a function of (seed, epoch, image). Sampled bilinearly about the
    centre of the image; what comes from outside is 0.

    Args:
        rotation: degrees.
        scale: fraction of the size.
        shear: horizontal shift per row, in pixels.
        shift: pixels, in each direction.

    Raises:
        ConfigError: an amount outside its range.
    """

    rotation: Annotated[float, Range(0, 45)] = 0.0
    scale: Annotated[float, Range(0, 0.99)] = 0.0
    shear: Annotated[float, Range(0, 10)] = 0.0
    shift: Annotated[float, Range(0, 1000)] = 0.0

    def __post_init__(self) -> None:
        check_ranges(Augment, vars(self), "data.augment")

    def amounts(self) -> dict[str, float]:
        """As `ops.images` takes them: rotation in radians."""
        return {
            "rotation": math.pi / 180 * self.rotation,
            "scaling": self.scale,
            "shear": self.shear,
            "shift_by": self.shift,
        }
