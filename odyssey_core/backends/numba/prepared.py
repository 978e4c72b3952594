"""Answers to images as soon as they are there: a call whose every array and address is made ready beforehand."""

from collections.abc import Mapping

import numpy as np

from odyssey_core.backends.base import NO_BUFFERS, Feed
from odyssey_core.backends.numba.graph import Graph
from odyssey_core.backends.numba.lower import Lowering
from odyssey_core.backends.numba.lower_single import SingleLowering
from odyssey_core.backends.numba.run import NumbaExecutable, compiled
from odyssey_core.backends.numba.tile_sizes import TileSizes
from odyssey_core.backends.numba.traced import LANES
from odyssey_core.errors import ShapeError
from odyssey_core.ops.leaves import IMAGES
from odyssey_core.optim import PLAIN
from odyssey_core.tensor import Tensor, topological

# Multiply-adds of a call that is shared out: 0.2 ms of a core's work. On a busy machine a thread comes after 1 to 4 ms.
SHARED_FROM = 10_000_000


class PreparedCall:
    """See `backends.base.Prepared`. A run allocates nothing, and on one thread it is a single call.

    Below sixteen images each is computed alone. Where an operation has no kernel for that, and for more images, they
    are computed in blocks of sixteen. Threads share out the blocks where they have enough to do to be worth waking.

    Args:
        output: for as many images as there may be.
        parameters: by name.
        groups: most groups of blocks.
        threads: at most so many share the groups.
        tiles: register tiles to use.

    Attributes:
        alone: whether each image is.
    """

    def __init__(self, output: Tensor, parameters: Mapping[str, Tensor], groups: int, threads: int, tiles: TileSizes):
        def executable(groups: int, threads: int, lowered: type[Lowering]) -> NumbaExecutable:
            return NumbaExecutable(compiled(graph, groups, threads, tiles, lowered))

        graph = Graph((output,), parameters, (), PLAIN, NO_BUFFERS)
        nodes = topological([output])
        work = sum(node.op.multiply_adds(node) for node in nodes if node.op.multiply_adds)
        threads = threads if work >= SHARED_FROM else 1
        self.alone = output.shape[0] < LANES
        try:
            made = executable(1, 1, SingleLowering) if self.alone else executable(groups, threads, Lowering)
        except ShapeError:
            self.alone, made = False, executable(groups, threads, Lowering)
        shape = next(node.shape for node in nodes if node.op is IMAGES)
        self.images, self.write = np.zeros(shape, np.uint8), made.write
        feed = Feed(np.arange(shape[0])[None], self.images.reshape(shape[0], -1))
        self._call = made.prepare(feed, made.program.phases[made.program.first :].copy())
        self._run, self._outputs = made.calling(self._call), self._call.feed.outputs[0]
        self._end = self._call.phases[0, 0, 4:]

    def run(self, count: int) -> np.ndarray:
        """See `Prepared.run`."""
        if self.alone:
            self._end[0] = count  # of the blocks, which are images
        self._call.marks.fill(0)
        self._run()
        return self._outputs[:count]
