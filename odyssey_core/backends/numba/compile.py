"""Machine code of kernels: from the cache where it is there, compiled once where it is not.

Numba types a kernel and writes it in LLVM's language; its usual pipeline is cut down to what kernels need. They take
the same five arguments, addresses and integers, and a step of the pipeline reads from the row what the signature names.

Numba's own cache would load all of numba's declarations and SciPy's linear algebra for a kernel it finds (0.5 s), miss
kernels made from other jitted functions, which it tells apart by a random number, and mix up kernels of one name that
two processes save at once. Here a kernel has a file of its own, named by all that its code depends on, written whole.
Whoever can write to the folder can run code.
"""

import hashlib
import itertools
import logging
import platform
from collections.abc import Callable
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any

import llvmlite
import numba
from llvmlite import binding
from numba import config, types
from numba.core import ir as numba_ir
from numba.core import typed_passes, untyped_passes
from numba.core.codegen import JITCodeLibrary
from numba.core.compiler import CompilerBase, Flags, compile_extra
from numba.core.compiler_lock import global_compiler_lock
from numba.core.compiler_machinery import FunctionPass, PassManager, register_pass
from numba.core.ir_utils import build_definitions
from numba.core.registry import cpu_target

from odyssey_core.backends.numba.environment import cache_folders, mark_used, prune
from odyssey_core.backends.numba.instruction import Constant, Fixed, Kernel, Step
from odyssey_core.backends.numba.step_feed import FEED, step_value
from odyssey_core.backends.numba.traced import F32, FLOAT, I32, I64, INTEGER, MEMORY, Pointer, compiled_as
from odyssey_core.files import atomic_file

_foreign = itertools.count(1)
log = logging.getLogger(__name__)

ROW = Pointer("row", (types.int64, I64))
# What the machine code of every kernel takes.
ARGUMENTS = {"memory": MEMORY, "feed": FEED, "step": INTEGER, "block": INTEGER, "row": ROW}


def _column(builder, row, column):
    return builder.load(builder.gep(row, [column]))


def _operand(builder, row, column, block):
    start, apart = _column(builder, row, column), _column(builder, row, builder.add(column, I64(1)))
    return builder.add(start, builder.mul(apart, block))


@compiled_as(INTEGER, lambda b, row, column, block: _operand(b, row, column, block))
def operand(row, column, block):
    """Where an operand starts for a block; negative where it is absent."""


@compiled_as(INTEGER, lambda b, row, column: _column(b, row, column))
def integer(row, column):
    """An integer of the row."""


@compiled_as(FLOAT, lambda b, row, column: b.bitcast(b.trunc(_column(b, row, column), I32), F32))
def constant(row, column):
    """A float32 of the row."""


@register_pass(mutates_CFG=False, analysis_only=False)
class _ReadArguments(FunctionPass):
    """Makes of a function's own arguments the columns of a row."""

    _name = "odyssey_read_arguments"

    def __init__(self):
        FunctionPass.__init__(self)

    def run_pass(self, state):
        kernel, func_ir = state.kernel, state.func_ir
        entry = func_ir.blocks[min(func_ir.blocks)]
        body = []
        for statement in entry.body:
            if isinstance(statement, numba_ir.Assign) and isinstance(statement.value, numba_ir.Arg):
                body += _argument(kernel, statement)
            else:
                body.append(statement)
        entry.body = body
        func_ir.arg_names, func_ir.arg_count = list(ARGUMENTS), len(ARGUMENTS)
        func_ir._definitions = build_definitions(func_ir.blocks)
        return True


