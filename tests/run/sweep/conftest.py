import pytest
from small import SMALL

from odyssey_run import cli
from odyssey_run.runs.recorded import begun, open_run


@pytest.fixture
def sweep(tmp_path, capsys, monkeypatch):
    """Runs ``-m`` with one worker and no tracking; returns exit code, lines of stdout, lines of stderr.

    Pictures, which take longer than the runs, are drawn where a test asks for them.
    """

    def run(
        *arguments: str, small: tuple[str, ...] = SMALL, pictures: bool = False
    ) -> tuple[int, list[str], list[str]]:
        with monkeypatch.context() as patch:
            if not pictures:
                patch.setattr("odyssey_run.sweep.plots.draw", lambda *_: iter(()))
            code = cli.main(["-m", *small, "tracking=none", "sweep.jobs=1", *arguments])
        out, err = capsys.readouterr()
        return code, out.splitlines(), err.splitlines()

    return run


@pytest.fixture
def children(tmp_path):
    """The runs below a sweep, by name of their folder."""

    def find() -> dict[str, object]:
        folders = [path.parent for path in sorted(tmp_path.glob("runs/*/*/journal.jsonl"))]
        return {folder.name: open_run(folder) for folder in folders if begun(folder)}

    return find
