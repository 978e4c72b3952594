"""Nodes without inputs: parameters, buffers, what a step is fed with, and the seed of the backward pass."""

from collections.abc import Iterable, Mapping

from odyssey_core import lazy_numpy as np
from odyssey_core.errors import ShapeError
from odyssey_core.initial import Initial, Uniform
from odyssey_core.tensor import Emit, Op, Shape, Tensor

__all__ = ["batch_weight", "buffer", "images", "input_", "labels", "parameter"]


def _images_in_onnx(emit: Emit, node: Tensor, pixels: str) -> str:
    raw = emit("Cast", pixels, to=1)  # TensorProto.FLOAT
    mean, std = (np.array(node.attrs[name], np.float32)[:, None, None] for name in ("mean", "std"))
    return emit("Div", emit("Sub", emit("Div", raw, 255.0), mean), std)


PARAMETER = Op("parameter", lambda *, name, shape, initial, trained: shape)
BUFFER = Op("buffer", lambda *, name, shape, initial: shape)
INPUT = Op("input", lambda *, name, shape: shape, batched=True)
IMAGES = Op(
    "images",
    lambda *, shape, mean, std, augment: shape,
    batched=True,
    onnx=_images_in_onnx,
)
LABELS = Op("labels", lambda *, batch_size: (batch_size,), batched=True)
BATCH_WEIGHT = Op(
    "batch_weight",
    lambda *, batch_size: (batch_size,),
    batched=True,
    torch=lambda emit, node: "",  # PyTorch's batches are as long as there are images
)

ZERO = Uniform(0.0)


def parameter(name: str, shape: Shape, initial: Initial = ZERO, trained: bool = True) -> Tensor:
    """A trainable array.

    Args:
        name: for messages; the module's attribute that holds it makes its path.
        shape: of the array, without a batch axis.
        initial: what it holds before training; zero by default.
        trained: whether training changes it; a frozen one keeps its initial value.
    """
    return PARAMETER(name=name, shape=tuple(shape), initial=initial, trained=trained)


def buffer(name: str, shape: Shape, initial: Initial) -> Tensor:
    """An array that belongs to the model and is saved with it, but is never trained: it has no gradient.

    The ``after_step`` rule of an operation that takes it as an input changes it after each training step.

    Args:
        name: for messages; the module's attribute that holds it makes its path.
        shape: of the array, without a batch axis.
        initial: what it holds before training.
    """
    return BUFFER(name=name, shape=tuple(shape), initial=initial)


def input_(name: str, shape: Shape) -> Tensor:
    """(N, ...) float32 values handed in with each step, batch axis first."""
    return INPUT(name=name, shape=tuple(shape))


def images(
    shape: Shape,
    mean: float | tuple[float, ...] = 0.0,
    std: float | tuple[float, ...] = 1.0,
    augment: Mapping[str, float] | None = None,
) -> Tensor:
    """(N, C, H, W) the step's images, gathered by index from uint8 pixels p: ``(p / 255 - mean) / std``.

    A place of the batch without an image (index -1) holds zeros.

    Args:
        shape: (N, C, H, W).
        mean: of the pixels in [0, 1]; one number, or one for each channel.
        std: of the pixels in [0, 1]; likewise.
        augment: amounts of a random distortion by name: ``rotation`` in radians, ``scaling``, ``shear``, ``shift_by``
            in pixels; ``brightness``, ``contrast``; ``flip`` and ``alternate`` (0 or 1), ``crop`` and ``cutout`` in
            pixels, ``reflect`` (0 or 1). With u uniform in [-1, 1), drawn for each image and epoch, the pixel at (i, j)
            relative to the centre is sampled at s R(a) [[1, k], [0, 1]] (j, i) + (x, y), a = rotation u0,
            s = 1 + scaling u1, k = shear u2, x = shift_by u3 + m, y = shift_by u4 + n, bilinearly, with 0 outside,
            where m and n are whole numbers from -crop to crop; where reflect is 1, a coordinate outside is first
            mirrored at the outermost pixel. Where flip is 1, every second image is mirrored before; where alternate is
            1, those that a draw without the epoch names are in even epochs, and the others in odd ones. Its pixels p
            are first made
            b (mean + c (p - mean)), b = 1 + brightness u5, c = 1 + contrast u6, kept within 0 and 255, the mean that of
            the channel in this image. Last, 0 is written into a square of side cutout whose middle is any pixel.

    Raises:
        ShapeError: another number of means or deviations than there are channels.
    """
    mean, std = (_of_channels(name, values, shape[1]) for name, values in (("mean", mean), ("std", std)))
    return IMAGES(shape=tuple(shape), mean=mean, std=std, augment=augment)


def _of_channels(name: str, values: float | tuple[float, ...], channels: int) -> tuple[float, ...]:
    found = tuple(map(float, values if isinstance(values, Iterable) else (values,)))
    if len(found) not in (1, channels):
        raise ShapeError(f"images: {name} must be one number or one for each of {channels} channels, got {values}")
    return found if len(found) == channels else found * channels


def labels(batch_size: int) -> Tensor:
    """(N,) the classes of the step's images; -1 where there is no image."""
    return LABELS(batch_size=batch_size)


def batch_weight(batch_size: int) -> Tensor:
    """(N,) 1 / (number of images in the step), 0 where there is no image: d(mean) / d(loss of one image)."""
    return BATCH_WEIGHT(batch_size=batch_size)
