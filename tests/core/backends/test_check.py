"""The check of instruction tables: thousands of corruptions, held to an oracle that knows the row's numbers alone."""

import copy
import re

import numpy as np
import pytest
from harness import numba_backend

from odyssey_core import ops
from odyssey_core.autodiff import gradients
from odyssey_core.backends.base import Feed
from odyssey_core.backends.numba.check import check
from odyssey_core.backends.numba.execute import NumbaExecutable, kernel_addresses
from odyssey_core.backends.numba.table import ABSENT, Buffer
from odyssey_core.errors import ProgramError
from odyssey_core.models import MODELS
from odyssey_core.nn import AvgPool2d, Conv2d, Dropout, Flatten, Linear, MaxPool2d, ReLU, Sequential, Tanh
from odyssey_core.optim import OPTIMIZERS, PLAIN, StepRule, Update

GUARD = 4096
MARK = np.float32(-1234.5)


class Trained:
    """A model's training program and what a step of it needs."""

    def __init__(self, model, shape, batch, optimizer, classes, rule=PLAIN, threads=1):
        losses = ops.cross_entropy(model(ops.images((batch, *shape))), ops.labels(batch), 0.1)
        self.parameters = model.parameters()
        grads = gradients(losses, list(self.parameters.values()))
        updates = [Update(n, p, g, optimizer) for (n, p), g in zip(self.parameters.items(), grads, strict=True)]
        tiles = numba_backend().tiles
        self.executable = NumbaExecutable([losses], self.parameters, updates, rule, 8, threads, tiles)
        rng = np.random.default_rng(1)
        order = np.arange(batch)[None]
        order[:, -2:] = -1
        self.feed = Feed(
            order=order,
            pixels=rng.integers(0, 256, (batch, int(np.prod(shape))), np.uint8),
            labels=rng.integers(0, classes, batch),
            scalars=np.array([(*optimizer.scalars(0, 0.01), *rule.scalars(0))]),
        )
        self.executable.write({n: rng.uniform(-0.1, 0.1, p.shape) for n, p in self.parameters.items()})

    @property
    def program(self):
        return self.executable.program

    def corrupted(self, table=None, phases=None):
        """The program with other rows or phases."""
        program = copy.copy(self.program)
        program.table = program.table if table is None else table
        program.phases = program.phases if phases is None else phases
        return program

    def guarded(self, program, arena=None) -> bool:
        """Runs a step of ``program`` between guard zones; whether these are as they were."""
        size, executable = program.arena_size, copy.copy(self.executable)
        whole = np.full(size + 2 * GUARD, MARK)
        executable._arena = whole[GUARD : GUARD + size]
        executable._arena[...] = self.executable._arena if arena is None else arena
        executable.program = program
        executable.run(self.feed)
        return bool((whole[:GUARD] == MARK).all() and (whole[GUARD + size :] == MARK).all())


def _other_net():
    """What LeNet-5 lacks: padding, strides, tanh, average pooling, overlapping windows, dropout, a bias-free layer."""
    return Sequential(
        {
            "conv1": Conv2d(2, 3, 3, stride=2, padding=1),
            "tanh": Tanh(),
            "pool1": MaxPool2d(3, 2),
            "conv2": Conv2d(3, 4, 2, padding=1, bias=False),
            "relu": ReLU(),
            "pool2": AvgPool2d(2),
            "flatten": Flatten(),
            "dropout": Dropout(0.5),
            "fc": Linear(8, 5),
        }
    )


@pytest.fixture(scope="module")
def lenet5():
    model = MODELS["lenet5"](input_shape=(1, 28, 28), classes=47)
    return Trained(model, (1, 28, 28), 32, OPTIMIZERS["sgd"](momentum=0.9), 47, StepRule(clip_norm=0.5, ema=0.9))


@pytest.fixture(scope="module")
def other():
    return Trained(_other_net(), (2, 11, 13), 16, OPTIMIZERS["adam"](), 5)


