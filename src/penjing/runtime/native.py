"""Compiled libraries in this process: loading them, calling their functions, and the memory that calls use."""

import ctypes
import tempfile
import weakref
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np

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
        # a name of its own for each load: the loader takes two files of one name for the same library
        with tempfile.TemporaryDirectory(prefix="penjing-") as folder:
            path = Path(folder) / f"{self._stem}.so"
            path.write_bytes(data)
            try:
                self._code = ctypes.CDLL(str(path))
            except OSError as error:
                raise BundleError(
                    f"this machine refuses the compiled library: {error}",
                    where=name,
                    hint="set TMPDIR to a folder that allows execution, or use engine='interpreter'",
                ) from error

    def call(self, function: str, *numbers: int) -> int:
        """What a function of integers returns."""
        return int(self._find(function, [ctypes.c_int] * len(numbers))(*numbers))

    def bound(self, function: str, *arrays: np.ndarray, pool: "Pool | None" = None) -> "BoundCall":
        """A call of `function` on these arrays, after those of `pool` where a pool makes it."""
        memory = arrays if pool is None else (pool.memory, *arrays)
        return BoundCall(self._find(function, [ctypes.c_void_p] * len(memory)), memory, pool, self.name)

    def start_pool(self, threads: int) -> "Pool":
        """Threads that share calls; they end when nothing refers to the pool any more.

        Raises:
            BundleError: the system gives no more threads.
        """
        start = self._find("pool_start", [ctypes.c_void_p, ctypes.c_int])
        memory = aligned_buffer(POOL_BYTES)
        status = start(memory.ctypes.data, threads)
        if status != 0:
            raise BundleError(f"no {threads} threads could be started: status {status}", where=self.name)
        return Pool(memory, self._find("pool_stop", [ctypes.c_void_p]))

    def _find(self, function: str, argtypes: list[type]) -> Callable[..., int]:
        try:
            found = self._code[f"{self._stem}_{function}"]
        except AttributeError as error:
            raise BundleError(f"the library lacks a function: {error}", where=self.name) from error
        found.restype, found.argtypes = ctypes.c_int, argtypes
        return found


class Pool:
    """A pool of threads in memory of this process."""

    def __init__(self, memory: np.ndarray, stop: Callable[..., int]) -> None:
        self.memory = memory
        weakref.finalize(self, _stop, stop, memory)


class BoundCall:
    """One function on the same arrays again and again; it keeps the arrays and the pool alive."""

    def __init__(
        self, function: Callable[..., int], arrays: tuple[np.ndarray, ...], pool: Pool | None, where: str
    ) -> None:
        self._call = partial(function, *(array.ctypes.data for array in arrays))
        self._kept = (arrays, pool)
        self._where = where

    def __call__(self) -> None:
        """Call it.

        Raises:
            BundleError: it returns an error.
        """
        status = self._call()
        if status != 0:
            raise BundleError(f"the compiled library returned status {status}", where=self._where)


def _stop(stop: Callable[..., int], memory: np.ndarray) -> None:
    stop(memory.ctypes.data)
