"""Read pickles safely: only arrays and plain containers are extracted, and no code is imported or executed.

numpy's own unpickling trusts its input (a forged dtype can read memory outside the array), so arrays are rebuilt here
from their bytes, with `numpy.frombuffer` and a list of plain number types.
"""

from __future__ import annotations

import pickle
from collections import OrderedDict, defaultdict
from pathlib import Path
from typing import Any

import numpy as np

from fewshot_env.data.archive import reject_failed_download
from fewshot_env.errors import FewShotError

NUMBER_TYPES = frozenset("?bBhHiIlLqQefd") | {f"{kind}{n}" for kind in "iuf" for n in (1, 2, 4, 8)} | {"b1", "f2"}


def read_pickle(file: Path) -> dict[Any, Any]:
    """Read a pickled dictionary of arrays, strings, numbers and plain containers, of any protocol (Python 2's, too).

    Raises:
        FewShotError: where the file holds anything else, is truncated, or is not a pickle.
    """
    reject_failed_download(file)
    try:
        with file.open("rb") as stream:
            data = _replace_arrays(_Restricted(stream, encoding="latin1").load())
    except (pickle.UnpicklingError, EOFError, ValueError, TypeError, AttributeError, KeyError, IndexError) as error:
        raise FewShotError(f"{file} is not a pickle of arrays and plain containers ({error}); get it again") from error
    except (MemoryError, OverflowError, RecursionError) as error:
        raise FewShotError(f"{file} needs more memory than there is ({error}); get it again") from error
    if not isinstance(data, dict):
        raise FewShotError(f"{file} holds a {type(data).__name__}, but must hold a dictionary")
    return data


class _Dtype:
    """Replaces numpy.dtype while unpickling."""

    def __init__(self, code: str, *_: Any) -> None:
        self.code, self.order = code, "="

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        self.order = state[1]

    def plain(self) -> np.dtype[Any]:
        if self.code not in NUMBER_TYPES or self.order not in ("<", ">", "=", "|"):
            raise pickle.UnpicklingError(f"it holds an array of type {self.code!r}")
        return np.dtype(self.code).newbyteorder(self.order)  # type: ignore[arg-type]


class _Array:
    """Replaces numpy.ndarray while unpickling."""

    value: np.ndarray[Any, Any]

    def __init__(self, *_: Any) -> None:
        pass

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        _, shape, dtype, fortran, raw = state
        raw = raw.encode("latin1") if isinstance(raw, str) else raw  # Python 2 had no bytes type
        self.value = np.frombuffer(raw, dtype.plain()).reshape(shape, order="F" if fortran else "C")


def _from_buffer(raw: bytes, dtype: _Dtype, shape: tuple[int, ...], order: str, *_: Any) -> _Array:
    array = _Array()
    array.__setstate__((1, shape, dtype, order == "F", raw))
    return array


def _scalar(dtype: _Dtype, raw: bytes | str) -> Any:
    return np.frombuffer(raw.encode("latin1") if isinstance(raw, str) else raw, dtype.plain())[0].item()


def _encode(text: str, codec: str) -> bytes:
    if codec not in ("latin1", "latin-1"):  # Python 3 writes bytes like this in protocol 2, with this codec only
        raise pickle.UnpicklingError(f"it asks for the codec {codec!r}")
    return text.encode("latin1")


ALLOWED: dict[tuple[str, str], Any] = {
    ("numpy", "ndarray"): _Array,
    ("numpy", "dtype"): _Dtype,
    ("numpy.core.multiarray", "_reconstruct"): _Array,
    ("numpy.core.multiarray", "scalar"): _scalar,
    ("numpy.core.numeric", "_frombuffer"): _from_buffer,
    ("_codecs", "encode"): _encode,
    ("collections", "OrderedDict"): OrderedDict,
    ("collections", "defaultdict"): defaultdict,
    ("builtins", "list"): list,
    ("builtins", "set"): set,
}


class _Restricted(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        known = module.replace("numpy._core", "numpy.core").replace("__builtin__", "builtins")
        if (known, name) not in ALLOWED:
            raise pickle.UnpicklingError(f"it refers to {module}.{name}, which such data do not need")
        return ALLOWED[known, name]


def _replace_arrays(value: Any) -> Any:
    """Replace every _Array in a value by its numpy array."""
    if isinstance(value, _Array):
        return value.value
    return {_replace_arrays(k): _replace_arrays(v) for k, v in value.items()} if isinstance(value, dict) else value