def _pitch(features):
    return (features + 15) // 16 * 16


def _conv_maps(f, kernel_height, kernel_width):
    """(elements of the input, of the weight, of the output) of a convolution row, and whether these fit together."""
    high, wide = f["height"] + 2 * f.get("padding", 0), f["width"] + 2 * f.get("padding", 0)
    reach_y = (f["out_height"] - 1) * f["stride"] + kernel_height
    reach_x = (f["out_width"] - 1) * f["stride"] + kernel_width
    fits = reach_y <= high < reach_y + f["stride"] and reach_x <= wide < reach_x + f["stride"]
    return (
        f["channels"] * f["height"] * f["width"] * 16,
        f["out"] * f["channels"] * kernel_height * kernel_width,
        f["out"] * f["out_height"] * f["out_width"] * 16,
        fits,
    )


def _pool_maps(f, size):
    reach = (f["out_height"] - 1) * f["stride"] + size, (f["out_width"] - 1) * f["stride"] + size
    fits = reach[0] <= f["height"] < reach[0] + f["stride"] and reach[1] <= f["width"] < reach[1] + f["stride"]
    return f["channels"] * f["height"] * f["width"] * 16, f["channels"] * f["out_height"] * f["out_width"] * 16, fits


def _eights(count):
    return (count + 7) // 8 * 8


def _pooled_extents(name, variant, f):
    """As `extents`, of rows that walk lists of what a pool's gradient leaves."""
    if name == "max_pool2d_switches":
        x, y, fits = _pool_maps(f, variant[0])
        for axis, kernel in (("height", variant[1]), ("width", variant[2])):
            reach = (f[axis] - 1) * f["conv_stride"] + kernel
            fits &= reach <= f[f"image_{axis}"] < reach + f["conv_stride"]
        fits &= f["pixel"] == 1 or f["pixel"] % 8 == 0
        pairs = 2 * f["out_height"] * f["out_width"] * 16
        return {
            "x": x, "y": y, "grad": y, "values": y, "pairs": pairs, "entries": 2 * y, "counts": 4 * f["channels"],
        }, fits  # fmt: skip
    if name in ("channels_last", "channels_first"):
        border = 2 * f.get("padding", 0)
        pixels = f.get("pixels") or (f["height"] + border) * (f["width"] + border)
        lanes = f["channels"] * (f.get("pixels") or f["height"] * f["width"]) * 16
        images = 16 * _pitch(pixels * _eights(f["channels"]))
        last = name == "channels_last"
        return {"x": lanes if last else images, "y": images if last else lanes, "gate": lanes}, True
    kernel_height, kernel_width = variant[-2:]
    pixel = f.get("pixel") or _eights(f["channels"])
    last = f["out"] * kernel_height * _eights(kernel_width * pixel)
    if name in ("kernel_last", "kernel_first"):
        fits = pixel == _eights(f["channels"]) or pixel == f["channels"] == 1
        return {"first": f["out"] * f["channels"] * kernel_height * kernel_width, "last": last}, fits
    entries = 2 * 4 * f["windows"] * 4 * f["out"]
    images = 16 * _pitch(f["height"] * f["width"] * pixel)
    fits = kernel_height <= f["height"] and kernel_width <= f["width"] and (pixel == 1 or pixel % 8 == 0)
    if name == "pooled_grad_weight":
        columns, first, end, *_ = variant
        fits &= 0 <= first < end <= kernel_height and columns * 8 <= _eights(kernel_width * pixel)
    else:
        fits &= pixel > 1
    lists = {"counts": 4 * f["out"], "entries": entries}
    return {**lists, "x": images + 16, "dw": last, "weight": last, "dx": images}, fits


