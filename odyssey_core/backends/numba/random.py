"""Philox4x32-10 on lanes: one counter per image, the same words as `odyssey_core.random.philox`."""

import numpy as np
from numba import njit

from odyssey_core.backends.numba.simd import LANES, u_insert, u_mul, u_mul_high, u_splat, u_xor
from odyssey_core.random import MULTIPLIER_0, MULTIPLIER_1, ROUNDS, WEYL_0, WEYL_1, stream_of

M0, M1, W0, W1 = np.uint32(MULTIPLIER_0), np.uint32(MULTIPLIER_1), np.uint32(WEYL_0), np.uint32(WEYL_1)
AUGMENT = np.uint32(stream_of("augment"))


@njit
def seeded(order, step, lane):
    """The indices of the sixteen images from ``order[step, lane]`` on, as a vector."""
    images = u_splat(np.uint32(0))
    for i in range(LANES):
        images = u_insert(images, i, np.uint32(order[step, lane + i]))
    return images


@njit
def philox(element, images, epoch, stream, key_0, key_1):
    """Four vectors of random words for the counter (element, image, epoch, stream) of each lane."""
    c0, c1, c2, c3 = u_splat(element), images, u_splat(epoch), u_splat(stream)
    k0, k1 = np.uint32(key_0), np.uint32(key_1)
    for _ in range(ROUNDS):
        high_0, low_0 = u_mul_high(u_splat(M0), c0), u_mul(u_splat(M0), c0)
        high_1, low_1 = u_mul_high(u_splat(M1), c2), u_mul(u_splat(M1), c2)
        c0, c1, c2, c3 = u_xor(u_xor(high_1, c1), u_splat(k0)), low_1, u_xor(u_xor(high_0, c3), u_splat(k1)), low_0
        k0, k1 = np.uint32(k0 + W0), np.uint32(k1 + W1)
    return c0, c1, c2, c3
