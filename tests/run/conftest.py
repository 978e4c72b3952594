import os
import signal

import pytest
from sending import store_in

from odyssey_run import cli
from odyssey_run.tracking.client import make_client

# Variables that the runner goes by, or refuses to.
SETTINGS = (
    "MLFLOW_TRACKING_URI",
    "MLFLOW_EXPERIMENT_NAME",
    "MLFLOW_EXPERIMENT_ID",
    "MLFLOW_RUN_NAME",
    "MLFLOW_RUN_ID",
    "HYDRA_FULL_ERROR",
    "ODYSSEY_PLUGINS",
)


@pytest.fixture(autouse=True, scope="module")
def no_settings_left_over():
    """MLflow's own functions write its settings into the environment, for whatever test comes after."""
    for name in SETTINGS:
        os.environ.pop(name, None)


@pytest.fixture(autouse=True, scope="session")
def signals_as_a_terminal_sets_them():
    """Under nohup, or in a pipeline that ignores it, SIGHUP would be ignored by the runs that tests start, too."""
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGHUP, before)


@pytest.fixture(autouse=True)
def empty_folder(tmp_path, monkeypatch):
    """Every test runs in a folder of its own, with no tracking settings around it."""
    monkeypatch.chdir(tmp_path)
    for name in SETTINGS:
        monkeypatch.delenv(name, raising=False)
    return tmp_path


@pytest.fixture
def mistake(capsys, tmp_path):
    """Runs a command that must be refused: exit code 2, only lines of our own on stderr, nothing written."""

    def run(*argv):
        assert cli.main(argv) == cli.MISTAKE
        lines = capsys.readouterr().err.splitlines()
        assert lines
        assert all(line.startswith("odyssey-run: ") for line in lines), lines
        assert [path.name for path in tmp_path.iterdir() if path.name == "runs"] == []
        return [line.removeprefix("odyssey-run: ") for line in lines]

    return run


@pytest.fixture(scope="module")
def empty_store(tmp_path_factory):
    """A store whose tables are made, to copy: making them takes seconds."""
    folder = tmp_path_factory.mktemp("store")
    make_client(store_in(folder)).search_experiments()
    return (folder / "mlflow.db").read_bytes()


@pytest.fixture
def store(tmp_path, empty_store):
    (tmp_path / "mlflow.db").write_bytes(empty_store)
    return store_in(tmp_path)
