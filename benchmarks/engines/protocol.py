"""What every worker speaks: one JSON request a line on standard input, one JSON answer a line on a pipe of its own.

A worker is started as `python worker.py '{"folder": ..., "file": ..., "options": ..., "without_amx": ..., "answers":
FD}'` in its engine's own environment, loads the model, computes the first output and says so (or why not: {"failed":
REASON}); then it answers until its input ends. What the engine prints goes where the caller sent standard output.

    {"do": "outputs", "to": FILE}     compute every checked input, write the float outputs
    {"do": "repeats", "min_ms": M}    find how many calls make one round of M milliseconds
    {"do": "round", "repeats": N}     time N calls: {"cpu_ns", "wall_ns"} of all of them together
    {"do": "singles", "count": N}     time N calls one by one: {"wall_ns": [...]}
    {"do": "memory"}                  {"rss_kib", "peak_kib"} of this process
    {"do": "asked"}                   {"amx": whether anything in this process has asked for AMX and got it}
    {"do": "held"}                    under `cpu_mask.c`: {"above": features above AVX2 that numpy sees, "wide": whether
                                      AVX-512 registers are in use, "answered": how often CPUID was answered for}

Only numpy and the standard library are used here: this file runs in every environment.
"""

import ctypes
import json
import os
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

MAX_REPEATS = 2**24


@dataclass(frozen=True, eq=False)
class Bound:
    """A model with its buffers, ready to be called.

    Attributes:
        run: one float input (1, ...) -> one float output (1, ...), for the check of outputs.
        call: one inference on the input last given to `run`, as timed: from the caller's array to an array that the
            caller can read, in the quickest way that the engine offers to Python.
        facts: what a reader may want to know, such as which kernels the engine chose.
    """

    run: Callable[[np.ndarray], np.ndarray]
    call: Callable[[], object]
    facts: dict[str, Any]


def serve(load: Callable[[Path, dict[str, Any]], Bound]) -> None:
    """Load the model that the command line names, then answer requests until standard input ends."""
    given = json.loads(sys.argv[1])
    answers = given["answers"]
    if given.get("without_amx"):
        refuse_amx()
    checked = np.load(Path(given["folder"]) / "checked.npy")
    try:
        bound = load(Path(given["folder"]) / given["file"], given["options"])
        bound.run(checked[:1])
    except Exception as error:  # noqa: BLE001 -- whatever it is, the reader of the table is told
        _say(answers, {"failed": f"{type(error).__name__}: {error}"})
        return
    _say(answers, {"ready": True, "facts": bound.facts})
    for line in sys.stdin:
        request = json.loads(line)
        try:
            _say(answers, _answer(bound, checked, request))
        except Exception as error:  # noqa: BLE001 -- likewise
            _say(answers, {"failed": f"{type(error).__name__}: {error}"})


def _answer(bound: Bound, checked: np.ndarray, request: dict[str, Any]) -> dict[str, Any]:
    match request["do"]:
        case "outputs":
            outputs = [bound.run(checked[i : i + 1]).reshape(1, -1).copy() for i in range(len(checked))]
            np.save(request["to"], np.concatenate(outputs).astype(np.float32))
            return {}
        case "repeats":
            return {"repeats": _repeats(bound.call, request["min_ms"] * 1e6)}
        case "round":
            cpu_ns, wall_ns = _batch(bound.call, request["repeats"])
            return {"cpu_ns": cpu_ns, "wall_ns": wall_ns}
        case "singles":
            return {"wall_ns": _singles(bound.call, request["count"])}
        case "memory":
            return _memory()
        case "asked":
            return {"amx": _has_amx_permission()}
        case "held":
            return _held()
    raise ValueError(f"unknown request {request}")


def _batch(call: Callable[[], object], repeats: int) -> tuple[int, int]:
    cpu, wall = time.process_time_ns(), time.perf_counter_ns()
    for _ in range(repeats):
        call()
    return time.process_time_ns() - cpu, time.perf_counter_ns() - wall


