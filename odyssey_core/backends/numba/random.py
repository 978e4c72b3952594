"""Philox4x32-10 on lanes: one counter per image, the same words as `odyssey_core.random.philox`."""

from odyssey_core.backends.numba.traced import on_lanes
from odyssey_core.backends.numba.vector import high_word, words
from odyssey_core.random import MULTIPLIER_0, MULTIPLIER_1, ROUNDS, WEYL_0, WEYL_1, stream_of

AUGMENT = stream_of("augment")


@on_lanes
def philox(element, images, epoch, stream, key_0, key_1):
    """Four vectors of random words for the counter (element, image, epoch, stream) of each lane.

    Args:
        element, epoch, stream, key_0, key_1: integers.
        images: words, the index of each lane's image.
    """
    c0, c1, c2, c3 = words(element), images, words(epoch), words(stream)
    k0, k1 = words(key_0), words(key_1)
    m0, m1 = words(MULTIPLIER_0), words(MULTIPLIER_1)
    for _ in range(ROUNDS):
        high_0, low_0 = high_word(m0, c0), m0 * c0
        high_1, low_1 = high_word(m1, c2), m1 * c2
        c0, c1, c2, c3 = high_1 ^ c1 ^ k0, low_1, high_0 ^ c3 ^ k1, low_0
        k0, k1 = k0 + words(WEYL_0), k1 + words(WEYL_1)
    return c0, c1, c2, c3
