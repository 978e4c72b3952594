"""The source that decides a run's results: every module that training imports, found by following imports."""

import hashlib
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache, cached_property
from pathlib import Path

import odyssey_core

PACKAGES = {"odyssey_core": Path(odyssey_core.__file__).resolve().parent}
PACKAGES["odyssey_run"] = Path(__file__).resolve().parents[1]
ROOTS = ("odyssey_run.config.request", "odyssey_run.tasks.train")
_NAME = r"(?:odyssey_core|odyssey_run)[\w.]*"
# Read with expressions, since parsing takes a third of a second; a test holds them against the parser.
_FROM = re.compile(rf"^[ \t]*from[ \t]+({_NAME})[ \t]+import[ \t]*(\([^)]*\)|[^\n]*)", re.M)
_IMPORT = re.compile(r"^[ \t]*import[ \t]+(odyssey_[^\n]*)", re.M)
_REGISTERED = re.compile(r'"(odyssey_core[\w.]*):\w+"')  # what a configuration may name; tasks decide no result
_COMMENT = re.compile(r"#[^\n]*")
_WORD = re.compile(r"[\w.]+")


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
    """SHA-256 over the names and the text of all of them; of a run's plug-ins too, and of what those import of the
    program."""
    return _digest(tuple((f"plug-in {p.name}/{name}", text) for p in plugins for name, text in p.files.items()))


@cache  # the code that is running, whatever becomes of its files
def _digest(own: tuple[tuple[str, bytes], ...]) -> str:
    roots = {name for _, text in own for name in _imported(text.decode(errors="replace"))}
    sha = hashlib.sha256()
    for name, content in sorted([*modules(roots).items(), *own]):
        sha.update(f"{name} {len(content)}\n".encode())
        sha.update(content)
    return sha.hexdigest()


def modules(also: Iterable[str] = ()) -> dict[str, bytes]:
    """The text of each module, by name: those that the program's roots import, and other names."""
    found: dict[str, bytes] = {}
    known = {*ROOTS, *also}
    waiting = list(known)
    while waiting:
        name = waiting.pop()
        if path := _file(name):
            found[name] = path.read_bytes()
            fresh = {*_imported(found[name].decode()), name.rpartition(".")[0]} - known
            known |= fresh
            waiting += fresh
    return found


def _imported(text: str) -> Iterator[str]:
    """Every name that may be a module's."""
    text = _COMMENT.sub("", text)
    for module, names in _FROM.findall(text):
        yield module
        yield from (f"{module}.{name}" for name in _WORD.findall(names))
    for names in _IMPORT.findall(text):
        yield from _WORD.findall(names)
    yield from _REGISTERED.findall(text)


def _file(name: str) -> Path | None:
    package, *rest = name.split(".")
    if package not in PACKAGES:
        return None
    place = PACKAGES[package].joinpath(*rest)
    return next((p for p in (place / "__init__.py", place.with_suffix(".py")) if p.is_file()), None)
