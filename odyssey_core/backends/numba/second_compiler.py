"""A second process that compiles kernels, where many are missing and a second core is free.

Most of a kernel's compilation is Numba's Python, of which one process runs one thread at a time. The other process puts
what it compiles into the cache, and does nothing else: whatever happens to it costs time alone.
"""

import sys
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from threading import Thread

from odyssey_core.backends.numba.compile import address_of, is_kept
from odyssey_core.backends.numba.instruction import INSTRUCTIONS, Kernel
from odyssey_core.child_process import Child, Parent

MANY = 10  # missing kernels; fewer are compiled before another process has imported Numba and compiled its share
PATIENCE = 60.0  # seconds for the last kernel that it took, which takes a few; then this process compiles that too


@contextmanager
def second_compiler(kernels: Sequence[Kernel], cores: int) -> Iterator[None]:
    """Compiles what is missing of some kernels, half of it in another process, which works from before the block on.

    Args:
        kernels: of a program, of which the cache has all or nearly all after the block.
        cores: how many this process may use.
    """
    missing = [kernel for kernel in kernels if not is_kept(kernel)] if cores > 1 else []
    named = [kernel for kernel in missing if INSTRUCTIONS.get(kernel.instruction.name) is kernel.instruction]
    left, taken = deque(named), list[Kernel]()
    begun = _begun(left, taken) if len(missing) >= MANY else None
    if begun is None:
        yield
        return
    child, thread = begun
    try:
        yield
        for kernel in missing:
            if kernel not in named:
                address_of(kernel)
        with suppress(IndexError):
            while True:
                address_of(left.popleft())
        if taken:  # else the other process has only begun to import
            thread.join(PATIENCE)
    finally:
        child.kill()
        thread.join()
        child.close()


def _begun(left: deque[Kernel], taken: list[Kernel]) -> tuple[Child, Thread] | None:
    """The other process, and a thread that hands out work to it; None where the machine has no room for either, or
    where nobody knows which program Python is."""
    if not sys.executable:
        return None
    try:
        child = Child("odyssey_core.backends.numba.second_compiler:serve")
    except OSError:
        return None
    thread = Thread(target=_hand_out, args=(child, left, taken), daemon=True)
    try:
        thread.start()
    except RuntimeError:
        child.close()
        return None
    return child, thread


def _hand_out(child: Child, left: deque[Kernel], taken: list[Kernel]) -> None:
    """Gives the other process the last of what is left, whenever it has put the one before into the cache."""
    while child.hear():
        try:
            kernel = left.pop()
        except IndexError:
            return
        taken.append(kernel)
        child.say([kernel.instruction.name, kernel.variant])


def serve() -> None:
    """The process: compiles the kernels that it is told of; says whether the cache has them."""
    from odyssey_core.backends.numba import kernels  # noqa: F401  (importing them makes the instructions known)

    parent = Parent()
    parent.say(True)
    for name, variant in parent:
        kernel = Kernel(INSTRUCTIONS[name], tuple(variant))
        address_of(kernel)
        parent.say(is_kept(kernel))
