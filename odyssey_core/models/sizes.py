"""The size of image that a model needs."""

from odyssey_core.errors import ShapeError
from odyssey_core.tensor import Shape


def require_pixels(model: str, input_shape: Shape, least: int, instead: str) -> None:
    """Refuses images with fewer than ``least`` pixels in a row or column.

    Args:
        model: its name.
        input_shape: (C, H, W) of the data.
        least: height and width that its windows need.
        instead: models that take smaller images, for the message.

    Raises:
        ShapeError: too small.
    """
    _, h, w = input_shape
    if min(h, w) < least:
        raise ShapeError(f"{model}: images must be at least {least}x{least} pixels, got {h}x{w}; choose {instead}")