def extents(name, variant, f, program):
    """What a row touches, worked out from its kernel's loops: ({operand: elements}, whether its numbers make sense)."""
    if name.startswith("conv2d"):
        *tile, kernel_height, kernel_width = variant
        x, w, y, fits = _conv_maps(f, kernel_height, kernel_width)
        tiles = {"conv2d": ("out", "out_width"), "conv2d_grad_input": ("channels",), "conv2d_grad_weight_wide": ()}
        fits &= all(size <= f[span] for span, size in zip(tiles.get(name, ("out",)), tile, strict=False))
        if name == "conv2d_grad_weight_wide":
            pixels, pitch = f["out_height"] * f["out_width"], _pitch(f["out"])
            fits &= tile[0] <= kernel_width and tile[1] * 16 <= pitch
            taps = f["channels"] * kernel_height * kernel_width
            return {"x": x, "grad": pixels * 16 * pitch, "dw": taps * pitch}, fits
        if name == "conv2d_grad_weight":
            fits &= tile[1] <= kernel_width and 16 % tile[2] == 0
        return {
            "conv2d": {"x": x, "weight": w, "bias": f["out"], "y": y},
            "conv2d_grad_input": {"grad": y, "weight": w, "gate": x, "dx": x},
            "conv2d_grad_weight": {"x": x, "grad": y, "dw": w * 16},
        }[name], fits
    if name.startswith(("pooled", "channels", "kernel", "max_pool2d_switches")):
        return _pooled_extents(name, variant, f)
    if "pool2d" in name:
        x, y, fits = _pool_maps(f, variant[0])
        return {"x": x, "y": y, "grad": y, "dx": x}, fits
    if name.startswith(("linear", "transpose")):
        i, out = f["features"], f.get("out", 1)
        weight = out * _pitch(i)
        fits = {"linear": ("out",), "linear_grad_input": ("features",), "linear_grad_weight": ("out",)}
        fits = all(size <= f[span] for span, size in zip(fits.get(name, ()), variant, strict=False))
        return {
            "linear": {"x": i * 16, "weight": weight, "bias": out, "y": out * 16},
            "linear_grad_input": {"grad": out * 16, "weight": weight, "gate": i * 16, "dx": i * 16},
            "linear_grad_weight": {"x": 16 * _pitch(i), "grad": out * 16, "dw": weight},
            "transpose": {"x": i * f.get("pixels", 1) * 16, "y": f.get("pixels", 1) * 16 * _pitch(i)},
        }[name], fits and (name != "linear_grad_weight" or variant[1] * 16 <= _pitch(i))
    if name == "pad":
        x = f["channels"] * f["height"] * f["width"] * 16
        border = f["channels"] * (f["height"] + 2 * f["padding"]) * (f["width"] + 2 * f["padding"]) * 16
        return {"x": x, "y": border}, f["padding"] >= 0
    if name in ("sgd", "adam", "rmsprop", "sum_squares", "clip", "ema"):
        groups, stride = f.get("groups", 1), f.get("stride", 0)
        fits = f["length"] % 16 == 0 and groups >= 1 and (groups == 1 or stride >= 0)
        grads = (groups - 1) * stride + f["length"]
        beside = dict.fromkeys(("parameter", "velocity", "mean", "square", "average", "summed"), f["length"])
        return {"grads": grads, "squares": f.get("parts", 1) * 16, **beside}, fits
    if name == "turn":
        return {"x": f["taps"] * _pitch(f["out"]), "y": f["out"] * f["taps"]}, True
    if name == "totals":
        return {"x": f["count"] * 16, "y": f["count"]}, True
    return {
        "gather": ({"y": f.get("size", 0) * 16}, f.get("size") == program.pixels),
        "emit": ({"x": f.get("size", 0) * 16}, f.get("column", 0) + f.get("size", 0) <= program.outputs),
        "batch_weight": ({"y": 16}, True),
        "grad_bias": ({"grad": f.get("channels", 0) * f.get("pixels", 0) * 16, "db": f.get("channels", 0)}, True),
        "cross_entropy": ({"logits": f.get("classes", 0) * 16, "losses": 16}, True),
        "cross_entropy_grad": (dict.fromkeys(("logits", "dz"), f.get("classes", 0) * 16) | {"grad": 16}, True),
    }.get(name) or (dict.fromkeys("abxy", f["vectors"] * 16), True)


