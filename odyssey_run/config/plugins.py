"""Plug-ins: code that a person names on the command line or installs, and that is then a part of the run.

A file is named by ``--plugin FILE.py`` or ODYSSEY_PLUGINS, never by a configuration; a package is found by its entry
points. Their digests are part of the digest of the run's code, and whatever works on a run later asks for them.
"""

import ast
import importlib.util
import json
import os
import socket
import sys
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from traceback import walk_tb
from types import ModuleType
from typing import Any

from odyssey_core import register
from odyssey_core.errors import ConfigError, OdysseyError, shortened
from odyssey_core.registry import NAME, Registry, loading, resolved
from odyssey_run.config.sources import PACKAGES
from odyssey_run.config.sources import Plugin as Plugin

FLAG, VARIABLE = "--plugin", "ODYSSEY_PLUGINS"
FOLDER, TAG = "plugins", "odyssey.plugin."  # of a run's files; in front of the tags that hold digests
_lock = threading.RLock()
_loaded: dict[str, Plugin] = {}  # files, by name
_kernels: dict[str, list[tuple[str, Any]]] = {}  # the rules of lowering that a file added, each with its operation


def of_environment() -> list[str]:
    return [path for path in os.environ.get(VARIABLE, "").split(os.pathsep) if path]


def flags(plugins: Iterable[Plugin]) -> tuple[str, ...]:
    """Those that are files, as a command names them."""
    return tuple(word for plugin in plugins if plugin.is_file for word in (FLAG, str(plugin.path)))


def load(paths: Iterable[str | Plugin]) -> tuple[Plugin, ...]:
    """Runs plug-in files, each once for its text; one that is loaded stays as it is.

    Raises:
        ConfigError: one that is no Python file, fails, or registers nothing or what is known already.
    """
    files: dict[str, Path] = {}
    given = list(dict.fromkeys(paths))
    for path in (each for each in given if isinstance(each, str)):
        place = Path(path)
        if place.suffix != ".py" or not place.is_file():
            got = "a file of another kind" if place.exists() else "no such file"
            got = "a folder; a package is installed and found by its entry points" if place.is_dir() else got
            raise ConfigError(f"{FLAG} {shortened(path)}: expected a Python file, got {got}")
        if not NAME.fullmatch(place.name):
            raise ConfigError(f"{FLAG} {shortened(path)}: expected a name of letters, digits and _.-; rename the file")
        if place.name in files and not files[place.name].samefile(place):
            raise ConfigError(f"{FLAG} {path}: {files[place.name]} has the same name; rename one of them")
        files[place.name] = place
    adopted = (adopt(place.name, place.read_bytes(), place) for place in files.values())
    return (*adopted, *(each for each in given if isinstance(each, Plugin)))


def adopt(name: str, text: bytes, path: Path) -> Plugin:
    """Runs a plug-in's text, unless it is what was loaded last under its name. Raises ConfigError as `load` does."""
    plugin = Plugin(name, {name: text}, path)
    with _lock:
        before = _loaded.get(name)
        if before is None or before.digest != plugin.digest:
            if before:
                _withdraw(name)
            rules = _rules()
            try:
                with loading(name):
                    _run(plugin)
                _kernels[name] = [item for item in _rules() if item not in rules]
            except BaseException:
                _withdraw(name)
                raise
            _loaded[name] = plugin
        return _loaded[name]


def _registries() -> Iterator[Registry]:
    return map(resolved, register.REGISTRIES.values())


def _rules() -> list[tuple[str, Any]]:
    lowering = sys.modules.get("odyssey_core.backends.numba.lower")
    return [(op, rule) for op, rules in lowering.RULES.items() for rule in rules] if lowering else []


def _withdraw(name: str) -> None:
    _loaded.pop(name, None)
    for op, rule in _kernels.pop(name, ()):  # else the kernel of the text before would go before that of the next
        sys.modules["odyssey_core.backends.numba.lower"].RULES[op].remove(rule)
    for registry in _registries():
        registry.withdraw(name)


def _run(plugin: Plugin) -> None:
    """Executes a file as a module of its own; its classes look their names up there."""
    from odyssey_run.config.binding import parameters

    name, text = plugin.name, plugin.files[plugin.name]
    module = ModuleType(f"plugin_{name.removesuffix('.py')}")
    module.__file__ = str(plugin.path.absolute())
    sys.modules[module.__name__] = module
    try:
        tree = ast.parse(text, module.__file__)
        _check_imports(plugin, tree)
        exec(compile(tree, module.__file__, "exec"), vars(module))
        added = [(table, each) for table in _registries() for each, whose in table.added.items() if whose == name]
        for registry, each in added:
            parameters(registry[each], registry.provided)
    except (Exception, SystemExit) as error:
        raise ConfigError(told(error, (plugin,)) or f"{plugin.path}: {error}") from error
    if not added:
        raise ConfigError(f"{plugin.path}: registers nothing; write @register.model, or another, above what it defines")


