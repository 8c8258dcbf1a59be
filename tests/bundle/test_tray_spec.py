"""docs/spec/bundle.md tells the truth: its program runs, its numbers are those of the code."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from penjing.bundle import Limits, OutputSpec, Tray
from penjing.bundle.coding import head, models
from penjing.bundle.manifest_rules import ADDRESS_DIGITS
from penjing.bundle.names import MAX_LINE
from penjing.bundle.pack import pack_tray, save_tray
from penjing.bundle.program_text import MAX_TEXT_BYTES
from penjing.bundle.schema import Accuracy, InputSpec, Manifest, TargetBuild, Variant
from penjing.bundle.strict_json import MAX_DEPTH, MAX_VALUES
from penjing.bundle.tray import read_tray
from penjing.bundle.zip_records import END_BYTES

SPEC = Path(__file__).parents[2] / "docs" / "spec" / "bundle.md"


@pytest.fixture(scope="module")
def spec() -> str:
    return SPEC.read_text(encoding="utf-8")


def test_the_program_of_the_specification_reads_our_trays(spec, parts, tmp_path):
    save_tray(pack_tray(parts), tmp_path / "model.tray")
    program = re.search(r"```python\n(.*?)```", spec, re.DOTALL)[1]
    output = subprocess.check_output([sys.executable, "-c", program], cwd=tmp_path, text=True)
    assert "program w8a8\n" in output
    assert "conv.bias s32 [4]\n" in output
    assert "conv.weight s8 [4, 1, 3, 3]\n" in output


def test_the_numbers_of_a_pack_are_those_of_the_coder(spec):
    flat = " ".join(spec.split())
    assert ", ".join(map(str, models.EXP2)) in flat
    assert ", ".join(map(str, models.GRID)) in flat
    assert f"u16, 1 to {head.MAX_LANES}. All tensors together have at most {head.BYTES_PER_LANE} bytes" in flat
    assert f"u8, at most {head.MAX_MODELS};" in flat
    assert f"k <= {models.MOST_LISTED}" in flat
    assert f"of at most {MAX_TEXT_BYTES >> 20} MiB of UTF-8 text" in flat
    assert f"the first {ADDRESS_DIGITS} digits of its `sha256`" in flat


@pytest.mark.parametrize("record", [Manifest, InputSpec, OutputSpec, Variant, TargetBuild, Accuracy])
def test_every_key_of_the_manifest_is_specified(spec, record):
    missing = [key for key in record.__dataclass_fields__ if f"`{key}`" not in spec]
    assert missing == []


def test_the_limits_of_the_specification_are_those_of_the_reader(spec):
    limits = Limits()
    assert limits.file_bytes == 1 << 30 and "| file | 1 GiB |" in spec
    assert limits.manifest_bytes == 4 << 20 and "| `manifest.json` | 4 MiB |" in spec
    assert f"| members | {limits.n_members} |" in spec
    assert f"| a member's name | {limits.name_bytes} bytes |" in spec
    assert f"{MAX_DEPTH} levels, {MAX_VALUES:,} keys and values" in spec
    assert f"1 to {MAX_LINE} characters" in spec
    assert f"the last {END_BYTES} bytes" in spec


def test_the_folders_of_the_specification_hold_all_members(spec, packed):
    tray: Tray = read_tray(packed)
    listing = re.search(r"```\n(manifest\.json .*?)```", spec, re.DOTALL)[1]
    assert all(name.partition("/")[0] in listing for name in tray.members)
