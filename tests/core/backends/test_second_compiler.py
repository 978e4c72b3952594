"""Kernels compiled by a second process: all are in the cache, whatever becomes of that process."""

import pytest

START = """
import os, time
from dataclasses import replace
from odyssey_core.backends.numba import compile, kernels, second_compiler as second
from odyssey_core.backends.numba.instruction import INSTRUCTIONS, Kernel

start, begun = second.Child, []

def child(target):
    begun.append(start(target))
    return begun[-1]

def never(*arguments):
    raise AssertionError(arguments)

def gone():
    try:
        os.kill(begun[-1].pid, 0)
    except ProcessLookupError:
        return True

second.Child, second.MANY = child, 3
of_nobody = Kernel(replace(INSTRUCTIONS["multiply"]), ())  # as a plug-in's or a composed rule's
named = [Kernel(INSTRUCTIONS[name], ()) for name in ("relu", "relu_grad", "emit")]
"""
SHARED = """
with second.second_compiler([of_nobody, *named], 2):
    while not compile.is_kept(named[0]):  # it takes the last first
        time.sleep(0.01)
    assert not compile.is_kept(of_nobody)
compile._compiled = never
assert all(compile.address_of(kernel) for kernel in [of_nobody, *named]) and gone()
"""
DEAD = """
second.Child = lambda target: child("odyssey_core.nowhere:serve")
with second.second_compiler([of_nobody, *named], 2):
    pass
assert all(compile.is_kept(kernel) for kernel in [of_nobody, *named]) and gone()
"""
INTERRUPTED = """
try:
    with second.second_compiler(named, 2):
        raise KeyboardInterrupt
except KeyboardInterrupt:
    assert gone() and not any(compile.is_kept(kernel) for kernel in named)
"""
HUNG = """
import signal

class Stopped(start):
    def __init__(self, target):
        super().__init__(target)
        begun.append(self)

    def hear(self):  # the first answer, and no other
        self.asked = hasattr(self, "asked") or super().hear() and os.kill(self.pid, signal.SIGSTOP)
        return True if self.asked is None else super().hear()

second.Child, second.PATIENCE = Stopped, 0.1
with second.second_compiler(named, 2):
    while not hasattr(begun[-1], "asked"):
        time.sleep(0.01)
compile.address_of(named[-1])
assert all(compile.is_kept(kernel) for kernel in named) and gone()
"""
NOT_BEGUN = """
second.Child = never
with second.second_compiler(named, 1), second.second_compiler(named[:2], 2):
    pass

def full(target):
    raise BlockingIOError(11, "Resource temporarily unavailable")

second.Child = full
with second.second_compiler(named, 2):
    pass
second.Child = never
for unknown in (None, ""):
    second.sys.executable = unknown
    with second.second_compiler(named, 2):
        pass
"""
NO_THREADS = """
def start_none(thread):
    raise RuntimeError("can't start new thread")

second.Child, second.Thread.start = child, start_none
with second.second_compiler(named, 2):
    assert gone()
"""


@pytest.mark.parametrize(
    "script",
    [SHARED, DEAD, INTERRUPTED, HUNG, NOT_BEGUN, NO_THREADS],
    ids=["shared", "dead", "stopped", "hung", "none", "no threads"],
)
def test_kernels_that_a_second_process_compiles(run_python, tmp_path, script):
    run_python(START + script, ODYSSEY_CACHE=str(tmp_path / "cache"), TMPDIR=str(tmp_path))
