"""From a graph to an instruction table.

The rows of one block of sixteen images are made once; every group of blocks then gets them with the addresses of its
own scratch and its own gradients. Buffers that are never needed at the same time share memory.
"""

import math
from collections import Counter
from collections.abc import Sequence

from odyssey_core.backends.base import input_nodes
from odyssey_core.backends.numba.arena import ScratchAllocator
from odyssey_core.backends.numba.fusion import joined, sparse
from odyssey_core.backends.numba.kernels import affine, conv, elementwise, feed, loss, pool
from odyssey_core.backends.numba.lower_pooled import PooledRows
from odyssey_core.backends.numba.places import Operand, Place, Row, float_bits, stored_shape
from odyssey_core.backends.numba.simd import LANES
from odyssey_core.backends.numba.table import Instruction, Kernel, padded
from odyssey_core.backends.numba.tiles import Tiles
from odyssey_core.errors import ConfigError, ShapeError
from odyssey_core.optim import Update
from odyssey_core.tensor import Tensor, topological

INSTEAD = "; choose backend=numpy, which computes the same, more slowly"


class Lowering(PooledRows):
    """Builds the rows of one block; `lower` turns them into a program."""

    def __init__(
        self, outputs: Sequence[Tensor], parameters: dict[str, Tensor], updates: Sequence[Update], tiles: Tiles
    ):
        self.tiles = tiles
        self.outputs = list(outputs)
        self.rows: list[Row] = []
        self.places: dict[Tensor, Place] = {}
        self.parameter_offsets: dict[str, int] = {}
        self.parameter_size = 0
        for name, node in parameters.items():
            size = padded(math.prod(stored_shape(node.shape)))
            self.parameter_offsets[name] = self.parameter_size
            self.places[node] = Place("parameter", self.parameter_size, size)
            self.parameter_size += size
        self.gradient_size = self.parameter_size if updates else 0
        self.wanted = {u.grad: Place("gradient", *self._span(u)) for u in updates}
        if len(self.wanted) < len(updates):
            raise ShapeError("backend numba: cannot run add on parameters here: two of them share one gradient")
        self.order = topological([*outputs, *(u.grad for u in updates)])
        self.inputs = input_nodes(outputs, updates)
        self.pixels: int | None = None
        uses = Counter(x for node in self.order for x in node.inputs)
        uses.update(self.outputs)
        uses.update(self.wanted.keys())
        self.fused = joined(self.order, uses)
        self.sparse = sparse(self.order, uses, self.fused)
        self._walk()

    def _span(self, u: Update) -> tuple[int, int]:
        place = self.places[u.parameter]
        return place.offset, place.size

    def _walk(self) -> None:
        emitted_at = {}
        absorbed = {outer: inner for inner, outer in self.fused.items()}
        steps = [node for node in self.order if node not in self.fused and node not in self.places]
        for i, node in enumerate(steps):
            emitted_at[node] = i
        last_use: dict[Tensor, int] = {}
        for i, node in enumerate(steps):
            for x in (*node.inputs, *(absorbed[node].inputs if node in absorbed else ())):
                last_use[x] = i
        for x in self.outputs:
            last_use[x] = len(steps)
        self.scratch = ScratchAllocator()
        alive: dict[Place, int] = {}
        for i, node in enumerate(steps):
            self.dying = {p for p, end in alive.items() if end <= i}
            inner = absorbed.get(node, node)
            self._emit(inner, node)
            place = self.places[node]
            if place.space == "scratch":
                alive[place] = max(alive.get(place, 0), last_use.get(node, i))
            for p in [p for p, end in alive.items() if end <= i]:
                self.scratch.release(p.offset, p.size)
                del alive[p]
        column = 0
        for node in self.outputs:
            size = math.prod(node.shape[1:])
            self._row(feed.EMIT, {"x": self._laned(node, (size,))}, size=size, column=column)
            column += size
        self.output_columns = column

    # --- places ------------------------------------------------------------------------------------------------------

    def _laned(self, node: Tensor, shape: Sequence[int]) -> Operand:
        return self.places[node].shaped((*shape, LANES))

    def _parameter(self, node: Tensor, shape: Sequence[int] | None = None) -> Operand:
        return self.places[node].shaped(shape or stored_shape(node.shape))

    def _result(self, node: Tensor, reuse: Tensor | None = None) -> Place:
        """Memory for a node's value; that of ``reuse`` where it is not needed after this row."""
        if not node.batched:
            place = self.wanted.get(node) or self._gradient_place(math.prod(stored_shape(node.shape)))
        else:
            size = math.prod(node.shape[1:]) * LANES
            old = self.places.get(reuse) if reuse is not None else None
            place = old if old in self.dying and old.size == size else None
            place = place or Place("scratch", self.scratch.take(size), size)
        self.places[node] = place
        return place

    def _gradient_place(self, size: int) -> Place:
        """Memory behind the gradients, kept from block to block."""
        size = padded(size)
        self.gradient_size += size
        return Place("gradient", self.gradient_size - size, size)

    def _temporary(self, size: int) -> Place:
        """Memory for one row's use; what follows in the same node may not take it before."""
        return Place("scratch", self.scratch.take(size), size)

    def _row(
        self, instruction: Instruction, operands: dict[str, Operand | None], variant=(), after_blocks=False, **numbers
    ) -> None:
        numbers = {k: float_bits(v) if k in instruction.constants else int(v) for k, v in numbers.items()}
        self.rows.append(Row(Kernel(instruction, tuple(variant)), operands, numbers, after_blocks))

    # --- one method per op -------------------------------------------------------------------------------------------

    def _emit(self, node: Tensor, outer: Tensor) -> None:
        """Rows that compute ``outer``, which is ``node`` itself or what is fused into its store."""
        method = getattr(self, f"_emit_{node.op.name}", None)
        # Outside the blocks only sums of gradients run: a parameter is not there to be added before the update.
        summed = node.op.reduces or (
            node.op.name == "add" and all(self.places[x].space == "gradient" for x in node.inputs)
        )
        padding = node.attrs.get("padding", 0)
        partial = node.attrs.get("groups", 1) > 1 or (
            padding[0] != padding[1] if isinstance(padding, tuple) else padding > 0
        )
        if partial:
            raise ConfigError(f"backend=numba has no kernel for {node.op.name} with {node.attrs}{INSTEAD}")
        if method is None or not (node.batched or summed):
            raise ShapeError(f"backend numba: cannot run {node.op.name} on {[x.shape for x in node.inputs]} here")
        method(node, outer)

    def _emit_images(self, node, outer):
        size = math.prod(node.shape[1:])
        self.pixels = size
        scale, shift = 1 / (255 * node.attrs["std"]), -node.attrs["mean"] / node.attrs["std"]
        y = self._result(outer).shaped((size, LANES))
        if node.attrs["augment"] is None:
            self._row(feed.GATHER, {"y": y}, size=size, scale=scale, shift=shift)
            return
        sizes = dict(zip(("channels", "height", "width"), node.shape[1:], strict=True))
        work = self._temporary(feed.affine_work(**sizes))
        amounts = dict(zip(("rotation", "scaling", "shear", "shift_by"), node.attrs["augment"], strict=True))
        operands = {"y": y, "work": work.shaped((work.size,))}
        self._row(feed.GATHER_AFFINE, operands, **sizes, scale=scale, shift=shift, **amounts)
        self._release(work)

    def _emit_labels(self, node, outer):
        """The loss's kernels read labels from the feed."""
        self.places[outer] = Place("labels", 0, 0)

    def _emit_input(self, node, outer):
        column = 0
        for x in self.inputs:
            if x is node:
                break
            column += math.prod(x.shape[1:])
        size = math.prod(node.shape[1:])
        self._row(feed.INGEST, {"y": self._result(outer).shaped((size, LANES))}, size=size, column=column)

    def _emit_batch_weight(self, node, outer):
        self._row(feed.BATCH_WEIGHT, {"y": self._result(outer).shaped((LANES,))})

    def _emit_reshape(self, node, outer):
        self.places[outer] = self.places[node.inputs[0]]

    def _sizes(self, x_shape, y_shape, stride) -> dict[str, int]:
        return dict(zip(conv.SIZES, (*x_shape[1:], *y_shape[1:], stride), strict=True))

    def _bordered(self, x: Tensor, padding: int) -> tuple[Operand, tuple[int, ...], Place | None]:
        """The input of a convolution inside its border of zeros, its shape, and what to release afterwards."""
        n, c, h, w = x.shape
        if not padding:
            return self._laned(x, x.shape[1:]), x.shape, None
        shape = (n, c, h + 2 * padding, w + 2 * padding)
        place = self._temporary(math.prod(shape[1:]) * LANES)
        operands = {"x": self._laned(x, x.shape[1:]), "y": place.shaped((*shape[1:], LANES))}
        self._row(conv.PAD, operands, channels=c, height=h, width=w, padding=padding)
        return operands["y"], shape, place

    def _release(self, place: Place | None) -> None:
        if place is not None:
            self.scratch.release(place.offset, place.size)

    def _emit_conv2d(self, node, outer):
        x, weight, *bias = node.inputs
        result = self._result(outer)
        source, shape, border = self._bordered(x, node.attrs["padding"][0])
        operands = {
            "x": source,
            "weight": self._parameter(weight),
            "bias": self._parameter(bias[0]) if bias else None,
            "y": result.shaped((*node.shape[1:], LANES)),
        }
        variant = *self.tiles.outer(node.shape[1], node.shape[3]), *weight.shape[2:]
        sizes = self._sizes(shape, node.shape, node.attrs["stride"])
        self._row(conv.CONV2D, operands, variant, **sizes, relu=outer is not node)
        self._release(border)

    def _emit_conv2d_grad_input(self, node, outer):
        grad, weight = node.inputs
        if grad in self.sparse:
            self._grad_input_sparse(node, outer)
            return
        operands = {
            "grad": self._laned(grad, grad.shape[1:]),
            "weight": self._parameter(weight),
            "gate": self._laned(outer.inputs[0], node.shape[1:]) if outer is not node else None,
            "dx": self._result(outer).shaped((*node.shape[1:], LANES)),
        }
        sizes = self._sizes(node.shape, grad.shape, node.attrs["stride"])
        variant = self.tiles.outer(node.shape[1], 1)[0], *weight.shape[2:]
        self._row(conv.CONV2D_GRAD_INPUT, operands, variant, **sizes, padding=node.attrs["padding"][0])

    def _emit_conv2d_grad_weight(self, node, outer):
        x, grad = node.inputs
        source, shape, border = self._bordered(x, node.attrs["padding"][0])
        sizes = self._sizes(shape, grad.shape, node.attrs["stride"])
        out = node.shape[0]
        # The choice decides the order of additions, so it looks at shapes alone.
        dense = self._grad_weight_wide if 4 * padded(out) <= 5 * out else self._grad_weight_narrow
        emit = self._grad_weight_sparse if grad in self.sparse else dense
        emit(node, grad, source, sizes, self._result(outer))
        self._release(border)

    def _grad_weight_narrow(self, node, grad, source, sizes, result):
        count = math.prod(node.shape)
        lanes = self._gradient_place(count * LANES)
        operands = {"x": source, "grad": self._laned(grad, grad.shape[1:]), "dw": lanes.shaped((*node.shape, LANES))}
        variant = *self.tiles.inner(node.shape[0], node.shape[3]), *node.shape[2:]
        self._row(conv.CONV2D_GRAD_WEIGHT, operands, variant, **sizes, first_block=0)
        totals = {"x": lanes.shaped((count, LANES)), "y": result.shaped((count,))}
        self._row(affine.TOTALS, totals, after_blocks=True, count=count)

    def _grad_weight_wide(self, node, grad, source, sizes, result):
        out, taps, pixels = node.shape[0], math.prod(node.shape[1:]), math.prod(grad.shape[2:])
        pitch = padded(out)
        turned = self._temporary(pixels * LANES * pitch)
        exchanged = turned.shaped((pixels, LANES, pitch))
        operands = {"x": self._laned(grad, (out, pixels)), "y": exchanged}
        self._row(affine.TRANSPOSE, operands, features=out, pixels=pixels)
        sums = self._gradient_place(taps * pitch).shaped((taps, pitch))
        variant = *self.tiles.outer(node.shape[3], pitch // LANES), *node.shape[2:]
        operands = {"x": source, "grad": exchanged, "dw": sums}
        self._row(conv.CONV2D_GRAD_WEIGHT_WIDE, operands, variant, **sizes, first_block=0)
        self._row(conv.TURN, {"x": sums, "y": result.shaped((out, taps))}, after_blocks=True, out=out, taps=taps)
        self._release(turned)

    def _emit_grad_bias(self, node, outer):
        (grad,) = node.inputs
        values = self._lists(grad)["values"] if grad in self.sparse else self._laned(grad, grad.shape[1:])
        channels, pixels = grad.shape[1], math.prod(values.shape[1:-1])
        db = self._result(outer).shaped(node.shape)
        operands = {"grad": values.place.shaped((channels, pixels, LANES)), "db": db}
        self._row(affine.GRAD_BIAS, operands, channels=channels, pixels=pixels, first_block=0)

    def _emit_linear(self, node, outer):
        x, weight, *bias = node.inputs
        out, features = weight.shape
        operands = {
            "x": self._laned(x, (features,)),
            "weight": self._parameter(weight),
            "bias": self._parameter(bias[0]) if bias else None,
            "y": self._result(outer).shaped((out, LANES)),
        }
        variant = self.tiles.outer(out, 1)[:1]
        self._row(affine.LINEAR, operands, variant, features=features, out=out, relu=outer is not node)

    def _emit_linear_grad_input(self, node, outer):
        grad, weight = node.inputs
        out, features = weight.shape
        operands = {
            "grad": self._laned(grad, (out,)),
            "weight": self._parameter(weight),
            "gate": self._laned(outer.inputs[0], (features,)) if outer is not node else None,
            "dx": self._result(outer).shaped((features, LANES)),
        }
        variant = self.tiles.outer(features, 1)[:1]
        self._row(affine.LINEAR_GRAD_INPUT, operands, variant, features=features, out=out)

    def _emit_linear_grad_weight(self, node, outer):
        x, grad = node.inputs
        out, features = node.shape
        turned = self._temporary(LANES * padded(features))
        source = turned.shaped((1, LANES, padded(features)))
        self._row(affine.TRANSPOSE, {"x": self._laned(x, (features, 1)), "y": source}, features=features, pixels=1)
        operands = {
            "x": source,
            "grad": self._laned(grad, (out,)),
            "dw": self._result(outer).shaped(stored_shape(node.shape)),
        }
        variant = self.tiles.outer(out, padded(features) // LANES)
        self._row(affine.LINEAR_GRAD_WEIGHT, operands, variant, features=features, out=out, first_block=0)
        self._release(turned)

    def _pool_sizes(self, x_shape, y_shape, stride):
        return dict(zip(pool.SIZES, (*x_shape[1:], *y_shape[2:], stride), strict=True))

    def _emit_max_pool2d(self, node, outer):
        (x,) = node.inputs
        instruction = pool.MAX_POOL2D if node.op.name == "max_pool2d" else pool.AVG_POOL2D
        operands = {"x": self._laned(x, x.shape[1:]), "y": self._result(outer).shaped((*node.shape[1:], LANES))}
        sizes = self._pool_sizes(x.shape, node.shape, node.attrs["stride"])
        self._row(instruction, operands, (node.attrs["kernel_size"],), **sizes)

    _emit_avg_pool2d = _emit_max_pool2d

    def _emit_max_pool2d_grad(self, node, outer):
        if outer in self.sparse:
            self._switches(node, outer)
            return
        x, y, grad = node.inputs
        size, stride = node.attrs["kernel_size"], node.attrs["stride"]
        exact = stride == size and x.shape[2] == y.shape[2] * size and x.shape[3] == y.shape[3] * size
        operands = {
            "x": self._laned(x, x.shape[1:]),
            "y": self._laned(y, y.shape[1:]),
            "grad": self._laned(grad, y.shape[1:]),
            "dx": self._result(outer, reuse=x if exact else None).shaped((*x.shape[1:], LANES)),
        }
        sizes = self._pool_sizes(x.shape, y.shape, stride)
        self._row(pool.MAX_POOL2D_GRAD, operands, (size,), **sizes, gated=outer is not node)

    def _emit_avg_pool2d_grad(self, node, outer):
        (grad,) = node.inputs
        operands = {
            "grad": self._laned(grad, grad.shape[1:]),
            "dx": self._result(outer).shaped((*node.shape[1:], LANES)),
        }
        sizes = self._pool_sizes(node.shape, grad.shape, node.attrs["stride"])
        self._row(pool.AVG_POOL2D_GRAD, operands, (node.attrs["kernel_size"],), **sizes)

    def _emit_elementwise(self, node, outer):
        names = ("x",) if len(node.inputs) == 1 else ("a", "b")
        place = self._result(outer, reuse=node.inputs[-1])
        shape = (place.size // LANES, LANES)
        operands = {name: self.places[x].shaped(shape) for name, x in zip(names, node.inputs, strict=True)}
        instruction = getattr(elementwise, node.op.name.upper())
        self._row(instruction, {**operands, "y": place.shaped(shape)}, after_blocks=not node.batched, vectors=shape[0])

    _emit_relu = _emit_tanh = _emit_sigmoid = _emit_add = _emit_multiply = _emit_elementwise
    _emit_relu_grad = _emit_tanh_grad = _emit_sigmoid_grad = _emit_elementwise

    def _emit_dropout(self, node, outer):
        (x,) = node.inputs
        place = self._result(outer, reuse=x)
        shape, p = (place.size // LANES, LANES), node.attrs["p"]
        self._row(
            elementwise.DROPOUT, {"x": self.places[x].shaped(shape), "y": place.shaped(shape)}, vectors=shape[0],
            stream=node.attrs["stream"], threshold=int(p * 2**32), scale=1 / (1 - p),
        )  # fmt: skip

    def _emit_cross_entropy(self, node, outer):
        logits = node.inputs[0]
        classes = logits.shape[1]
        operands = {"logits": self._laned(logits, (classes,)), "losses": self._result(outer).shaped((LANES,))}
        self._row(loss.CROSS_ENTROPY, operands, classes=classes, **node.attrs)

    def _emit_cross_entropy_grad(self, node, outer):
        logits, _, grad = node.inputs
        classes = logits.shape[1]
        operands = {
            "logits": self._laned(logits, (classes,)),
            "grad": self.places[grad].shaped((LANES,)),
            "dz": self._result(outer).shaped((classes, LANES)),
        }
        self._row(loss.CROSS_ENTROPY_GRAD, operands, classes=classes, **node.attrs)


KNOWN = frozenset(name.removeprefix("_emit_") for name in dir(Lowering) if name.startswith("_emit_"))