# How many rows of a loop may be counted in int64 without overflow: sizes beyond are nonsense anyway.
SANE = 2**31


def safe(program, r) -> bool:
    """Whether row r stays inside the arena and agrees with itself. Knows nothing of buffers and the check's layouts."""
    row = program.table[r].tolist()
    if not 0 <= row[0] < len(program.kernels):
        return False
    instruction, variant = program.kernels[row[0]]
    f = dict(zip(instruction.fields, row[1:], strict=False))
    dims = {name: f[name] for name in instruction.dims}
    may_be_zero = {"relu", "gated", "first_block", "column", "padding", "stream", "threshold"}
    may_be_zero |= {"stride"} if "groups" in dims else set()
    if any(value < (0 if name in may_be_zero else 1) or value >= 2 * SANE for name, value in dims.items()):
        return False
    sizes, fits = extents(instruction.name, variant, f, program)
    if not fits:
        return False
    for operand in (*instruction.reads, *instruction.writes):
        if f[operand] == ABSENT and operand in ("bias", "gate", "velocity"):
            continue
        if f[operand] < 0 or f[operand] + sizes[operand] > program.arena_size:
            return False
    return True


def _corruptions(program, count, seed):
    """(row, column, value): small shifts, other operands' offsets, huge and negative numbers, zero."""
    rng = np.random.default_rng(seed)
    offsets = [b.offset for b in sorted(program.buffers)]
    for _ in range(count):
        r, c = int(rng.integers(len(program.table))), int(rng.integers(0, 20))
        width = 1 + len(program.kernels[program.table[r, 0]][0].fields)
        c = c % width if rng.random() < 0.95 else c
        old = int(program.table[r, c])
        kind = rng.integers(6)
        if kind == 0:
            value = old + int(rng.choice([-64, -16, -2, -1, 1, 2, 15, 16, 64]))
        elif kind == 1:
            value = int(rng.choice(offsets))
        elif kind == 2:
            value = int(rng.integers(0, 64))
        elif kind == 3:
            value = int(rng.integers(-(2**62), 2**62))
        elif kind == 4:
            value = int(rng.choice([-1, 0, 2**31 - 1, 2**31, 2**32, program.arena_size, 2**62, -(2**63)]))
        else:
            value = old * int(rng.integers(2, 5)) if abs(old) < 2**40 else 0
        if value != old:
            yield r, c, value


def _fuzz(trained, count, seed):
    program = trained.program
    rejected, accepted = 0, []
    for r, c, value in _corruptions(program, count, seed):
        table = program.table.copy()
        table[r, c] = value
        corrupted = trained.corrupted(table)
        where = f"row {r}, column {c}: {program.table[r, c]} -> {value}; {program.describe(r)}"
        try:
            check(corrupted)
        except ProgramError as error:
            rejected += 1
            assert re.search(rf"rows? (\d+ and )?{r}\b|rows {r} and", str(error)), f"{where}: {error}"
        else:
            assert safe(corrupted, r), f"accepted, and leaves the arena or contradicts a shape: {where}"
            accepted.append((where, corrupted))
    for where, corrupted in accepted[:200]:
        assert trained.guarded(corrupted), f"wrote outside the arena: {where}"
    return rejected, len(accepted)


@pytest.mark.parametrize(("program", "count", "seed"), [("lenet5", 3000, 1), ("other", 7600, 2)])
def test_corruptions_are_rejected_or_harmless(program, count, seed, request):
    rejected, accepted = _fuzz(request.getfixturevalue(program), count, seed)
    assert rejected + accepted >= {"lenet5": 2800, "other": 7200}[program]
    assert rejected > 4 * accepted > 0


