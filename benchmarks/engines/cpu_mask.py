"""Hold every engine to AVX2 alike: `cpu_mask.c`, preloaded into a worker, answers CPUID as such a processor would."""

import hashlib
import os
import subprocess
import sys
from dataclasses import dataclass

from engines.environments import HERE, engines_folder
from penjing.core.targets import host_target
from penjing.toolchain import find_compiler

# glibc has asked the processor before the preload begins; its string functions would use AVX-512.
_GLIBC = "glibc.cpu.hwcaps=" + ",".join(f"-AVX512{part}" for part in ("F", "VL", "BW", "CD", "DQ"))
_SEES = "import numpy as np; f = np._core._multiarray_umath.__cpu_features__; print(f['AVX2'], f['AVX512F'])"


@dataclass(frozen=True)
class Mask:
    """What a worker's environment needs, or why this machine cannot do it.

    Attributes:
        environment: variables; empty where there is a reason.
        reason: why engines cannot be held; empty where they can.
    """

    environment: dict[str, str]
    reason: str = ""


def avx2_mask() -> Mask:
    """Build the preload, and try it: a child must see AVX2 and nothing above it."""
    source = HERE / "cpu_mask.c"
    library = engines_folder() / f"cpu_mask-{hashlib.sha256(source.read_bytes()).hexdigest()[:12]}.so"
    flags = ["-std=gnu99", "-O2", "-shared", "-fPIC", "-Wl,-z,initfirst", "-o", str(library), str(source), "-ldl"]
    built = _run([*find_compiler(host_target()).command, *flags])
    if built.returncode != 0:
        return Mask({}, f"cpu_mask.c does not compile here: {_last(built)}")
    preload = " ".join(filter(None, [str(library), os.environ.get("LD_PRELOAD", "")]))
    environment = {"LD_PRELOAD": preload, "GLIBC_TUNABLES": _GLIBC}
    child = _run([sys.executable, "-c", _SEES], environment)
    if child.returncode != 0:
        return Mask({}, f"this machine cannot make CPUID fault: {_last(child)}")
    if child.stdout.split() != ["True", "False"]:
        return Mask({}, f"under the mask a child sees AVX2, AVX-512: {child.stdout.strip()}")
    return Mask(environment)


def _run(command: list[str], environment: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    env = {**os.environ, **(environment or {})}
    return subprocess.run(command, capture_output=True, text=True, env=env, timeout=60, check=False)


def _last(done: subprocess.CompletedProcess[str]) -> str:
    return (done.stderr.strip().splitlines() or [f"status {done.returncode}"])[-1]
