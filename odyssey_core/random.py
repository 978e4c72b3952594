"""Counter-based random numbers: Philox4x32-10, a pure function of (seed, stream, epoch, item, element).

Nothing here has a state, so nothing depends on threads, on call order or on where a run was resumed.
Only integer arithmetic and exact float32 scaling are used: the same bits on every machine.

Source: Salmon, Moraes, Dror, Shaw, "Parallel Random Numbers: As Easy as 1, 2, 3", SC 2011, section 3.3.
"""

from __future__ import annotations

import zlib
from typing import Any

from odyssey_core import lazy_numpy as np

MULTIPLIER_0, MULTIPLIER_1 = 0xD2511F53, 0xCD9E8D57
WEYL_0, WEYL_1 = 0x9E3779B9, 0xBB67AE85
ROUNDS = 10
LOW = 0xFFFFFFFF


def philox(counter: tuple[Any, ...], seed: int) -> np.ndarray:
    """Four random words for every counter.

    Args:
        counter: four broadcastable integers or integer arrays, each taken modulo 2**32.
        seed: the 64-bit key.

    Returns:
        (4, ...) uint32, the leading axis over the four words of a block.
    """
    words = np.broadcast_arrays(*(np.asarray(c, np.int64) for c in counter))
    c0, c1, c2, c3 = (w.ravel().astype(np.uint32) for w in words)  # the low halves
    k0, k1 = seed & LOW, seed >> 32 & LOW
    for _ in range(ROUNDS):
        low0, high0 = _product(MULTIPLIER_0, c0)
        low1, high1 = _product(MULTIPLIER_1, c2)
        c0, c1, c2, c3 = high1 ^ c1 ^ np.uint32(k0), low1, high0 ^ c3 ^ np.uint32(k1), low0
        k0, k1 = (k0 + WEYL_0) & LOW, (k1 + WEYL_1) & LOW
    return np.stack([c0, c1, c2, c3]).reshape(4, *words[0].shape)


def _product(multiplier: int, values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Low and high halves of products, seen in the place where these lie: to shift and mask takes twice as long."""
    halves = np.multiply(values, np.uint64(multiplier), dtype="<u8").view("<u4")
    return halves[0::2], halves[1::2]


def stream_of(name: str) -> int:
    """The stream of a named use of randomness, so that adding one never shifts another."""
    return zlib.crc32(name.encode())


def words(count: int, *, seed: int, stream: str | int, epoch: int = 0, item: Any = 0, first: int = 0) -> np.ndarray:
    """``count`` random words of one stream: (count,) uint32; element ``e`` is word ``e % 4`` of counter ``e // 4``.

    With an array ``item`` of shape (n,) the result is (n, count). They begin with element ``first``, a multiple of 4.
    """
    item = np.asarray(item)
    number = stream_of(stream) if isinstance(stream, str) else stream
    blocks = philox((first // 4 + np.arange(-(-count // 4)), item[..., None], epoch, number), seed)
    return np.moveaxis(blocks, 0, -1).reshape(*item.shape, -1)[..., :count]


def uniform(count: int, **where: Any) -> np.ndarray:
    """Uniform numbers in [0, 1), 24 bits each: float32, shaped as ``words`` gives them."""
    return (words(count, **where) >> np.uint32(8)).astype(np.float32) * np.float32(2**-24)


def permutation(count: int, **where: Any) -> np.ndarray:
    """A random order of ``range(count)``: (count,) int64, by sorting 64-bit random keys."""
    keys = words(2 * count, **where).astype(np.uint64)
    return np.argsort(keys[0::2] << np.uint64(32) | keys[1::2], kind="stable").astype(np.int64)
