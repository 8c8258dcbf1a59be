"""The names that C sees."""

import re

import pytest

from penjing.core.errors import InvalidInput
from penjing.program.symbols import c_stem


@pytest.mark.parametrize(
    ("name", "stem"),
    [
        ("edgecnn", "penjing_edgecnn"),
        ("EdgeCNN-v2.1", "penjing_EdgeCNN_v2_1"),
        ("0day", "penjing_0day"),
        ("a b\n*/c", "penjing_a_b___c"),
        ("树a", "penjing__a"),
    ],
)
def test_a_stem_is_a_c_identifier_whatever_the_model_is_called(name, stem):
    assert c_stem(name) == stem
    assert re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", stem)


@pytest.mark.parametrize("name", ["", "_", "盆景", "--"])
def test_a_name_that_leaves_nothing_is_refused(name):
    with pytest.raises(InvalidInput, match="leaves nothing to name C functions by"):
        c_stem(name)