def _check_imports(plugin: Plugin, tree: ast.Module) -> None:
    """Refuses imports of files beside a plug-in, which no digest would cover."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = [node.module or "." * node.level]
        else:
            continue
        for top in (name.partition(".")[0] for name in names):
            beside = plugin.path.parent / top
            if top not in PACKAGES and (beside.with_suffix(".py").is_file() or (beside / "__init__.py").is_file()):
                raise ConfigError(
                    f"imports {top} (line {node.lineno}), which lies beside it; a plug-in is one file: put both into "
                    "it, or make them a package and install it"
                )


def package(name: str) -> Plugin | None:
    spec = importlib.util.find_spec(name)
    if spec is None or spec.origin is None:
        return None
    place = Path(spec.origin)
    paths = place.parent.rglob("*.py") if spec.submodule_search_locations else [place]
    files = {path.relative_to(place.parent).as_posix(): path.read_bytes() for path in paths}
    return Plugin(name, files, place.parent)


def behind(sources: Iterable[str | None]) -> Iterator[Plugin]:
    """The plug-ins that registered something, by the names that registries have of them."""
    for source in dict.fromkeys(filter(None, sources)):
        if found := _loaded.get(source) or package(source):
            yield found


def told(error: BaseException, among: Sequence[Plugin] = ()) -> str | None:
    """An error that was raised in a plug-in, in one line with its file and line there; None for any other."""
    places = {str(p.path.absolute()): str(p.path) for p in (among or _loaded.values())}
    added = {source for registry in _registries() for source in registry.added.values() if not among}
    packages = added - PACKAGES.keys()  # what comes with the program is to fail as the program does
    if isinstance(error, SyntaxError) and error.filename in places:
        return f"{places[error.filename]}, line {error.lineno}: {error.msg}"
    line = ""
    for frame, number in walk_tb(error.__traceback__):
        file, module = frame.f_code.co_filename, str(frame.f_globals.get("__name__"))
        if file in places or (module.partition(".")[0] in packages and not isinstance(error, OdysseyError)):
            line = f"{places.get(file, file)}, line {number}: "
    text = " ".join(str(error).split())
    return line and line + (text if isinstance(error, OdysseyError) else f"{type(error).__name__}: {text}")


def fault(error: Exception) -> str:
    """The line that tells of a user's mistake or of a plug-in's error; any other error is raised again."""
    if line := told(error):
        return line
    if isinstance(error, OdysseyError):
        return str(error)
    raise error


def tags(plugins: Iterable[Plugin]) -> dict[str, str]:
    return {f"{TAG}{plugin.name}.sha256": plugin.digest for plugin in plugins}


def recorded(tags: Mapping[str, str]) -> dict[str, str]:
    """The digests of a run's plug-ins by name, from its tags."""
    own = (name for name in tags if name.startswith(TAG))
    return {name.removeprefix(TAG).removesuffix(".sha256"): tags[name] for name in own}


def unlike(was: Mapping[str, str], now: Iterable[Plugin]) -> list[str]:
    """Why the plug-ins that are there are not those of a run, as `recorded` has them: a line each."""
    there = {plugin.name: plugin for plugin in now}
    lines = missing(was, there.values())
    for name, digest in was.items():
        plugin = there.get(name) or _installed(name)
        if plugin and plugin.digest != digest:
            digests = f"SHA-256 {plugin.digest[:12]}, the run's {digest[:12]}"
            lines.append(f"the plug-in {name} differs ({digests}); {_how(name)}")
    extra = [name for name in there if name not in was]
    return [*lines, *(f"the run was made without the plug-in {name}; leave it out" for name in extra)]


def missing(was: Mapping[str, str], now: Iterable[Plugin]) -> list[str]:
    """A line for each of a run's plug-ins that is not there; arguments as `unlike` takes them."""
    there = {plugin.name for plugin in now}
    absent = [name for name in was if name not in there and _installed(name) is None]
    return [f"the plug-in {name} (SHA-256 {was[name][:12]}) is missing; {_how(name)}" for name in absent]


def _installed(name: str) -> Plugin | None:
    return None if name.endswith(".py") else package(name)


def _how(name: str) -> str:
    if name.endswith(".py"):
        return f"give {FLAG} FILE; the run, or its parent, keeps its text as {FOLDER}/{name}"
    return "install the run's version of the package"


def require(was: Mapping[str, str], what: str) -> None:
    """Sees to it that the files are loaded and the packages installed that something needs. Raises ConfigError: one is
    missing, or differs from the one that was used."""
    if wrong := unlike(was, [_loaded[name] for name in was if name in _loaded]):
        raise ConfigError(f"{what}: {'; '.join(wrong)}")


def needed(about: Mapping[str, str]) -> dict[str, str]:
    """The digests of the plug-ins that a weights file cannot do without, from its metadata."""
    digests: dict[str, str] = json.loads(about.get("plugins", "{}"))
    return digests


def packed(plugins: Iterable[Plugin]) -> list[dict[str, str]]:
    """Plug-ins for another process as plain values: a file's text; a package's digest, since it is installed there."""
    return [
        {"name": p.name, "digest": p.digest, "path": str(p.path.absolute())}
        | ({"text": p.files[p.name].decode()} if p.is_file else {})
        for p in plugins
    ]


def unpacked(given: Iterable[Mapping[str, str]]) -> tuple[Plugin, ...]:
    """The same plug-ins in this process. Raises ConfigError: a package is not installed here, or in another version."""
    files = tuple(adopt(p["name"], p["text"].encode(), Path(p["path"])) for p in given if "text" in p)
    packages = {p["name"]: p["digest"] for p in given if "text" not in p}
    if wrong := unlike(packages, ()):
        raise ConfigError(f"on {socket.gethostname()} {'; '.join(wrong)}")
    return files
