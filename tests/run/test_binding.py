from typing import Annotated, Any, Literal

import pytest

from odyssey_core.fitting import Misfit, describe, fit
from odyssey_core.ranges import Range
from odyssey_run.config.binding import bind


@pytest.mark.parametrize(
    ("value", "annotation", "expected"),
    [
        (1, float, 1.0),
        (3, int, 3),
        (True, bool, True),
        ("a", str, "a"),
        (None, int | None, None),
        (3, int | None, 3),
        ([1, 2], tuple[int, ...], (1, 2)),
        ([1, 2], tuple[float, float], (1.0, 2.0)),
        ([], tuple[int, ...], ()),
        ([1], list[float], [1.0]),
        ("a", Literal["a", "b"], "a"),
        (0.0, Annotated[float, Range(0, 1, below=True)], 0.0),
        ({"a": 1}, dict[str, Any], {"a": 1}),
    ],
)
def test_fitting_values(value, annotation, expected):
    got = fit(value, annotation)
    assert got == expected
    assert type(got) is type(expected)


@pytest.mark.parametrize(
    ("value", "annotation", "message"),
    [
        (True, int, "an integer"),
        (True, float, "a number"),
        (1, bool, "true or false"),
        (1.0, int, "an integer"),
        (float("inf"), float, "a number"),
        ("1", float, "a number"),
        (1, str, "text"),
        (None, int, "an integer"),
        ("x", int | None, "an integer or null"),
        ([1, 2, 3], tuple[float, float], "a list of 2: a number, a number"),
        ([True], tuple[int, ...], "a list of an integer each"),
        ("ab", tuple[str, ...], "a list of text each"),
        (1, Literal[True], "one of True"),
        ("c", Literal["a", "b"], "one of a, b"),
        (1.0, Annotated[float, Range(0, 1, below=True)], "a number from 0 to below 1"),
        (0, Annotated[int, Range(1)], "an integer at least 1"),
        ([1], dict[str, Any], "a mapping"),
    ],
)
def test_misfits_say_what_was_expected(value, annotation, message):
    with pytest.raises(Misfit) as misfit:
        fit(value, annotation)
    assert str(misfit.value) == message
    if not isinstance(annotation, type) or annotation is not Any:
        assert describe(annotation) == message


def component(input_shape: "NotImported", width: "int", rate: float = 0.5):  # noqa: F821
    return width, rate


def test_bind_reports_unknown_missing_and_wrong_together():
    arguments, faults = bind(component, {"widht": 3, "rate": "fast"}, "model", ("input_shape",))
    assert arguments == {}
    assert faults == [
        "unknown key model.widht; model has width, rate; did you mean model.width?",
        "model.rate: expected a number, got the text 'fast'",
        "model.width: expected an integer, got nothing; set it",
    ]


def test_a_provided_argument_is_no_key():
    faults = bind(component, {"width": 1, "input_shape": [1]}, "model", ("input_shape",))[1]
    assert faults == ["unknown key model.input_shape; model has width, rate"]


def test_a_value_left_open_must_be_set():
    assert bind(component, {"width": "???"}, "model", ("input_shape",))[1] == [
        "model.width: expected an integer, got nothing; set it"
    ]
