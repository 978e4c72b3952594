"""Compiled kernels ready to call: from the cache where they are there, compiled once where they are not.

Numba's own cache would load all of numba's declarations and SciPy's linear algebra for a kernel it finds (0.5 s), miss
kernels made from other jitted functions, which it tells apart by a random number, and mix up kernels of one name that
two processes save at once. Here a kernel has a file of its own, named by all that its code depends on, written whole.
As in numba's cache it is a pickle around machine code: whoever can write to the folder can run code either way.
"""

import hashlib
import logging
import os
import pickle
import platform
import tempfile
from contextlib import suppress
from functools import cache
from pathlib import Path
from types import FunctionType
from typing import Any

import llvmlite
import numba
from numba import config
from numba.core.caching import NullCache
from numba.core.compiler import CompileResult
from numba.core.dispatcher import Dispatcher
from numba.core.runtime import rtsys
from numba.core.serialize import dumps
from numba.core.typing import Signature

from odyssey_core.backends.numba.environment import cache_folders, mark_used, prune

log = logging.getLogger(__name__)


def compiled(dispatcher: Dispatcher, signature: Signature, *, wrapped: bool = False) -> CompileResult:
    """The code of a jitted function for a signature.

    Args:
        dispatcher: what ``njit`` made.
        signature: of machine types.
        wrapped: whether Python calls it. What is only called through its address compiles in two thirds of the time.
    """
    result = dispatcher.overloads.get(signature.args)
    if result is not None:
        return result
    if not wrapped:
        dispatcher.targetoptions |= {"no_cpython_wrapper": True, "no_cfunc_wrapper": True}
    name = f"{dispatcher.py_func.__qualname__}-{_key(dispatcher, signature)[:32]}"
    result = _read(name, dispatcher.targetctx)
    if result is not None:
        dispatcher.add_overload(result)
        return result
    _say_compiling()
    dispatcher._cache = NullCache()  # a decorator may have asked for numba's
    dispatcher.compile(signature)
    result = dispatcher.overloads[signature.args]
    if not result.library.has_dynamic_globals:
        _write(name, result)
    return result


def _key(dispatcher: Dispatcher, signature: Signature) -> str:
    """SHA-256 of all that the code depends on, besides the source that names the folder."""
    codegen = dispatcher.targetctx.codegen()
    options = sorted((key, value) for key, value in dispatcher.targetoptions.items())
    versions = (numba.__version__, llvmlite.__version__, platform.python_version(), config.OPT, config.BOUNDSCHECK)
    parts = (_identity(dispatcher), str(signature), codegen.magic_tuple(), options, versions)
    return hashlib.sha256(repr(parts).encode()).hexdigest()


def _identity(value: Any) -> Any:
    """What tells a function, and what it was made from, apart from others, in any process."""
    function = value.py_func if isinstance(value, Dispatcher) else value
    if not isinstance(function, FunctionType):
        return repr(value)
    made_from = [_identity(cell.cell_contents) for cell in function.__closure__ or ()]
    return function.__module__, function.__qualname__, function.__code__.co_firstlineno, made_from


def _read(name: str, context: Any) -> CompileResult | None:
    for folder in cache_folders():
        with suppress(OSError):
            content = (folder / name).read_bytes()
            mark_used(folder)
            if hashlib.sha256(content[32:]).digest() == content[:32]:  # else damaged: compiled again
                rtsys.initialize(context)
                return CompileResult._rebuild(context, *pickle.loads(content[32:]))
    return None


def _write(name: str, result: CompileResult) -> None:
    payload = dumps(result._reduce())
    for folder in cache_folders():
        with suppress(OSError):
            _pruned(folder)
            handle, temporary = tempfile.mkstemp(dir=folder, prefix=".")
            try:
                with os.fdopen(handle, "wb") as file:
                    file.write(hashlib.sha256(payload).digest() + payload)
                os.chmod(temporary, 0o644)
                os.replace(temporary, folder / name)
            finally:
                Path(temporary).unlink(missing_ok=True)
            return


def _pruned(folder: Path) -> None:
    if not folder.exists():
        folder.mkdir(parents=True, exist_ok=True)
        prune(folder)


@cache
def _say_compiling() -> None:
    """Once per process."""
    log.info("compiling kernels for this CPU, once: up to 20 seconds, then they are kept in %s", cache_folders()[0])