def _argument(kernel: Kernel, statement: numba_ir.Assign) -> list[numba_ir.Assign]:
    """Statements that give an argument its value."""
    name, target, loc = statement.value.name, statement.target, statement.loc

    def uniform(name):
        return numba_ir.Arg(name, [*ARGUMENTS].index(name), loc)

    statements = []

    def variable(value, what):
        made = numba_ir.Var(target.scope, f"${name}.{what}.{len(statements)}", loc)
        statements.append(numba_ir.Assign(value, made, loc))
        return made

    def call(function, *operands):
        called = variable(numba_ir.Global(function.__name__, function, loc), function.__name__)
        return numba_ir.Expr.call(called, operands, (), loc)

    def read(name):
        kind = kernel.instruction.kinds[name]
        if name in ARGUMENTS:
            return uniform(name)
        if kind is Fixed:
            return numba_ir.Const(kernel.fixed[name], loc)
        row = variable(uniform("row"), "row")
        column = variable(numba_ir.Const(kernel.instruction.columns[name], loc), "column")
        if kind is None:
            return call(operand, row, column, variable(uniform("block"), "block"))
        if kind is Constant:
            return call(constant, row, column)
        value = call(integer, row, column)
        if kind is not Step:
            return value
        which = variable(value, "which")
        return call(step_value, variable(uniform("feed"), "feed"), variable(uniform("step"), "step"), which)

    if name in kernel.instruction.bundles:
        parts = [variable(read(part), part) for part in kernel.instruction.bundles[name]]
        value = numba_ir.Expr.build_tuple(parts, loc)
    else:
        value = read(name)
    return [*statements, numba_ir.Assign(value, target, loc)]


class _Pipeline(CompilerBase):
    """Numba's pipeline without what kernels have no use for: closures, parallel loops, array expressions."""

    kernel: Kernel | None = None
    name = ""

    def define_pipelines(self):
        self.state.kernel = self.kernel
        # What symbols are made of: those of two processes, which count functions on their own, must not be equal.
        self.state.func_id.func_qualname = self.name
        passes = PassManager("kernel")
        passes.add_pass(untyped_passes.TranslateByteCode, "analyzing bytecode")
        if self.kernel:
            passes.add_pass(_ReadArguments, "arguments from the row")
        passes.add_pass(untyped_passes.FixupArgs, "fix up args")
        passes.add_pass(untyped_passes.IRProcessing, "processing IR")
        passes.add_pass(untyped_passes.ReconstructSSA, "ssa")
        passes.add_pass(typed_passes.NopythonTypeInference, "nopython frontend")
        passes.add_pass(typed_passes.PreLowerStripPhis, "remove phis nodes")
        passes.add_pass(typed_passes.IRLegalization, "ensure IR is legal prior to lowering")
        passes.add_pass(typed_passes.AnnotateTypes, "annotate types")
        passes.add_pass(typed_passes.NativeLowering, "native lowering")
        passes.add_pass(typed_passes.NoPythonBackend, "nopython mode backend")
        passes.finalize()
        return [passes]


class _Library(JITCodeLibrary):
    """Turns what Numba wrote into an object file, in one walk of LLVM's passes.

    Numba walks twice, and function by function before, to find pairs of reference counts, which kernels have none of.
    Loops are not vectorised: kernels say themselves what is done in vectors.
    """

    def _optimize_functions(self, module):
        module.data_layout = self._codegen._data_layout

    def _optimize_final_module(self):
        passes, builder = self._codegen._module_pass_manager(opt=2, loop_vectorize=False, slp_vectorize=False)
        passes.run(self._final_module, builder)

    def _finalize_final_module(self):
        self.code = self._codegen._tm.emit_object(self._final_module)
        self._finalized = True


OPTIONS = {"nopython": True, "nogil": True, "error_model": "numpy", "boundscheck": False}
OPTIONS |= {"no_cpython_wrapper": True, "no_cfunc_wrapper": True}


def address_of(kernel: Kernel) -> int:
    """Where the machine code of a kernel lies; the same for the same kernel."""
    return _address(kernel, kernel.instruction.kernel, tuple(ARGUMENTS.values()))


@cache
def address_of_function(function: Callable, arguments: tuple[types.Type, ...]) -> int:
    """Where the machine code of a function of addresses and integers lies; it returns nothing."""
    return _address(None, function, arguments)


def is_kept(kernel: Kernel) -> bool:
    """Whether the cache has the machine code of a kernel, and no process need compile it."""
    function = kernel.instruction.kernel
    name = _name(kernel, function, tuple(ARGUMENTS.values()), 0)
    return _is_own(function) and any((folder / name).exists() for folder in cache_folders())


