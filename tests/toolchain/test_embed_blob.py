"""Assembly text for embedded data: what it says, and what it refuses to carry into a build."""

import pytest

from penjing.core.errors import InvalidInput
from penjing.toolchain import TARGETS, assembly_for_blob, find_target


@pytest.mark.parametrize("target", TARGETS, ids=lambda target: target.name)
def test_the_text_aligns_the_data_and_hides_its_name(target):
    text = assembly_for_blob("penjing_weights", "weights.bin", target)
    assert ".p2align 6" in text
    assert '.incbin "weights.bin"' in text
    assert ".hidden penjing_weights" in text or ".private_extern _penjing_weights" in text
    assert "/" not in text


def test_only_elf_says_that_the_stack_is_not_executable():
    for target in TARGETS:
        assert (".note.GNU-stack" in assembly_for_blob("w", "w.bin", target)) == (target.kind == "elf")


@pytest.mark.parametrize("symbol", ["", "1a", "a-b", "a b", "a\n.globl main", 'a"', "é", "a.b"])
def test_a_symbol_that_is_no_identifier_is_refused(symbol):
    with pytest.raises(InvalidInput, match="identifier"):
        assembly_for_blob(symbol, "w.bin", find_target("wasm32"))


@pytest.mark.parametrize(
    "name", ["", 'w".bin', "w\\.bin", "w\n.bin", "/etc/passwd", "../w.bin", "a/../../w", "-w", "w;x"]
)
def test_a_file_name_that_could_break_out_of_the_text_is_refused(name):
    with pytest.raises(InvalidInput, match="source name"):
        assembly_for_blob("w", name, find_target("wasm32"))
