"""Axes as the grammar has them, and points drawn from them."""

import itertools
import math

import pytest
from hydra.errors import HydraException

from odyssey_core.errors import ConfigError
from odyssey_run.config.command_line import typed
from odyssey_run.sweep import space

OPTIONS = {"optim": ["adam", "adamw", "sgd"]}


def axis(text):
    return space.axis(typed(*text.split("=", 1), OPTIONS).varies, text.startswith("optim="))


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("optim.lr=0.1,1e-3", ("0.1", "0.001")),
        ("optim.lr=0.1,0.1,0.2", ("0.1", "0.2")),
        ("optim.lr=1e8,-2.5e7,1e6,1e16,1234567.0,99999.0", ("1e8", "-2.5e7", "1e6", "1e16", "1234567.0", "99999.0")),
        ("x='100000000.0',1000000", ("'100000000.0'", "1000000")),
        ("x=range(1,4)", ("1", "2", "3")),
        ("x=range(0,1,0.25)", ("0.0", "0.25", "0.5", "0.75")),
        ("x=range(0.1,0.4,0.1)", ("0.1", "0.2", "0.3")),
        ("x=range(1,0,-0.3)", ("1.0", "0.7", "0.4", "0.1")),
        ("x=range(1e-3,5e-3,1e-3)", ("0.001", "0.002", "0.003", "0.004")),
        ("x=choice(a,'b c')", ("a", "b\\ c")),
        ("model.hidden=[32],[64,32]", ("[32]", "[64,32]")),
        ("optim=glob(adam*)", ("adam", "adamw")),
    ],
)
def test_values(text, values):
    assert axis(text).values == values


def test_an_interval_of_integers_holds_integers():
    made = axis("x=int(interval(3,5))")
    random = space.np.random.default_rng(0)
    assert made.integer
    assert {made.draw(random) for _ in range(100)} == {"3", "4", "5"}


def test_a_logarithmic_interval_is_even_in_the_logarithm():
    made = axis("x=tag(log,interval(1e-4,1))")
    random = space.np.random.default_rng(0)
    drawn = [float(made.draw(random)) for _ in range(4000)]
    assert all(1e-4 <= x <= 1 for x in drawn)
    # A quarter of the draws in each factor of ten; the standard deviation of such a share is 0.7 %.
    for power in range(-4, 0):
        share = sum(10**power <= x < 10 ** (power + 1) for x in drawn) / len(drawn)
        assert math.isclose(share, 0.25, abs_tol=0.03)


@pytest.mark.parametrize("text", ["x=interval(2,1)", "x=tag(log,interval(0,1))", "x=tag(log,interval(-1.0,1.0))"])
def test_an_interval_that_holds_nothing(text):
    with pytest.raises(ConfigError, match=r"x: expected an interval with .*low < high, got 'x="):
        axis(text)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("x=range(0,1e9)", "has more than 1,000 values; take an interval"),
        ("x=range(1,2,0)", "with a step that is not 0, got 0"),
        ("x=range(1,inf)", "with a step that is not 0"),
        ("x=shuffle(1,2,3)", r"shuffle\(\) would be another plan each time"),
        ("x=tag(fast,choice(1,2))", "the only tag is log"),
        ("x=tag(lgo,interval(1,2))", r"the only tag is log, of an interval; got \['lgo'\]"),
    ],
)
def test_what_a_plan_cannot_go_by(text, message):
    with pytest.raises(ConfigError, match=rf"^x: .*{message}"):
        axis(text)


def test_a_glob_that_fits_nothing():
    with pytest.raises((ConfigError, HydraException), match="no value fits"):
        axis("optim=glob(x*)")


def test_a_grid_turns_the_last_axis_fastest():
    axes = (axis("a=1,2"), axis("b=x,y"))
    assert list(space.grid(axes)) == [tuple(zip("ab", point, strict=True)) for point in itertools.product("12", "xy")]
    assert list(space.grid(())) == [()]


def test_draws_are_the_same_again_and_the_first_of_more():
    axes = (axis("a=interval(0.0,1.0)"), axis("b=x,y,z"))
    few, many = (list(space.drawn(axes, n, 3)) for n in (5, 9))
    assert few == many[:5]
    assert len(set(many)) == 9
    assert list(space.drawn(axes, 5, 4)) != few


def test_corners_hold_every_value_and_every_combination_of_groups():
    axes = (axis("optim=adam,sgd"), axis("a=1,2,3"), axis("b=interval(0.5,1.0)"))
    points = [dict(point) for point in space.corners(axes)]
    for optim in ("adam", "sgd"):
        chosen = [p for p in points if p["optim"] == optim]
        assert {p["a"] for p in chosen} == {"1", "2", "3"}
        assert {p["b"] for p in chosen} == {"0.5", "1"}


def test_a_value_for_people_has_no_quotes():
    assert [space.plain(text) for text in ("b\\ c", "'x'", '"', "0.1")] == ["b c", "x", '"', "0.1"]