def _is_own(function: Callable) -> bool:
    """Whether it is of this package's source, which names the folder; what others wrote, no name tells apart."""
    return function.__module__.partition(".")[0] == "odyssey_core"


@cache
@global_compiler_lock
def _address(kernel: Kernel | None, function: Callable, arguments: tuple[types.Type, ...]) -> int:
    own = _is_own(function)
    name = _name(kernel, function, arguments, 0 if own else next(_foreign))
    found = _read(name) if own else None
    if found is None:
        if own:
            _say_compiling()
        found = _compiled(name, kernel, function, arguments)
        if own:
            _write(name, *found)
    return _loaded(*found)


def _compiled(
    name: str, kernel: Kernel | None, function: Callable, arguments: tuple[types.Type, ...]
) -> tuple[str, bytes]:
    """The symbol of the function, which holds its name, and the object file that it is in."""
    flags = Flags()
    cpu_target.options.parse_as_flags(flags, OPTIONS)
    flags.no_compile = True  # that is ours to do
    pipeline = type("_PipelineOfKernel", (_Pipeline,), {"kernel": kernel, "name": name.replace("-", "_")})
    library = _Library(cpu_target.target_context.codegen(), name)
    result = compile_extra(
        cpu_target.typing_context, cpu_target.target_context, function, arguments, types.void, flags, {}, library,
        pipeline,
    )  # fmt: skip
    library.finalize()
    return result.fndesc.llvm_func_name, library.code


@cache
def _engine() -> Any:
    """What makes object files callable."""
    binding.initialize_native_target()
    binding.initialize_native_asmprinter()
    machine = binding.Target.from_default_triple().create_target_machine(codemodel="jitdefault", jit=True)
    return binding.create_mcjit_compiler(binding.parse_assembly(""), machine)


def _loaded(symbol: str, code: bytes) -> int:
    engine = _engine()
    engine.add_object_file(binding.ObjectFileRef.from_data(code))
    engine.finalize_object()
    return engine.get_function_address(symbol)


@cache
def _name(kernel: Kernel | None, function: Callable, arguments: tuple[types.Type, ...], number: int) -> str:
    """Of the file, with the SHA-256 of all that the code depends on, besides the source that names the folder.

    Args:
        kernel: what the function is compiled for.
        function: the loop.
        arguments: their types.
        number: tells functions of the same name apart that are no part of that source; 0 for one that is.
    """
    target = cpu_target.target_context.codegen().magic_tuple()
    versions = (numba.__version__, llvmlite.__version__, platform.python_version(), config.OPT)
    variant = kernel.variant if kernel else ()
    parts = (
        function.__module__,
        function.__qualname__,
        variant,
        arguments,
        target,
        sorted(OPTIONS.items()),
        versions,
        number,
    )
    return f"{function.__name__}-{hashlib.sha256(repr(parts).encode()).hexdigest()[:32]}"


def _read(name: str) -> tuple[str, bytes] | None:
    for folder in cache_folders():
        with suppress(OSError):
            content = (folder / name).read_bytes()
            mark_used(folder)
            if hashlib.sha256(content[32:]).digest() == content[:32]:  # else damaged: compiled again
                symbol, _, code = content[32:].partition(b"\n")
                return symbol.decode(), code
    return None


def _write(name: str, symbol: str, code: bytes) -> None:
    payload = symbol.encode() + b"\n" + code
    for folder in cache_folders():
        with suppress(OSError):
            _pruned(folder)
            with atomic_file(folder / name, durable=False) as file:
                file.write(hashlib.sha256(payload).digest() + payload)
            return


def _pruned(folder: Path) -> None:
    if not folder.exists():
        folder.mkdir(parents=True, exist_ok=True)
        prune(folder)


@cache
def _say_compiling() -> None:
    """Once per process."""
    kept = f", once: up to 20 seconds, then they are kept in {cache_folders()[0]}" if cache_folders() else ""
    log.info("compiling kernels for this CPU%s", kept)
