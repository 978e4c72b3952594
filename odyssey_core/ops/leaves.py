"""Nodes without inputs: parameters, what a step is fed with, and the seed of the backward pass."""

from odyssey_core.tensor import Op, Shape, Tensor

PARAMETER = Op("parameter", lambda *, name, shape, bound: shape)
INPUT = Op("input", lambda *, name, shape: shape, batched=True)
IMAGES = Op("images", lambda *, shape, mean, std: shape, batched=True)
LABELS = Op("labels", lambda *, batch_size: (batch_size,), batched=True)
BATCH_WEIGHT = Op("batch_weight", lambda *, batch_size: (batch_size,), batched=True)


def parameter(name: str, shape: Shape, bound: float = 0.0) -> Tensor:
    """A trainable array, drawn at first uniformly from [-bound, bound)."""
    return PARAMETER(name=name, shape=tuple(shape), bound=float(bound))


def input_(name: str, shape: Shape) -> Tensor:
    """(N, ...) float32 values handed in with each step, batch axis first."""
    return INPUT(name=name, shape=tuple(shape))


def images(shape: Shape, mean: float = 0.0, std: float = 1.0) -> Tensor:
    """(N, C, H, W) the step's images, gathered by index from uint8 pixels p: ``(p / 255 - mean) / std``.

    A place of the batch without an image (index -1) holds zeros.
    """
    return IMAGES(shape=tuple(shape), mean=float(mean), std=float(std))


def labels(batch_size: int) -> Tensor:
    """(N,) the classes of the step's images; -1 where there is no image."""
    return LABELS(batch_size=batch_size)


def batch_weight(batch_size: int) -> Tensor:
    """(N,) 1 / (number of images in the step), 0 where there is no image: d(mean) / d(loss of one image)."""
    return BATCH_WEIGHT(batch_size=batch_size)