def test_the_oracle_accepts_sound_programs_and_sees_faults(lenet5, other):
    for trained in (lenet5, other):
        assert all(safe(trained.program, r) for r in range(len(trained.program.table)))
        assert trained.guarded(trained.program)
        for r in range(len(trained.program.table)):
            instruction, _ = trained.program.kernels[trained.program.table[r, 0]]
            table = trained.program.table.copy()
            table[r, 1] = trained.program.arena_size - 1  # the first operand, whatever it is
            assert not safe(trained.corrupted(table), r), instruction.name


def _kinds(trained):
    """One row of each instruction."""
    program, found = trained.program, {}
    for r, row in enumerate(program.table):
        found.setdefault(program.kernels[row[0]][0].name, r)
    return found


def test_every_operand_outside_the_arena_is_rejected(lenet5, other):
    for trained in (lenet5, other):
        for name, r in _kinds(trained).items():
            instruction, _ = trained.program.kernels[trained.program.table[r, 0]]
            for c in range(1, 1 + len(instruction.reads) + len(instruction.writes)):
                for value in (-2, -16, trained.program.arena_size, trained.program.arena_size - 1, 2**40):
                    table = trained.program.table.copy()
                    table[r, c] = value
                    with pytest.raises(ProgramError, match=rf"row {r}, {name}.*starts at"):
                        check(trained.corrupted(table))


def test_every_dimension_that_contradicts_a_shape_is_rejected(lenet5):
    """LeNet-5 has no dimension that could change by one and still fit."""
    program = lenet5.program
    loose = {"relu", "gated", "padding", "column"}
    for r in range(len(program.table)):
        instruction, _ = program.kernels[program.table[r, 0]]
        first = 1 + len(instruction.reads) + len(instruction.writes)
        for c, name in enumerate(instruction.dims, first):
            for step in () if name in loose else (1, -1):
                table = program.table.copy()
                table[r, c] += step
                if name == "groups" and table[r, c] in (1, 2):
                    continue  # fewer or more gradients summed: wrong, but of one shape and inside the arena
                rounded = {"linear_grad_weight": "features", "conv2d_grad_weight_wide": "out"}.get(instruction.name)
                if name == rounded and _pitch(table[r, c]) == _pitch(program.table[r, c]):
                    continue  # these walk whole vectors of it: the same ones
                with pytest.raises(ProgramError, match=rf"row {r},"):
                    check(lenet5.corrupted(table))


def _blocks_used(program):
    """(row, block) pairs that would run, worked out from the phases alone."""
    for groups in program.phases.tolist():
        for first, body, end, block0, block1 in groups:
            yield from ((r, b) for b in range(block0, block1) for r in range(first, body))
            yield from ((r, block0) for r in range(body, end))


@pytest.mark.parametrize("fill", ["random", "ones"])
def test_rows_that_follow_lists_stay_inside_whatever_is_listed(lenet5, fill):
    """Places and counts are data: the check cannot know them, so the kernels bound them."""
    size = lenet5.program.arena_size
    bits = np.random.default_rng(4).integers(0, 2**32, size, np.uint32) if fill == "random" else np.uint32(2**32 - 1)
    arena = np.full(size, bits, np.uint32).view(np.float32)
    rows = [r for name, r in _kinds(lenet5).items() if name.startswith(("pooled", "max_pool2d_switches"))]
    assert len(rows) == 3
    for r in rows:
        assert lenet5.guarded(lenet5.corrupted(phases=np.array([[[r, r + 1, r + 1, 0, 1]]])), arena), r


NEEDS_A_BLOCK = {"gather", "emit", "ingest", "batch_weight", "cross_entropy", "cross_entropy_grad", "dropout"}


def _reads_no_block_beyond(program) -> bool:
    return all(
        0 <= b < program.blocks
        for r, b in _blocks_used(program)
        if program.kernels[program.table[r, 0]][0].name in NEEDS_A_BLOCK
    )


