"""Compiled libraries in this process: loading them, calling their functions, and the memory that calls use."""

import contextlib
import ctypes
import os
import weakref
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from penjing.core import knobs
from penjing.core.errors import BundleError
from penjing.program.symbols import POOL_BYTES, c_stem
from penjing.program.weights import aligned_buffer


class NativeLibrary:
    """The functions of one library, by their names without the model's: `run` is `penjing_<model>_run`."""

    def __init__(self, data: bytes, name: str) -> None:
        """Load native code for the model `name`.

        Raises:
            BundleError: the operating system refuses it.
        """
        self.name = name
        self._stem = c_stem(name)
        path = _new_path(self._stem)
        try:
            with open(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600), "wb") as file:  # noqa: PTH123
                file.write(data)
            self._code = ctypes.CDLL(path)
        except OSError as error:
            raise BundleError(
                f"this machine refuses the compiled library: {error}",
                where=name,
                hint="set TMPDIR to a folder that allows writing and execution, or use engine='interpreter'",
            ) from error
        finally:
            with contextlib.suppress(OSError):
                os.remove(path)  # noqa: PTH107

    def call(self, function: str, *numbers: int) -> int:
        """What a function of integers returns."""
        return int(self._find(function)(*map(ctypes.c_int, numbers)))

    def bound(self, function: str, *arrays: np.ndarray, pool: "Pool | None" = None) -> Callable[[], None]:
        """A call of `function` on these arrays, after those of `pool` where a pool makes it; it keeps them alive.

        Nothing of it is Python code: pointers are made here, and the status is looked up in a dictionary. It releases
        the interpreter's lock, which costs 50 ns, so that other threads of Python go on.

        The call raises:
            BundleError: the function returns an error.
        """
        memory = arrays if pool is None else (pool.memory, *arrays)
        found: Any = self._find(function)
        found.restype = _Statuses(self.name, pool).__getitem__
        return partial(found, *map(_pointer, memory))

    def start_pool(self, threads: int) -> "Pool":
        """Threads that share calls; they end when nothing refers to the pool any more.

        Raises:
            BundleError: the system gives no more threads.
        """
        memory = aligned_buffer(POOL_BYTES)
        status = self._find("pool_start")(_pointer(memory), ctypes.c_int(threads))
        if status != 0:
            raise BundleError(f"no {threads} threads could be started: status {status}", where=self.name)
        return Pool(memory, self._find("pool_stop"))

    def _find(self, function: str) -> Callable[..., int]:
        """The function, which returns an int; a new object every time."""
        try:
            return self._code[f"{self._stem}_{function}"]
        except AttributeError as error:
            raise BundleError(f"the library lacks a function: {error}", where=self.name) from error


class Pool:
    """A pool of threads in memory of this process."""

    def __init__(self, memory: np.ndarray, stop: Callable[..., int]) -> None:
        self.memory = memory
        weakref.finalize(self, _stop, stop, memory)


class _Statuses(dict[int, None]):
    """What statuses of calls mean: 0 is looked up, all others raise. It keeps the pool of its calls alive."""

    def __init__(self, where: str, pool: Pool | None) -> None:
        super().__init__({0: None})
        self._where = where
        self._pool = pool

    def __missing__(self, status: int) -> None:
        raise BundleError(f"the compiled library returned status {status}", where=self._where)


def _pointer(array: np.ndarray) -> Any:
    """An argument of C functions that points to the first byte of `array` and keeps it alive."""
    return ctypes.byref((ctypes.c_char * array.nbytes).from_buffer(array.data))


def _stop(stop: Callable[..., int], memory: np.ndarray) -> None:
    stop(_pointer(memory))


def _new_path(stem: str) -> str:
    """Of a file of a name that no other has: the loader takes two files of one name for the same library.

    `tempfile` and `pathlib` would do it too, and importing them takes longer than all the rest of loading a library.
    """
    return f"{knobs.TMPDIR.text() or knobs.TMPDIR.default}/penjing-{os.urandom(8).hex()}-{stem[:80]}.so"
