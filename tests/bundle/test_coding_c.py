"""The decoder in C: the bytes of the numpy one, the same packs refused, and no step outside its memory."""

import importlib.util
import struct
import subprocess
import sys
from importlib.resources import files
from itertools import product
from pathlib import Path

import numpy as np
import pytest

from penjing.bundle import generated, pack_tensors, read_pack
from penjing.bundle.coding import tensors as coded
from penjing.bundle.coding.forms import Form, Layout
from penjing.core.errors import PenjingError
from penjing.toolchain import compile_executable, host_target, run_executable

HERE = Path(__file__).parent
FOLDER = files("penjing.kernels").joinpath("decode")
STRICT = ("-std=c99", "-pedantic", "-Wall", "-Wextra", "-Werror", "-Wshadow", "-Wconversion", "-Wstrict-prototypes",
          "-Wmissing-prototypes", "-Wcast-qual", "-Wvla")  # fmt: skip


def source() -> str:
    return FOLDER.joinpath("pj_decode.c").read_text()


def built(text: str, *extra: str) -> bytes:
    parts = {"pj_decode.c": text, "pj_decode.h": FOLDER.joinpath("pj_decode.h").read_text()}
    main = (HERE / "decode_main.c").read_text()
    return compile_executable({**parts, "main.c": main}, host_target(), optimize="-O1", extra=extra)


def decoded(program: bytes, packs: list[bytes], timeout_s: float = 60) -> list[tuple[int, bytes]]:
    """(status, what came out) of each pack."""
    stdin = b"".join(struct.pack("<I", len(pack)) + pack for pack in packs)
    out = run_executable(program, host_target(), stdin=stdin, timeout_s=timeout_s)
    found, at = [], 0
    while at < len(out):
        status, n = struct.unpack_from("<2I", out, at)
        found.append((status, out[at + 8 : at + 8 + n]))
        at += 8 + n
    return found


def by_numpy(pack: bytes) -> bytes | None:
    """What `read_pack` reads; None where it refuses. Names are no matter here: the decoder in C skips them."""
    try:
        return b"".join(array.tobytes() for array in read_pack(pack).values())
    except PenjingError as error:
        return b"names" if "names" in error.what or "text" in error.what else None


def tensors(seed: int = 0) -> list[dict[str, np.ndarray]]:
    rng = np.random.default_rng(seed)

    def codes(*shape: int, spread: float = 30, zeros: float = 0.0) -> np.ndarray:
        values = np.clip(np.rint(rng.normal(size=shape) * spread), -127, 127).astype(np.int8)
        return np.where(rng.random(shape) < zeros, np.int8(0), values)

    blocks = np.repeat(np.repeat(rng.random((3, 40)) < 0.3, 16, axis=0), 4, axis=1)
    n_of_m = rng.random((32, 3, 3, 2, 16)).argsort(axis=-1) < 4
    entries = np.array([-100, -61, -33, -20, -9, -2, 0, 3, 8, 15, 22, 40, 57, 80, 90, 127], np.int8)
    return [
        {"w": codes(16, 3, 3, 16), "b": rng.integers(-(2**20), 2**20, 16).astype(np.int32),
         "m": rng.random(16).astype(np.float32), "s": rng.integers(-999, 999, (4, 4)).astype(np.int16)},
        {"anywhere": codes(20, 5, 5, 20, zeros=0.8), "few": codes(10, 84, spread=1.2),
         "empty": np.zeros((3, 9), np.int8)},
        {"blocks": codes(48, 160) * blocks, "n": codes(32, 3, 3, 32) * n_of_m.reshape(32, 3, 3, 32)},
        {"across": np.where(np.tile(np.arange(20) < 16, (64, 9)), codes(64, 180) * (rng.random((64, 180)) < 0.25), 0)
         .astype(np.int8).reshape(64, 9, 20)},
        {"codebook": entries[rng.integers(0, 16, (64, 90))], "lut": np.arange(255, -1, -1).astype(np.uint8)},
        {"i0": np.concatenate([codes(2, 9, 9).view(np.uint8), generated((2, 9, 9), np.dtype(np.uint8))])},
        {"steps": (np.arange(300) * 77).astype(np.int32), "more": (np.arange(300) * -5).astype(np.int16)},
        {"positive": np.abs(codes(700)), "one": np.full((1,), -128, np.int8), "scalar": np.array(3.5, np.float32)},
        {"large": codes(64, 1600, spread=9)},
        {"odd": codes(64, 1600) | 1},
        {},
    ]  # fmt: skip


