"""A tray of which any byte was changed, or a part is missing, is refused before anything in it is used."""

import numpy as np
import pytest


def commands(name: str) -> list[tuple[str, ...]]:
    return [("run", name, "digit.png"), ("inspect", name), ("bench", name)]


@pytest.mark.parametrize("seed", range(3))
def test_a_tray_with_one_changed_byte_is_refused(penjing, place, seed):
    rng = np.random.default_rng(seed)
    data = (place / "edgecnn.tray").read_bytes()
    for turn in range(30):
        at, change = int(rng.integers(len(data))), int(rng.integers(1, 256))
        altered = bytearray(data)
        altered[at] ^= change
        (place / "altered.tray").write_bytes(altered)
        told = penjing(*commands("altered.tray")[turn % 3])
        where = f"repro: byte {at} changed by {change}"
        assert told.code == 1, where
        assert told.out == "", where
        assert told.err.startswith(("CorruptBundle: ", "UnsupportedBundle: ")), where
        assert "altered.tray" in told.err, where


@pytest.mark.parametrize("share", [0.0, 0.001, 0.1, 0.5, 0.9, 0.999])
def test_a_truncated_tray_is_refused(refused, place, share):
    data = (place / "edgecnn.tray").read_bytes()
    (place / "cut.tray").write_bytes(data[: int(len(data) * share)])
    for command in commands("cut.tray"):
        refused(*command, error="CorruptBundle")


def test_a_tray_with_more_behind_it_is_refused(refused, place):
    with (place / "edgecnn.tray").open("ab") as stream:
        stream.write(b"more")
    for command in commands("edgecnn.tray"):
        refused(*command, error="CorruptBundle")
