"""The rows of a convolution's gradients whose output is pooled: `kernels.pooled`."""

import math

from odyssey_core.backends.numba.fusion import Patches
from odyssey_core.backends.numba.kernels import affine, pooled
from odyssey_core.backends.numba.places import Operand, Place
from odyssey_core.backends.numba.simd import HALF, LANES
from odyssey_core.backends.numba.table import padded, share
from odyssey_core.tensor import Tensor


class PooledRows:
    """The part of `Lowering` that works on the gradients which `fusion.sparse` found, by its places and rows."""

    sparse: dict[Tensor, Patches]

    def _switches(self, node, outer):
        x, y, _ = node.inputs
        patches, windows = self.sparse[outer], y.shape[2:]
        self.places[outer] = self._temporary(sum(math.prod(shape) for shape in self._listed(outer).values()))
        pairs = self._temporary(2 * math.prod(windows) * LANES)
        operands = {name: self._laned(a, a.shape[1:]) for name, a in zip(("x", "y", "grad"), node.inputs, strict=True)}
        operands |= {**self._lists(outer), "pairs": pairs.shaped((*windows, LANES, 2))}
        self._row(
            pooled.MAX_POOL2D_SWITCHES, operands, (node.attrs["kernel_size"], *patches.kernel),
            **self._pool_sizes(x.shape, y.shape, node.attrs["stride"]), gated=outer is not node,
            image_height=patches.height, image_width=patches.width, pixel=patches.pixel, conv_stride=patches.stride,
        )  # fmt: skip
        self._release(pairs)

    def _listed(self, grad: Tensor) -> dict[str, tuple[int, ...]]:
        """Shapes of what is kept of a sparse gradient, one after the other."""
        out, *windows = self.sparse[grad].windows
        return {"values": (out, *windows, LANES), **pooled.lists(out, math.prod(windows))}

    def _lists(self, grad: Tensor) -> dict[str, Operand]:
        place, operands, start = self.places[grad], {}, 0
        for name, shape in self._listed(grad).items():
            operands[name] = Operand(Place(place.space, place.offset + start, math.prod(shape)), shape)
            start += math.prod(shape)
        return operands

    def _patch_row(self, instruction, grad, operands, variant, **numbers):
        """A row over the lists of a sparse gradient and the images that its convolution saw."""
        patches, lists = self.sparse[grad], self._lists(grad)
        out, *windows = patches.windows
        operands |= {name: lists[name] for name in ("counts", "entries")}
        sizes = {"height": patches.height, "width": patches.width, "pixel": patches.pixel}
        self._row(instruction, operands, variant, out=out, windows=math.prod(windows), **sizes, **numbers)

    def _grad_weight_sparse(self, node, grad, source, sizes, result):
        (out, channels, *kernel), patches = node.shape, self.sparse[grad]
        pixel, pixels = patches.pixel, patches.height * patches.width
        image = padded(pixels * pixel)
        images = self._temporary(LANES * image + LANES)
        if pixel == 1:
            operands = {"x": source.place.shaped((pixels, 1, LANES)), "y": images.shaped((1, LANES, image))}
            self._row(affine.TRANSPOSE, operands, features=pixels, pixels=1)
        else:
            operands = {"x": source.place.shaped((channels, pixels, LANES)), "y": images.shaped((LANES, image))}
            self._row(pooled.CHANNELS_LAST, operands, channels=channels, pixels=pixels)
        last = (out, kernel[0], pooled.whole(kernel[1] * pixel))
        sums = self._gradient_place(math.prod(last)).shaped(last)
        rows, columns = self.tiles.patch(kernel[0], last[2] // HALF)
        parts = -(-kernel[0] // rows)
        for part in range(parts):
            variant = columns, *share(kernel[0], parts, part), *kernel
            operands = {"x": images.shaped((images.size,)), "dw": sums}
            self._patch_row(pooled.POOLED_GRAD_WEIGHT, grad, operands, variant, first_block=0)
        operands = {"last": sums, "first": result.shaped(node.shape)}
        self._row(pooled.KERNEL_FIRST, operands, kernel, after_blocks=True, channels=channels, out=out, pixel=pixel)
        self._release(images)

    def _grad_input_sparse(self, node, outer):
        grad, weight = node.inputs
        (out, channels, *kernel), patches = weight.shape, self.sparse[grad]
        last = (out, kernel[0], kernel[1] * patches.pixel)
        turned = self._gradient_place(math.prod(last)).shaped(last)
        operands = {"first": self._parameter(weight), "last": turned}
        self._row(pooled.KERNEL_LAST, operands, kernel, channels=channels, out=out, first_block=0)
        image, (_, _, height, width) = padded(patches.height * patches.width * patches.pixel), node.shape
        result, images = self._result(outer), self._temporary(LANES * image)
        dx = images.shaped((LANES, image))
        self._patch_row(pooled.POOLED_GRAD_INPUT, grad, {"weight": turned, "dx": dx}, kernel)
        operands = {
            "x": dx,
            "gate": self._laned(outer.inputs[0], node.shape[1:]) if outer is not node else None,
            "y": result.shaped((*node.shape[1:], LANES)),
        }
        sizes = {"channels": channels, "height": height, "width": width, "padding": node.attrs["padding"][0]}
        self._row(pooled.CHANNELS_FIRST, operands, **sizes)
        self._release(images)
