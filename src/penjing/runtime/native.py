"""Compiled libraries in this process: loading them, calling their functions, and the memory that calls use."""

import ctypes
import tempfile
import weakref
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from penjing.core.errors import BundleError, InvalidInput
from penjing.program.symbols import POOL_BYTES, STATUS_FULL, c_stem
from penjing.program.weights import aligned_buffer

Function = Callable[..., int]

_NOTHING = aligned_buffer(1)


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
        try:
            with tempfile.TemporaryDirectory(prefix="penjing-") as folder:
                path = Path(folder) / f"{self._stem}.so"
                path.write_bytes(data)
                self._code = ctypes.CDLL(str(path))
        except OSError as error:
            raise BundleError(
                f"this machine refuses the compiled library: {error}",
                where=name,
                hint="set TMPDIR to a folder that allows writing and execution, or use engine='interpreter'",
            ) from error

    def call(self, function: str, *numbers: int) -> int:
        """What a function of integers returns."""
        return int(self._find(function)(*map(ctypes.c_int, numbers)))

    def bound(
        self, function: str, *arrays: np.ndarray, pool: "Pool | None" = None, length: int | None = None
    ) -> Callable[[], None]:
        """A call of `function` on these arrays, after those of `pool` where a pool makes it; it keeps them alive.

        `length` follows them where a library runs sequences of any length.

        Pointers are made here, once: to make them anew would double what a call costs in Python. It releases the
        interpreter's lock, so that other threads of Python go on.

        The call raises:
            InvalidInput: the session is full.
            BundleError: the function returns another error.
        """
        memory = arrays if pool is None else (pool.memory, *arrays)
        last = [] if length is None else [ctypes.c_int32(length)]
        call = partial(self._find(function), *map(_pointer, memory), *last)
        return partial(_call, call, self.name, pool)

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

    def optional(self, function: str) -> Function | None:
        """The function, which returns an int; None where the library lacks it."""
        try:
            return self._find(function)
        except BundleError:
            return None

    def _find(self, function: str) -> Function:
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


def _call(call: Callable[[], int], where: str, pool: Pool | None) -> None:
    status = call()
    if status == STATUS_FULL:
        raise InvalidInput(
            "there is no room for more steps in what the session remembers",
            where=where,
            hint="reset it, or quantize the network over longer sequences",
        )
    if status != 0:
        raise BundleError(f"the compiled library returned status {status}", where=where)


def _pointer(array: np.ndarray) -> Any:
    """An argument of C functions that points to the first byte of `array` and keeps it alive."""
    if array.nbytes == 0:  # numpy gives an empty array any address, and functions check alignment
        array = _NOTHING
    return ctypes.byref((ctypes.c_char * array.nbytes).from_buffer(array.data))


def _stop(stop: Callable[..., int], memory: np.ndarray) -> None:
    stop(_pointer(memory))
