import subprocess
import sys

import pytest

from odyssey_core.backends import BACKENDS
from odyssey_core.errors import ConfigError, DataError, OdysseyError, ProgramError, ShapeError
from odyssey_core.models import MODELS
from odyssey_core.nn import INITIALIZERS
from odyssey_core.optim import OPTIMIZERS
from odyssey_core.registry import Registry, unknown


@pytest.mark.parametrize("registry", [MODELS, OPTIMIZERS, BACKENDS, INITIALIZERS], ids=lambda r: r.kind)
def test_every_entry_resolves_to_something_callable(registry):
    assert len(registry) >= 2
    assert all(callable(registry[name]) for name in registry)


def test_an_unknown_name_lists_the_known_and_the_nearest():
    with pytest.raises(ConfigError, match=r"^unknown model 'lenet6'; known: airbench, .*mlp, .*; did you mean"):
        MODELS["lenet6"]
    with pytest.raises(ConfigError, match=r"^unknown optimizer 'zzz'; known: adagrad, adam, adamw, .*sgdw$"):
        OPTIMIZERS["zzz"]
    with pytest.raises(ConfigError, match="did you mean 'numba'"):
        BACKENDS["nunba"]
    assert unknown("hook", "mine", {}) == "unknown hook 'mine'; known: none"


def test_membership_raises_nothing():
    assert "sgd" in OPTIMIZERS
    assert "sgdd" not in OPTIMIZERS


def test_strings_are_imported_when_asked_for():
    lazy = Registry("thing", {"path": "pathlib:Path"})
    from pathlib import Path

    assert lazy["path"] is Path


def test_naming_backends_does_not_import_numba():
    script = "import sys; import odyssey_core.backends, odyssey_core.models; print('numba' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.strip() == "False"


def test_users_errors_share_a_base():
    assert all(issubclass(error, OdysseyError) for error in (ConfigError, DataError, ProgramError, ShapeError))
