"""The source that decides a run's results: every module of the program but those that decide none."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache, cached_property
from pathlib import Path

import odyssey_core

PACKAGES = {"odyssey_core": Path(odyssey_core.__file__).resolve().parent}
PACKAGES["odyssey_run"] = Path(__file__).resolve().parents[1]
# What decides no result: it shows, verifies or serves runs, as all tasks but train do, sends them to MLflow, or tests
# plug-ins. The files of conf/ lie elsewhere unless the program is installed; a run's configuration has their values.
NO_RESULT: tuple[str, ...] = ("odyssey_core.testing.", "odyssey_run.conf.", "odyssey_run.tasks.")
NO_RESULT += tuple(f"odyssey_run.tracking.{name}." for name in ("outbox", "sender", "serving"))
TRAIN = ("odyssey_run.tasks", "odyssey_run.tasks.train")


@dataclass(frozen=True)
class Plugin:
    """A file, or an installed package."""

    name: str  # `mine.py`, or the package's
    files: Mapping[str, bytes] = field(repr=False, hash=False)
    path: Path  # of the file or of the package's folder

    @cached_property
    def digest(self) -> str:
        """SHA-256: of a file as ``sha256sum`` gives it, of a package over the names and digests of its files."""
        each = {name: hashlib.sha256(text).hexdigest() for name, text in sorted(self.files.items())}
        return each[self.name] if self.is_file else hashlib.sha256(repr(each).encode()).hexdigest()

    @property
    def is_file(self) -> bool:
        """Whether a command names it; a package is found where it is installed."""
        return self.name.endswith(".py")


def digest(plugins: Sequence[Plugin] = ()) -> str:
    """SHA-256 over the names and the text of all modules that may decide a result, and of a run's plug-ins."""
    return _digest(tuple((f"plug-in {p.name}/{name}", text) for p in plugins for name, text in p.files.items()))


@cache  # the code that is running, whatever becomes of its files
def _digest(own: tuple[tuple[str, bytes], ...]) -> str:
    sha = hashlib.sha256()
    for name, content in sorted([*modules().items(), *own]):
        sha.update(f"{name} {len(content)}\n".encode())
        sha.update(content)
    return sha.hexdigest()


def modules() -> dict[str, bytes]:
    """The text of each module of the program that may decide a result, by name."""
    found = {}
    for package, place in PACKAGES.items():
        for path in place.rglob("*.py"):
            name = ".".join((package, *path.relative_to(place).with_suffix("").parts)).removesuffix(".__init__")
            if name in TRAIN or not f"{name}.".startswith(NO_RESULT):
                found[name] = path.read_bytes()
    return found
