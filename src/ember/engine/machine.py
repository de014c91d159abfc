"""Compile LLVM text for this processor and load the machine code."""

from __future__ import annotations

import ctypes
import ctypes.util
import hashlib
import importlib
import os
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from ember.engine.lowering.errors import NotLowerable

SMALL = 4000  # lines of LLVM text up to which the costlier optimisations are affordable
OLDEST_LLVM = (19, 0, 0)
INLINED_CALLS = 60  # elementary functions are written into loops up to this many calls


@dataclass(frozen=True)
class Target:
    """What code is generated for."""

    cpu: str
    features: str
    lanes: int
    masked_tails: bool

    @property
    def identity(self) -> str:
        """A string that differs for machines that need different code."""
        return f"{_binding().get_default_triple()}|{self.cpu}|{self.features}|{self.lanes}"


# Compilations exclude each other, and a fork: a child never inherits a lock that nobody will release.
_lock = threading.Lock()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_lock.acquire, after_in_parent=_lock.release, after_in_child=_lock.release)


def digest(*parts: str) -> str:
    """Return a key for the cache, different for different parts."""
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()


@lru_cache(maxsize=1)
def _binding() -> Any:
    """Import llvmlite and prepare it, once.

    :raises NotLowerable: if it is missing or too old.
    """
    try:
        import llvmlite.binding as binding
    except ImportError as error:
        raise NotLowerable("program", f"llvmlite cannot be imported ({error})") from error
    if binding.llvm_version_info < OLDEST_LLVM or not hasattr(binding, "create_pass_builder"):
        found = ".".join(map(str, binding.llvm_version_info))
        raise NotLowerable("program", f"llvmlite brings LLVM {found}, at least {OLDEST_LLVM[0]} is needed")
    binding.initialize_native_target()
    binding.initialize_native_asmprinter()
    return binding


@lru_cache(maxsize=1)
def host() -> Target:
    """Describe the processor this runs on."""
    binding = _binding()
    features = binding.get_host_cpu_features()
    return make_target(binding.get_host_cpu_name(), features.flatten())


def make_target(cpu: str, features: str) -> Target:
    """Choose vector widths for a processor, from LLVM's names of its features."""
    present = {each[1:] for each in features.split(",") if each.startswith("+")}
    if "avx512f" in present and "avx512dq" in present and "avx512vl" in present:
        return Target(cpu, features, 8, True)
    if "avx2" in present:
        return Target(cpu, features, 4, True)
    return Target(cpu, features, 2, False)


@lru_cache(maxsize=8)
def _machine(target: Target, level: int) -> Any:
    binding = _binding()
    return binding.Target.from_default_triple().create_target_machine(
        cpu=target.cpu, features=target.features, opt=level, reloc="pic", codemodel="small"
    )


def assemble(text: str, target: Target, num_calls: int) -> bytes:
    """Compile LLVM text to an object file.

    :param num_calls: number of calls of elementary functions in it.
    """
    with _lock:
        module, machine = _optimised(text, target, num_calls)
        return machine.emit_object(module)


def listing(text: str, target: Target, num_calls: int) -> str:
    """Compile LLVM text to assembly language, for people."""
    with _lock:
        module, machine = _optimised(text, target, num_calls)
        return machine.emit_assembly(module)


def _optimised(text: str, target: Target, num_calls: int) -> tuple[Any, Any]:
    binding = _binding()
    width = target.lanes * 64
    inline = "alwaysinline" if num_calls <= INLINED_CALLS else "noinline"
    vectors = f'"prefer-vector-width"="{width}" "min-legal-vector-width"="{width}"'
    head = f'target triple = "{binding.get_default_triple()}"\n'
    attributes = (
        f"attributes #0 = {{ noinline nounwind {vectors} }}\n"
        f"attributes #1 = {{ {inline} nounwind willreturn memory(none) {vectors} }}\n"
        "attributes #2 = { nounwind willreturn memory(none) }\n"
        f"attributes #3 = {{ noinline nounwind willreturn memory(none) {vectors} }}\n"
        "!0 = !{}\n"
    )
    module = binding.parse_assembly(head + text + attributes)
    small = text.count("\n") <= SMALL
    machine = _machine(target, 2 if small else 1)
    options = binding.create_pipeline_tuning_options(speed_level=2 if small else 1)
    # Lanes, unrolling and the joining of loops were chosen when the text was written.
    options.loop_vectorization = options.slp_vectorization = False
    options.loop_unrolling = options.loop_interleaving = False
    passes = binding.create_pass_builder(machine, options)
    passes.getModulePassManager().run(module, passes)
    return module, machine


_registered: set[str] = set()


def register(symbols: Sequence[str]) -> None:
    """Tell the loader the addresses of functions of libm and SciPy that code refers to."""
    binding = _binding()
    for symbol in symbols:
        if symbol not in _registered:
            library, name = symbol.split(".")
            binding.add_symbol(f"ember_{library}_{name}", _RESOLVERS[library](name))
            _registered.add(symbol)


def _libm(name: str) -> int:
    address = _binding().address_of_symbol(name)
    if not address:
        function = getattr(ctypes.CDLL(ctypes.util.find_library("m")), name)
        address = ctypes.cast(function, ctypes.c_void_p).value
    if not address:
        raise RuntimeError(f"the C library has no function {name}")
    return int(address)


def _capsule(module: str, name: str, signature: str) -> int:
    """Return the address of a C function that a Cython module exports."""
    exported = importlib.import_module(module).__pyx_capi__
    get_name = ctypes.pythonapi.PyCapsule_GetName
    get_name.restype, get_name.argtypes = ctypes.c_char_p, [ctypes.py_object]
    get_pointer = ctypes.pythonapi.PyCapsule_GetPointer
    get_pointer.restype, get_pointer.argtypes = ctypes.c_void_p, [ctypes.py_object, ctypes.c_char_p]
    for key in (name, *(f"__pyx_fuse_{variant}{name}" for variant in range(3))):
        if key in exported:
            found = get_name(exported[key])
            if found.decode().startswith(signature):
                return int(get_pointer(exported[key], found))
    raise RuntimeError(f"{module} has no function {name} of type {signature}")


def _special(name: str) -> int:
    return _capsule("scipy.special.cython_special", name, "double (double")


def _blas(name: str) -> int:
    return _capsule("scipy.linalg.cython_blas", name, "")


def _lapack(name: str) -> int:
    return _capsule("scipy.linalg.cython_lapack", name, "")


_RESOLVERS: dict[str, Callable[[str], int]] = {
    "libm": _libm,
    "special": _special,
    "blas": _blas,
    "lapack": _lapack,
}


class Code:
    """Loaded machine code; keeps it in memory while alive."""

    def __init__(self, data: bytes, target: Target, entry: str, symbols: Sequence[str] = ()) -> None:
        binding = _binding()
        register(symbols)
        with _lock:
            empty = binding.parse_assembly(f'target triple = "{binding.get_default_triple()}"\n')
            machine = binding.Target.from_default_triple().create_target_machine(
                cpu=target.cpu, features=target.features, jit=True
            )
            self._engine = binding.create_mcjit_compiler(empty, machine)
            self._engine.add_object_file(binding.ObjectFileRef.from_data(data))
            self._engine.finalize_object()
            address = self._engine.get_function_address(entry)
        if not address:
            raise RuntimeError(f"the compiled code has no function {entry}")
        # A plain C function type: ctypes releases the interpreter lock during the call.
        self.function = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_void_p)(address)