@pytest.fixture(scope="module")
def packs() -> list[bytes]:
    return [pack_tensors(found) for found in tensors()]


def overfull() -> bytes:
    """A stream that is right to its end, but for a window of 4 places that says that 5 are taken."""

    def lie(self: Layout, present: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        taken, ranks = honest(self, present)
        return taken + (self.window_lengths == 4), ranks

    honest = Layout.windows
    array = np.tile(np.arange(20) >= 14, (64, 9)).astype(np.int8).reshape(64, 9, 20)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Layout, "windows", lie)
        patch.setattr(coded, "best_form", lambda _: Form(True, False, 1, True, 16))
        return pack_tensors({"a": array})


def oversized() -> bytes:
    """More codes than its lane may bring forth."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(coded, "BYTES_PER_LANE", 1 << 30)
        return pack_tensors({"a": np.zeros(20000, np.int8)})


@pytest.fixture(scope="module")
def hostile(packs) -> list[bytes]:
    """Packs with altered bytes, cut, or continued."""
    rng = np.random.default_rng(0)
    found = [packs[0][:n] for n in (0, 3, 6, 7, 20, 60, len(packs[0]) - 2)] + [packs[0] + b"\0\0"]
    for _ in range(300):
        pack = bytearray(packs[int(rng.choice([0, 1, 2, 3, 4, 5, 6, 7, 9]))])
        for _ in range(int(rng.integers(1, 4))):
            at = int(rng.integers(4, min(len(pack), 150)))
            pack[at] = int(rng.choice([0, 1, 2, 4, 7, 16, 32, 36, 63, 127, 128, 255, pack[at] ^ 1]))
        found.append(bytes(pack))
    found += [overfull(), oversized()]
    return [pack for pack in found if (pack[4:6] + b"\0\0")[1] == 0]  # thousands of lanes make it slow, nothing else


@pytest.fixture(scope="module")
def expected(packs, hostile) -> list[bytes | None]:
    return [by_numpy(pack) for pack in (*packs, *hostile)]


def differing(program: bytes, packs: list[bytes], expected: list[bytes | None], timeout_s: float = 60) -> list[int]:
    """The packs of which something else came out."""
    found = decoded(program, packs, timeout_s)
    assert len(found) == len(packs)
    return [i for i, ((status, out), wanted) in enumerate(zip(found, expected, strict=True))
            if wanted != b"names" and (status == 0, out) != (wanted is not None, wanted or b"")]  # fmt: skip


@pytest.mark.parametrize("options", [(), ("-DPJ_DECODE_BUCKET_BITS=4",)], ids=["fast", "little memory"])
def test_the_decoder_in_c_equals_numpy_and_refuses_what_it_refuses(options, packs, hostile, expected):
    assert sum(wanted is None for wanted in expected) > 100
    assert differing(built(source(), *options), [*packs, *hostile], expected) == []


def test_the_decoder_in_c_never_steps_outside_its_memory(sanitize, packs, hostile, expected):
    assert differing(built(source(), "-g", *sanitize), [*packs, *hostile], expected) == []


def test_no_compiler_warns_about_the_decoder(require, tmp_path):
    for name in ("pj_decode.c", "pj_decode.h"):
        (tmp_path / name).write_text(FOLDER.joinpath(name).read_text())
    commands = [str(require("gcc"))], [sys.executable, "-m", "ziglang", "cc"]
    for command, optimize in product(commands, ("-O1", "-O3")):
        done = subprocess.run([*command, *STRICT, optimize, "-c", "pj_decode.c", "-o", "out.o"], cwd=tmp_path,
                              capture_output=True, text=True, check=False)  # fmt: skip
        assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.slow
def test_every_fault_of_the_decoder_is_caught(packs, hostile, expected):
    spec = importlib.util.spec_from_file_location("mutants_decode", HERE / "mutants_decode.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    survivors = []
    for what, old, new in module.MUTANTS:
        assert source().count(old) == 1, f"{what}: the old text occurs {source().count(old)} times"
        program = built(source().replace(old, new), "-w")
        try:
            if not differing(program, [*packs, *hostile], expected, timeout_s=20):
                survivors.append(what)
        except (PenjingError, AssertionError):
            continue  # it ran wild
    assert not survivors, "no pack catches: " + "; ".join(survivors)