@pytest.mark.parametrize("program", ["lenet5", "other"])
def test_corrupted_phases(program, request):
    """One or two cells of the phases: what is accepted runs every row where its images are, and nowhere else."""
    trained = request.getfixturevalue(program)
    rng = np.random.default_rng(8)
    rejected = 0
    for _ in range(600):
        phases = trained.program.phases.copy()
        p, g = rng.integers(phases.shape[0]), rng.integers(phases.shape[1])
        for _ in range(int(rng.integers(1, 4))):
            choices = [*rng.integers(-2, len(trained.program.table) + 3, 2), *range(-1, 5), 2**62, *phases[p, g]]
            phases[p, g, rng.integers(5)] = rng.choice(choices)
        if (phases == trained.program.phases).all():
            continue
        corrupted = trained.corrupted(phases=phases)
        try:
            check(corrupted)
        except ProgramError:
            rejected += 1
        else:
            assert _reads_no_block_beyond(corrupted), phases[p, g]
            assert trained.guarded(corrupted)
    assert rejected > 300


def test_every_block_is_computed_by_one_group(lenet5):
    """A block left out would train on stale gradients; one computed twice would count twice."""
    for cell, value in (((0, 0, 4), 0), ((0, 1, 3), 0), ((0, 1, 4), 1)):
        phases = lenet5.program.phases.copy()
        phases[(*cell[:2], cell[2])] = value
        with pytest.raises(ProgramError, match="block"):
            check(lenet5.corrupted(phases=phases))


def test_rows_after_the_blocks_may_not_start_behind_them(lenet5):
    """An idle group's first block may be the end of the blocks only if it has no rows."""
    model = MODELS["linear"](input_shape=(1, 4, 4), classes=3)
    logits = model(ops.images((16, 1, 4, 4)))
    program = copy.copy(numba_backend().compile([logits], model.parameters()).program)
    check(program)
    program.phases = program.phases.copy()
    program.phases[0, 0] = 0, 0, len(program.table), 1, 1
    with pytest.raises(ProgramError, match="block"):
        check(program)


def test_rows_in_no_group_or_in_two_are_named(lenet5):
    phases = lenet5.program.phases.copy()
    phases[0, 0, 2] -= 1
    phases[0, 0, 1] = min(phases[0, 0, 1], phases[0, 0, 2])
    with pytest.raises(ProgramError, match=rf"row {phases[0, 0, 2]} belongs to 0 groups"):
        check(lenet5.corrupted(phases=phases))
    phases = lenet5.program.phases.copy()
    phases[0, 1] = phases[0, 0]
    with pytest.raises(ProgramError, match=r"race|row \d+ belongs to"):
        check(lenet5.corrupted(phases=phases))


def _moved_to_group_0(program, name, operand):
    """The table with an operand of group 1's first row of a kind where group 0's lies."""
    (first, _, end, *_), (other_first, *_) = program.phases[0, :2].tolist()
    table = program.table.copy()
    r = next(r for r in range(first, end) if program.kernels[table[r, 0]][0].name == name)
    column = 1 + program.kernels[table[r, 0]][0].fields.index(operand)
    table[r + other_first - first, column] = table[r, column]
    return table


RACE = r"rows \d+ and \d+: groups 0 and 1 race|groups 1 and 0 race"


def test_groups_that_race_are_named(lenet5):
    """Group 1 leaving its gradient where group 0 leaves its own."""
    with pytest.raises(ProgramError, match=RACE):
        check(lenet5.corrupted(_moved_to_group_0(lenet5.program, "linear_grad_weight", "dw")))


def test_scratch_is_shared_by_the_groups_of_one_worker_alone(lenet5):
    """Group 1 computing where group 0 computes: as it should be for one worker, a race for two."""
    check(lenet5.program)
    program = lenet5.corrupted()
    program.workers = 2
    with pytest.raises(ProgramError, match=RACE):
        check(program)
    model = MODELS["lenet5"](input_shape=(1, 28, 28), classes=47)
    two = Trained(model, (1, 28, 28), 32, OPTIMIZERS["sgd"](), 47, threads=2)
    program = two.corrupted(_moved_to_group_0(two.program, "conv2d", "y"))
    with pytest.raises(ProgramError, match=RACE):
        check(program)


