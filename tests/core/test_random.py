import numpy as np
import pytest

from odyssey_core.random import permutation, philox, stream_of, uniform, words

# Random123's known answers for philox4x32-10: counter, key, result.
KNOWN = [
    ((0, 0, 0, 0), (0, 0), "6627e8d5 e169c58d bc57ac4c 9b00dbd8"),
    ((0xFFFFFFFF,) * 4, (0xFFFFFFFF,) * 2, "408f276d 41c83b0e a20bc7c6 6d5451fd"),
    (
        (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344),
        (0xA4093822, 0x299F31D0),
        "d16cfe09 94fdcceb 5001e420 24126ea1",
    ),
]


@pytest.mark.parametrize(("counter", "key", "answer"), KNOWN)
def test_philox_gives_the_known_answers(counter, key, answer):
    got = philox(counter, key[0] | key[1] << 32)
    assert " ".join(f"{word:08x}" for word in got) == answer


def test_an_element_is_one_word_of_one_block():
    got = words(11, seed=5, stream=7, epoch=2, item=np.array([3, 2**33]))
    assert got.shape == (2, 11)
    assert got[0, 9] == philox((2, 3, 2, 7), 5)[1]
    assert got[1, 4] == philox((1, 0, 2, 7), 5)[0]  # counters are taken modulo 2**32
    np.testing.assert_array_equal(words(3, seed=5, stream=7, epoch=2, item=3), got[0, :3])


def test_every_coordinate_changes_the_words():
    base = {"seed": 1, "stream": "a", "epoch": 0, "item": 0}
    found = [words(4, **base)]
    others = (("seed", 2), ("stream", "b"), ("epoch", 1), ("item", 1))
    found += [words(4, **(base | {name: value})) for name, value in others]
    found.append(words(4, **(base | {"seed": 1 + 2**32})))
    assert len({w.tobytes() for w in found}) == len(found)


def test_uniform_fills_the_unit_interval():
    u = uniform(40_000, seed=0, stream="u")
    assert u.dtype == np.float32
    assert 0 <= u.min() < 1e-3
    assert 1 - 1e-3 < u.max() < 1
    # Standard error of the mean: 0.0014; of the variance: 0.0004.
    assert abs(u.mean() - 0.5) < 0.006
    assert abs(u.var() - 1 / 12) < 0.0016


def test_permutation_holds_every_number_once():
    order = permutation(1000, seed=4, stream="order", epoch=1)
    assert order.dtype == np.int64
    np.testing.assert_array_equal(np.sort(order), np.arange(1000))
    assert (order == np.arange(1000)).sum() < 10
    assert (order != permutation(1000, seed=4, stream="order", epoch=2)).any()


def test_streams_are_the_crc_of_their_names():
    assert stream_of("123456789") == 0xCBF43926  # CRC-32's check value
