"""Random affine distortion of training images."""

import math
from dataclasses import astuple, dataclass, fields

from odyssey_core.errors import ConfigError


@dataclass(frozen=True)
class Augment:
    """How far each training image may be turned, scaled, sheared and shifted, drawn anew in every epoch.

    Each amount is uniform in plus or minus its field, a function of (seed, epoch, image). Sampled bilinearly about the
    centre of the image; what comes from outside is 0.

    Args:
        rotation: degrees, at most 45.
        scale: fraction of the size, below 1.
        shear: horizontal shift per row, in pixels.
        shift: pixels, in each direction.

    Raises:
        ConfigError: an amount that is negative, not finite or too large.
    """

    rotation: float = 0.0
    scale: float = 0.0
    shear: float = 0.0
    shift: float = 0.0

    def __post_init__(self):
        for field, value, most in zip(fields(self), astuple(self), (45, 0.99, 10, 1000), strict=True):
            if not 0 <= value <= most:
                raise ConfigError(f"data.augment.{field.name}: expected 0 to {most}, got {value}")

    def amounts(self) -> tuple[float, float, float, float]:
        """(rotation in radians, scale, shear, shift)."""
        return math.pi / 180 * self.rotation, self.scale, self.shear, self.shift