def _repeats(call: Callable[[], object], min_ns: float) -> int:
    repeats = 1
    while repeats < MAX_REPEATS:
        elapsed_ns, _ = _batch(call, repeats)
        if elapsed_ns >= min_ns:
            break
        # At most tenfold, because the first batch is cold; at least double, so that the loop ends.
        repeats = min(max(int(repeats * min_ns / max(elapsed_ns, 1)) + 1, 2 * repeats), 10 * repeats)
    return repeats


def _singles(call: Callable[[], object], count: int) -> list[int]:
    clock, times = time.perf_counter_ns, []
    for _ in range(count):
        start = clock()
        call()
        times.append(clock() - start)
    return times


def _memory() -> dict[str, int]:
    fields = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines() if ":" in line)
    return {"rss_kib": int(fields["VmRSS"].split()[0]), "peak_kib": int(fields["VmHWM"].split()[0])}


def _has_amx_permission() -> bool:
    arch_prctl, get_permission, tile_data = 158, 0x1022, 18
    features = ctypes.c_ulong(0)
    refused = ctypes.CDLL(None).syscall(arch_prctl, get_permission, ctypes.byref(features))
    return not refused and bool(features.value >> tile_data & 1)


def _held() -> dict[str, Any]:
    mask = ctypes.CDLL(None)  # the preload is in the global scope
    features = np._core._multiarray_umath.__cpu_features__
    above = [name for name, there in features.items() if there and name.startswith("AVX512")]
    wide = bool(mask.cpu_mask_wide_registers_in_use())
    return {"above": above, "wide": wide, "answered": mask.cpu_mask_answered()}


def _say(answers: int, message: dict[str, Any]) -> None:
    os.write(answers, (json.dumps(message) + "\n").encode())


def to_codes(x: np.ndarray, scale: float, zero: int, dtype: Any) -> np.ndarray:
    """Integers of `dtype` that stand for the floats `x`."""
    limits = np.iinfo(dtype)
    return np.clip(np.rint(x / np.float32(scale)) + zero, limits.min, limits.max).astype(dtype)


def to_floats(codes: np.ndarray, scale: float, zero: int) -> np.ndarray:
    """The floats that the integers `codes` stand for."""
    return ((codes.astype(np.int32) - zero) * np.float32(scale)).astype(np.float32)


def channels_last(x: np.ndarray) -> np.ndarray:
    """(n, c, h, w) as (n, h, w, c); other ranks as they are."""
    return np.ascontiguousarray(x.transpose(0, 2, 3, 1)) if x.ndim == 4 else x


def refuse_amx() -> None:
    """Let no code in this process use AMX: Linux gives the tile registers on request only, and here it never does.

    The request is `arch_prctl(ARCH_REQ_XCOMP_PERM)`; a filter of system calls answers it with EPERM. An engine that
    asks falls back to AVX-512; one that uses AMX without asking dies, which the caller reports.
    """

    class Program(ctypes.Structure):
        _fields_ = (("length", ctypes.c_ushort), ("filter", ctypes.c_void_p))

    load, equal, answer = 0x20, 0x15, 0x06  # BPF: load a word, jump if equal, return
    arch_prctl, request_permission, errno_eperm, allow = 158, 0x1023, 0x00050001, 0x7FFF0000
    steps = (
        (load, 0, 0, 0),  # number of the system call
        (equal, 0, 3, arch_prctl),
        (load, 0, 0, 16),  # low word of its first argument
        (equal, 0, 1, request_permission),
        (answer, 0, 0, errno_eperm),
        (answer, 0, 0, allow),
    )
    code = b"".join(np.array([(o, t, f, k)], "u2,u1,u1,u4").tobytes() for o, t, f, k in steps)
    buffer = ctypes.create_string_buffer(code)
    program = Program(len(steps), ctypes.cast(buffer, ctypes.c_void_p).value)
    libc = ctypes.CDLL(None, use_errno=True)
    set_no_new_privs, set_seccomp, mode_filter = 38, 22, 2
    if libc.prctl(set_no_new_privs, 1, 0, 0, 0) or libc.prctl(set_seccomp, mode_filter, ctypes.byref(program), 0, 0):
        raise OSError(ctypes.get_errno(), "the system refuses the filter that keeps AMX away")
