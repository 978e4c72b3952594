"""Update rules on a stretch of the parameters: the groups' gradients are summed in order of group, then applied."""

from collections.abc import Callable, Mapping
from functools import cache

import numpy as np

from odyssey_core.backends.numba.instruction import Constant, Index, Instruction, Repeated, Step, instruction
from odyssey_core.backends.numba.memory import load, store
from odyssey_core.backends.numba.traced import LANES, on_lanes
from odyssey_core.backends.numba.vector import fma, splat, sqrt, total
from odyssey_core.optim import WholeRule

ZERO = np.float32(0)


def _stretches(d, *names: str) -> dict[str, tuple[int, ...] | Repeated]:
    """Operands of ``length`` elements, and the gradients of each group."""
    if d["length"] % LANES or d.get("stride", 0) % LANES:
        raise ValueError(f"length {d['length']} and stride {d.get('stride', 0)} must be whole vectors")
    grads = {"grads": Repeated((d["length"],), d["groups"], d["stride"])} if "groups" in d else {}
    return {**grads, **dict.fromkeys(names, (d["length"],))}


@instruction(
    reads="grads",
    writes="summed squares",
    shapes=lambda d: {**_stretches(d, "summed"), "squares": (LANES,)},
)
def sum_squares(memory, grads, summed, squares, length, groups, stride: Index):
    """Sums the groups' gradients for good, and the squares of the sums lane by lane."""
    s = splat(ZERO)
    for at in range(0, length, LANES):
        g = load(memory, grads + at)
        for k in range(1, groups):
            g = g + load(memory, grads + k * stride + at)
        store(memory, summed + at, g)
        s = fma(g, g, s)
    store(memory, squares, s)


@instruction(reads="values", writes="squares", shapes=lambda d: {"values": (d["length"],), "squares": (LANES,)})
def squares_of(memory, values, squares, length):
    """The squares of values, summed lane by lane."""
    s = splat(ZERO)
    for at in range(values, values + length, LANES):
        s = fma(load(memory, at), load(memory, at), s)
    store(memory, squares, s)


@instruction(reads="squares", writes="norm", shapes=lambda d: {"squares": (d["parts"], LANES), "norm": (LANES,)})
def norm_of(memory, squares, norm, parts):
    """The root of the sum of all squares, in every lane."""
    s = load(memory, squares)
    for i in range(1, parts):
        s = s + load(memory, squares + i * LANES)
    store(memory, norm, sqrt(splat(total(s))))


@instruction(reads="grads", writes="summed", shapes=lambda d: _stretches(d, "summed"))
def sum_groups(memory, grads, summed, length, groups, stride: Index):
    """The sum of the groups' parts, in order of group."""
    for at in range(0, length, LANES):
        g = load(memory, grads + at)
        for k in range(1, groups):
            g = g + load(memory, grads + k * stride + at)
        store(memory, summed + at, g)


def update_of(rule: WholeRule) -> Instruction:
    """The instruction that applies a rule: its operands and numbers are those that the rule's signature names.

    What a rule gives for the gradient goes in the place of the first group's.
    """
    return _update_of(rule.parts, tuple(rule.constants), rule.gives)


@cache
def _update_of(parts: tuple[Callable, ...], constants: tuple[str, ...], gives: str) -> Instruction:
    rule = WholeRule(parts, dict.fromkeys(constants, 0.0), gives=gives)
    slots = dict.fromkeys(rule.slots)
    numbers = dict.fromkeys(rule.constants, Constant) | dict.fromkeys(rule.values, Step)
    read, changed = ("grads", "parameter") if gives == "p" else ("parameter", "grads")

    @on_lanes
    def apply(memory, at, g, grads, parameter, kept, numbers_, norms):
        given = dict(zip(numbers, numbers_, strict=True))
        given |= {name: load(memory, place) for name, place in zip(rule.norms, norms, strict=True)}
        p, *before = [load(memory, place + at) for place in (parameter, *kept)]
        places = parameter if gives == "p" else grads, *kept
        for place, after in zip(places, rule(p, g, tuple(before), given), strict=True):
            store(memory, place + at, after)

    def update(memory, feed, step, grads, parameter, kept, length, groups, stride: Index, numbers, norms):
        for at in range(0, length, LANES):
            g = load(memory, grads + at)
            for k in range(1, groups):
                g = g + load(memory, grads + k * stride + at)
            apply(memory, at, g, grads, parameter, kept, numbers, norms)

    def shapes(d: Mapping[str, int]):
        return {**_stretches(d, "parameter", *slots), **dict.fromkeys(rule.norms, (LANES,))}

    update.__name__ = rule.name
    update.__module__ = next((p.__module__ for p in parts if not p.__module__.startswith("odyssey_core.")), __name__)
    update.__qualname__ = "/".join(f"{part.__module__}.{part.__qualname__}" for part in rule.parts)
    return Instruction(
        update, (read, *rule.norms), (changed, *slots), shapes, updates=frozenset(("parameter", *slots)),
        bundles={"kept": slots, "numbers": numbers, "norms": dict.fromkeys(rule.norms)},
    )  # fmt: skip