def test_sums_of_squares_that_race_are_named(lenet5):
    """Two stretches that would add up to one: the norm would lack the other."""
    program = lenet5.program
    table = program.table.copy()
    first, second = [r for r, row in enumerate(table) if program.kernels[row[0]][0].name == "sum_squares"][:2]
    column = 1 + program.kernels[table[first, 0]][0].fields.index("squares")
    table[second, column] = table[first, column]
    with pytest.raises(ProgramError, match=rf"rows {first} and {second}: groups 0 and 1 race"):
        check(lenet5.corrupted(table))


def test_parameters_are_written_by_updates_alone(lenet5):
    """A gradient of the right shape may not land on its weight."""
    program = lenet5.program
    table = program.table.copy()
    r = _kinds(lenet5)["linear_grad_weight"]
    instruction, _ = program.kernels[table[r, 0]]
    columns = dict(zip(instruction.fields, range(1, 24), strict=False))
    shape = table[r, columns["out"]], -(-table[r, columns["features"]] // 16) * 16
    weight = next(b for b in program.buffers if b.role == "parameter" and b.shape == shape)
    table[r, columns["dw"]] = weight.offset
    with pytest.raises(ProgramError, match=r"dw: may not write \['parameter'\]"):
        check(lenet5.corrupted(table))


def test_a_buffer_outside_the_arena_is_rejected(lenet5):
    program = lenet5.corrupted()
    program.buffers = {*program.buffers, Buffer(program.arena_size - 8, (16,), "scratch")}
    with pytest.raises(ProgramError, match="outside the arena"):
        check(program)
    program = lenet5.corrupted()
    program.arena_size -= 16 * 16
    with pytest.raises(ProgramError, match="outside the arena"):
        check(program)


def test_tables_of_another_width_are_rejected(lenet5):
    with pytest.raises(ProgramError, match="expected rows of 24 integers"):
        check(lenet5.corrupted(lenet5.program.table[:, :-1]))


def test_a_bad_program_never_reaches_a_kernel(lenet5, monkeypatch):
    """`compile` checks before it asks for any kernel's address."""
    from odyssey_core.backends.numba import execute

    def corrupted_lay_out(*arguments):
        program, layout = lay_out(*arguments)
        program.table[0, 1] = program.arena_size
        return program, layout

    lay_out = execute.lay_out
    monkeypatch.setattr(execute, "lay_out", corrupted_lay_out)
    monkeypatch.setattr(execute, "kernel_addresses", lambda program: pytest.fail("a kernel was asked for"))
    x = ops.input_("x", (3, 4))
    with pytest.raises(ProgramError, match="row 0"):
        numba_backend().compile([ops.relu(x)], {})
    assert kernel_addresses is not execute.kernel_addresses


def test_the_listing_names_every_row(lenet5):
    text = lenet5.program.listing()
    rows = re.findall(r"^ [ +] *(\d+)  (\w+)", text, re.M)
    names = [lenet5.program.kernels[row[0]][0].name for row in lenet5.program.table]
    assert [name for _, name in rows] == names
    assert [int(r) for r, _ in rows] == list(range(len(names)))
    assert re.search(r"^phase 0, group 1: blocks 1 to 1$", text, re.M)
    assert re.search(r"gather y=\d+ size=784 scale=0.00392157 shift=-?0", text)
    assert re.search(r"conv2d\[\d+, \d+, 5, 5\] x=\d+ weight=0 bias=\d+ y=\d+ channels=1 height=28 .* relu=1", text)
    assert re.search(r"phase 1, group 0: .*\n +\+ *\d+  sum_squares .* groups=2 ", text)
    assert re.search(r"  clip .* parts=8 .* clip_norm=0.5\n", text)
    assert re.search(
        r"  sgd .* groups=1 .* momentum=0.9 nesterov=0 weight_decay=0\n .*  ema parameter=\d+ average=\d+ length=\d+\n",
        text,
    )
