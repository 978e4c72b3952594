"""The package is a plug-in like others: found by its entry points, and a part of the code of runs that use it."""

from dataclasses import replace

import pytest

from odyssey_core.data import DATASETS
from odyssey_core.data.preparation import READERS, Preparation
from odyssey_core.errors import ConfigError
from odyssey_run import api, sources


def test_its_data_sets_and_readers_are_found_by_their_names():
    for name in ("digits", "emnist", "glyphs"):
        assert DATASETS[name].__module__ == f"odyssey_characters.{name}"
        assert DATASETS.added[name] == "odyssey_characters"
    assert READERS["handwriting"].__module__ == "odyssey_characters.handwriting"


@pytest.mark.parametrize(("data", "uses"), [("digits", True), ("glyphs", True), ("emnist", True), ("mnist", False)])
def test_it_is_a_part_of_the_code_of_runs_that_use_it(data, uses):
    request = api.compose(f"data={data}", "tracking=none")
    assert [plugin.name for plugin in request.plugins] == ["odyssey_characters"] * uses
    assert (sources.digest(request.plugins) != sources.digest()) == uses
    for plugin in request.plugins:
        assert "glyphs.py" in plugin.files
        changed = replace(plugin, files=plugin.files | {"glyphs.py": b"SIZE = 29"})
        assert sources.digest((changed,)) != sources.digest((plugin,))


def test_a_preparation_that_nobody_defines_is_told():
    with pytest.raises(ConfigError, match=r"unknown preparation 'handwritten'; known: .*did you mean 'handwriting'\?"):
        Preparation("handwritten").reader()
