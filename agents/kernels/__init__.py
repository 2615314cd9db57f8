"""Compiled kernels: optional, built once by the machine's C++ compiler, proved equal to the torch code.

`call` runs one. Where there is no compiler, or FSL_KERNELS=0 is set, `available` is False and the torch code
does the work. The sources are plain C++ without torch's headers: they build in seconds, for any torch.
"""

from __future__ import annotations

import ctypes
import functools
import hashlib
import os
import platform
import shutil
import subprocess
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.resources import files
from pathlib import Path

import torch
from torch import Tensor

SOURCES = (
    "lanes.h", "mlp.h", "feedforward.h", "lstm.h", "inner_loop.h", "block.cpp", "descent.cpp", "feedforward.cpp",
    "lstm.cpp", "meta_lstm.cpp", "mlp.cpp", "turtle.cpp",
)  # fmt: skip
FLAGS = ["-O3", "-march=native", "-std=c++17", "-fno-math-errno", "-fno-trapping-math", "-shared", "-fPIC"]
SUFFIX = {torch.float32: "f32", torch.float64: "f64"}
_off: list[bool] = []
NATIVE = {int: ctypes.c_long, float: ctypes.c_double}  # and tensors as pointers


def available(*tensors: Tensor) -> bool:
    """Whether kernels can work on these tensors: on the CPU, all float32 or all float64."""
    fit = all(t.device.type == "cpu" and t.dtype == tensors[0].dtype for t in tensors)
    return fit and tensors[0].dtype in SUFFIX and not _off and library() is not None


def call(name: str, *arguments: Tensor | int | float | None) -> None:
    """Run a kernel for the type of its first argument; tensors must be dense in the order the kernel reads.

    None is for a tensor that the kernel can do without.

    Raises RuntimeError where a tensor of floats has another type.
    """
    first = arguments[0]
    assert isinstance(first, Tensor)
    for a in arguments:
        if isinstance(a, Tensor) and a.is_floating_point() and a.dtype != first.dtype:
            raise RuntimeError(f"expected tensors of one type, but found {first.dtype} and {a.dtype}")
    kernel = getattr(library(), f"{name}_{SUFFIX[first.dtype]}")
    if kernel.argtypes is None:
        kernel.argtypes = [NATIVE.get(type(a), ctypes.c_void_p) for a in arguments]
    kernel(*[a.data_ptr() if isinstance(a, Tensor) else a for a in arguments])


@contextmanager
def off() -> Iterator[None]:
    """Do without kernels for a while."""
    _off.append(True)
    try:
        yield
    finally:
        _off.pop()


@functools.cache
def library() -> ctypes.CDLL | None:
    """The built library; None where it is switched off or cannot be built."""
    if os.environ.get("FSL_KERNELS", "1") == "0":
        return None
    try:
        return ctypes.CDLL(str(_build()))
    except (OSError, RuntimeError, subprocess.SubprocessError) as error:  # RuntimeError: there is no home folder
        warnings.warn(f"no compiled kernels, so training is slower ({error}); install a C++ compiler", stacklevel=2)
        return None


def _build() -> Path:
    """The library's file, compiled if this machine has not done so yet; raises OSError or SubprocessError."""
    compiler = next((c for c in (os.environ.get("CXX"), "c++", "g++", "clang++") if c and shutil.which(c)), None)
    if compiler is None:
        raise OSError("there is no C++ compiler")
    flags = FLAGS + (["-mprefer-vector-width=512"] if platform.machine() == "x86_64" else [])
    source = files("agents.kernels")
    target = subprocess.run([compiler, *flags, "-dM", "-E", "-xc++", os.devnull], capture_output=True, check=True)
    texts = [(source / name).read_bytes() for name in SOURCES]
    name = hashlib.sha256(b"".join([*texts, target.stdout, " ".join(flags).encode()])).hexdigest()[:16]
    home = os.environ.get("FSL_HOME")
    folder = (Path(home) if home else Path.home() / ".cache" / "fsl") / "kernels"
    built = folder / f"{name}.so"
    if not built.exists():
        folder.mkdir(parents=True, exist_ok=True)
        aside = built.with_suffix(f".{os.getpid()}.partial")
        inputs = [str(source / s) for s in SOURCES if s.endswith(".cpp")]
        subprocess.run([compiler, *flags, *inputs, "-o", str(aside)], capture_output=True, check=True)
        os.replace(aside, built)
    return built
