"""Which instruction sets of a target can be run here: by this processor, or by an emulator in its place."""

from functools import cache
from pathlib import Path

from penjing.toolchain import Target, has_emulator, run_executable
from penjing.toolchain.compilers import is_host

# As /proc/cpuinfo names them; the same as `pj_detect` asks for.
_FEATURES: dict[str, set[str]] = {
    "x86_avx512vnni": {"fma", "avx512f", "avx512bw", "avx512dq", "avx512vl", "avx512_vnni", "avx512vbmi"},
    "x86_avx2": {"avx2", "fma"},
    "scalar": set(),
}
_EMULATED = {"x86_avx2", "scalar"}  # qemu has no AVX-512


def native_isas(target: Target) -> tuple[str, ...]:
    """Those that this processor runs itself, best first; none when `target` is another machine."""
    return tuple(isa for isa in target.isas if _FEATURES[isa] <= _flags()) if is_host(target) else ()


def runnable_isas(target: Target) -> tuple[str, ...]:
    """Those that this processor or an emulator runs, best first; none for a target that has none to choose from."""
    here = {*native_isas(target), *(_EMULATED if has_emulator(target, emulated=True) else ())}
    return tuple(isa for isa in target.isas if isa in here)


def isa_number(target: Target, isa: str) -> int:
    """What a compiled library calls it: 0 is the last, which every processor runs."""
    return target.isas[::-1].index(isa)


def run_on_isa(
    data: bytes, target: Target, isa: str | None, *, stdin: bytes, args: tuple[str, ...] = (), timeout_s: float
) -> bytes:
    """As `run_executable`, by the emulator where this processor lacks the instruction set."""
    emulated = isa is not None and isa not in native_isas(target)
    return run_executable(data, target, stdin=stdin, args=args, timeout_s=timeout_s, emulated=emulated)


@cache
def _flags() -> frozenset[str]:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return frozenset()
    return frozenset(next((line for line in lines if line.startswith("flags")), "").split())
