"""The parts of a small tray: two variants that share a tensor, two targets, sources and reports."""

import dataclasses
import hashlib
from typing import Any

import numpy as np
import pytest

from penjing.bundle import Accuracy, Golden, InputSpec, OutputSpec
from penjing.bundle.pack import LibraryParts, TrayParts, VariantParts, pack_tray


def library(name: str, data: bytes, **fields: Any) -> LibraryParts:
    """A library that never ran; `fields` replace what it says of itself."""
    stated = {"standalone": False, "compiler": "cc", "abi": 1, "arena_bytes": 512, "packed_bytes": 68}
    stated["packed_digest"] = hashlib.sha256(name.encode()).hexdigest()
    return LibraryParts(name, data, flash_bytes=len(data), **{**stated, **fields})


def _parts() -> TrayParts:
    rng = np.random.default_rng(0)
    shared = rng.integers(-127, 128, (4, 1, 3, 3)).astype(np.int8)
    codes_in = rng.integers(0, 256, (2, 1, 4, 4)).astype(np.uint8)
    codes_out = rng.integers(0, 256, (2, 3)).astype(np.uint8)

    def variant(name: str, bias: int, accuracy: Accuracy | None) -> VariantParts:
        return VariantParts(
            program=f"program {name}\n",
            weights={
                "conv.weight": shared,
                "conv.bias": np.full(4, bias, np.int32),
                "conv.multiplier": np.array([0.5, 0.25, 1e-3, 2.0], np.float32),
            },
            golden=Golden(inputs=(codes_in,), outputs=(codes_out + np.uint8(bias),)),
            arena_bytes=512,
            weights_bytes=68,
            macs=576,
            n_ops=2,
            accuracy=accuracy,
        )

    return TrayParts(
        name="tiny",
        card={"description": "a tray for tests", "license": "Apache-2.0", "task": "数字 classification"},
        inputs=(
            InputSpec(
                name="image",
                shape=(1, 1, 4, 4),
                dtype="f32",
                layout="NCHW",
                scale=float(np.float32(1 / 255)),
                zero_point=0,
                code_dtype="u8",
                mean=(0.5,),
                std=(0.25,),
                value_range=(0.0, 1.0),
                color="gray",
            ),
        ),
        outputs=(
            OutputSpec(
                name="logits",
                shape=(1, 3),
                dtype="f32",
                scale=0.125,
                zero_point=128,
                code_dtype="u8",
                labels=("zero", "one", "二"),
            ),
        ),
        variants={
            "w8a8": variant("w8a8", 1, Accuracy("top-1", 0.91, 0.89, 0.93, 1000, "digits")),
            "w4a8": variant("w4a8", 2, None),
        },
        libraries={
            "x86_64-linux": {"w8a8": library("tiny.so", b"\x7fELF" + bytes(40), packed_bytes=192, compiler="cc 13")},
            "wasm32": {"w8a8": library("tiny.wasm", b"\0asm", standalone=True, stack_bytes=256, compiler="zig 0.13")},
        },
        sources={"tiny.c": b"int x;\n", "tiny.h": b"extern int x;\n"},
        reports={"record.json": b"{}\n"},
    )


@pytest.fixture(scope="session")
def parts() -> TrayParts:
    return _parts()


@pytest.fixture(scope="session")
def packed(parts: TrayParts) -> bytes:
    return pack_tray(parts)


@pytest.fixture(scope="session")
def smallest(parts: TrayParts) -> bytes:
    """A complete tray in few bytes, for tests that try every byte of it."""
    only = {"w8a8": dataclasses.replace(parts.variants["w8a8"], weights={"conv.bias": np.ones(1, np.int32)})}
    small = dataclasses.replace(parts, card={}, variants=only, libraries={}, sources={}, reports={})
    return pack_tray(small)
