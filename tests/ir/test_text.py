"""The text form: what is printed reads back as the same graph, whatever it holds."""

import dataclasses

import numpy as np
import pytest

from penjing.core.digests import digest_array
from penjing.core.errors import InvalidGraph, TextSyntaxError
from penjing.ir.graph import Graph, Node, Operation
from penjing.ir.parse import MAX_EXTENT, MAX_TEXT_BYTES, parse_graph
from penjing.ir.text import HEADER, print_graph, print_type
from penjing.ir.types import Constant, Dim, DType, Quant, Type
from penjing.ops import operators, registry
from penjing.ops.relu import Relu
from penjing.testing.networks import Network, edge_cnn

ONE = "input %x : f32[1]\n  %y = relu(%x) : f32[1]\n  return %y\n"


def arrays(graph: Graph) -> dict[str, np.ndarray]:
    return {name: constant.array for name, constant in graph.constants.items()}


def read(text: str, constants: dict[str, np.ndarray] | None = None) -> Graph:
    return parse_graph(text, constants or {}, registry())


def reread(graph: Graph) -> Graph:
    return read(print_graph(graph), arrays(graph))


def document(body: str, stage: str = "imported") -> str:
    return f'{HEADER}\ngraph "g" stage "{stage}" {{\n  {body}}}\n'


def assert_same(got: Graph, want: Graph) -> None:
    assert (got.name, got.stage, got.inputs, got.outputs) == (want.name, want.stage, want.inputs, want.outputs)
    assert got.types == want.types
    assert got.states == want.states
    assert got.nodes == want.nodes
    assert list(got.constants) == list(want.constants)
    for name, constant in want.constants.items():
        assert got.constants[name].type == constant.type
        assert got.constants[name].encoding == constant.encoding
        assert got.constants[name].array.tobytes() == constant.array.tobytes()


@pytest.mark.parametrize("which", ["featured", "program", "edge_cnn"])
def test_a_graph_reads_back_as_itself(which, request):
    graph = edge_cnn() if which == "edge_cnn" else request.getfixturevalue(which)
    again = reread(graph)
    assert_same(again, graph)
    assert print_graph(again) == print_graph(graph)


def test_the_text_is_ascii_and_one_line_per_value(featured):
    text = print_graph(featured)
    assert text.isascii() and text.endswith("}\n")
    values = len(featured.inputs) + len(featured.states) + len(featured.constants) + len(featured.nodes)
    assert len(text.splitlines()) == values + 4


def test_constants_travel_beside_the_text_by_digest(program):
    text = print_graph(program)
    for name, constant in program.constants.items():
        assert f"sha256:{digest_array(constant.array)}" in text
        assert name in text


def test_floats_read_back_exactly(featured):
    text = print_graph(featured)
    assert "q(0x1.99999a0000000p-4, 7)" in text
    assert f"{float(np.float32(3e38)).hex()}], 0, 0)" in text
    assert "low = -inf, high = inf" in text
    assert "= -0x1.0000000000000p-1 <- %h.next" in text


def test_a_type_is_printed_with_bounds_and_quantization():
    assert print_type(Type((Dim("batch", 1), 10), DType.U8, Quant((0.09375,), 3))) == (
        "u8[batch<=1, 10] q(0x1.8000000000000p-4, 3)"
    )
    assert print_type(Type((), DType.F32)) == "f32[]"


SAMPLES = [
    pytest.param(sample, id=f"{name}-{i}")
    for name, operator in operators().items()
    for i, sample in enumerate(operator.samples())
]


@pytest.mark.parametrize("sample", SAMPLES)
def test_every_operator_with_its_attributes_reads_back(sample):
    graph = Graph("one")
    inputs = []
    for i, array in enumerate(sample.inputs):
        if array is None:
            inputs.append("")
        elif i in sample.constant:
            inputs.append(graph.add_constant(f"c{i}", Constant(array)))
        else:
            inputs.append(graph.add_input(f"x{i}", Type(tuple(array.shape), DType.of(array))))
    types = sample.op.infer(*(graph.types[name] for name in inputs if name))
    outputs = tuple(f"y{i}" for i in range(len(types)))
    graph.add_node(sample.op, tuple(inputs), outputs)
    graph.outputs = outputs
    assert_same(reread(graph), graph)


def test_equal_graphs_print_equal_text_and_any_change_shows():
    def net(**changes):
        made = Network("net", changes.pop("seed", 0))
        x = made.input(1, 4, 4)
        made.conv(x, 2, out="conv", **changes)
        return print_graph(made.done("conv"))

    assert net() == net()
    assert len({net(), net(seed=1), net(kernel=5), net(bias=False)}) == 4


def test_an_attribute_that_the_text_cannot_hold_is_refused_when_it_is_printed():
    @dataclasses.dataclass(frozen=True)
    class Odd(Operation):
        name = "odd"
        table: object

        def infer(self, *inputs):
            return inputs

    graph = Graph("g")
    graph.add_input("x", Type((1,)))
    for value in ({"a": 1}, [1, 2], np.float32(1), b"bytes"):
        graph.nodes = [Node(Odd(value), ("x",), ("y",))]
        graph.types["y"] = Type((1,))
        with pytest.raises(TypeError, match="attributes hold numbers, strings, extents and tuples"):
            print_graph(graph)


def test_white_space_may_be_laid_out_by_hand():
    loose = document("input%x:f32[ 1 ]%y=relu(%x):f32[1]\n\n\n   return %y")
    assert print_graph(read(loose)) == document(ONE)


@pytest.mark.parametrize(
    ("body", "line", "what"),
    [
        ("input %x f32[1]\n", 3, "expected ':', found 'f32'"),
        (ONE.replace("relu(%x)", "relu(%x"), 4, "expected ','"),
        (ONE.replace("= relu", "= rule"), 4, "unknown operator"),
        (ONE.replace("f32[1]\n  return", "f64[1]\n  return"), 4, "unknown dtype 'f64'"),
        (ONE.replace("return %y", "return y"), 5, "expected '%'"),
        (ONE.replace("%y = relu", "%y, %z = relu"), 4, "as many types as outputs"),
        (ONE.replace("%y =", "%x ="), 4, "value %x is defined twice"),
        ("input %x : f32[1]\n  input %x : f32[1]\n", 4, "value %x is defined twice"),
        (ONE.replace("relu(%x)", "clamp(%x)"), 4, "the attributes of clamp do not fit"),
        (ONE.replace("relu(%x)", "clamp(%x) {low = 0x1.0p+0}"), 4, "the attributes of clamp do not fit"),
        (ONE.replace("relu(%x)", "relu(%x) {low = 0x1.0p+0}"), 4, "the attributes of relu do not fit"),
        (ONE.replace("relu(%x)", "softmax(%x) {axis = 1, axis = 1}"), 4, "attribute axis is given twice"),
        (ONE.replace("relu(%x)", "softmax(%x) {axis = 0x1.0p+0}"), 4, "attribute axis of softmax must be"),
        (ONE.replace("relu(%x)", "softmax(%x) {axis = true}"), 4, "attribute axis of softmax must be"),
        (ONE.replace("relu(%x)", "softmax(%x) {axis = [1]}"), 4, "attribute axis of softmax must be"),
        (ONE.replace("relu(%x)", 'softmax(%x) {axis = "1"}'), 4, "attribute axis of softmax must be"),
        (ONE.replace("relu(%x)", "softmax(%x) {axis = none}"), 4, "attribute axis of softmax must be"),
        (ONE.replace("relu(%x)", "softmax(%x) {axis = maybe}"), 4, "unexpected 'maybe'"),
        (ONE.replace("relu(%x)", "softmax(%x) {axis = [[[[[[1]]]]]]}"), 4, "attributes nest too deeply"),
        (ONE.replace("relu(%x)", "clamp(%x) {low = 0x1.0p+0, high = 0x1.0p+9999}"), 4, "is no float64"),
        (ONE.replace("f32[1]\n", f"f32[{MAX_EXTENT + 1}]\n", 1), 3, "is outside 0.."),
        (ONE.replace("f32[1]\n", "f32[-1]\n", 1), 3, "is outside 0.."),
        (ONE.replace("f32[1]\n", "f32[1, 1, 1, 1, 1, 1, 1]\n", 1), 3, "a rank over 6"),
        (ONE.replace("f32[1]\n", "f32[65536, 65536]\n", 1), 3, "more than 2^31 - 1 elements"),
        (ONE.replace("f32[1]\n", "f32[n<=0]\n", 1), 3, "is outside 1.."),
        (ONE.replace("f32[1]\n", f"f32[{'9' * 19}]\n", 1), 3, "is outside 0.."),
        (ONE.replace("f32[1]\n", f"f32[{'9' * 20}]\n", 1), 3, "unexpected"),
        (ONE.replace("f32[1]\n", "f32[1] q(0.5, 0)\n", 1), 3, "unexpected"),
        (ONE.replace("%x", '%"\\x"'), 3, "bad string"),
        (ONE.replace("%x", '%"' + "a" * 5000 + '"'), 3, "unexpected"),
        ("const %w : f32[1] dense sha256:" + "0" * 64 + "\n", 3, "no array was given for constant %w"),
        ("const %w : f32[1] dense sha256:" + "0" * 63 + "\n", 3, "expected a digest"),
        ("state %h : f32[1] = 0 <- %h\n", 3, "expected a float"),
        (ONE + "} graph", 6, "expected nothing after the closing brace, found 'graph'"),
        (ONE + "\0", 6, "unexpected '\\x00"),
        (ONE.replace("\n", "\r\n"), 3, "unexpected '\\r"),
        ("", 3, "expected '%', found '}'"),
    ],
)
def test_what_does_not_parse_is_refused_with_its_line(body, line, what):
    with pytest.raises(TextSyntaxError) as caught:
        read(document(body))
    assert what in caught.value.what
    assert caught.value.where == f"line {line}"


@pytest.mark.parametrize("head", ["", "penjing 2", "penjing", " penjing 1", "\ufeffpenjing 1"])
def test_another_version_or_no_header_is_refused(head):
    with pytest.raises(TextSyntaxError, match="expected 'penjing 1' on the first line"):
        read(document(ONE).replace(HEADER, head, 1))


@pytest.mark.parametrize("cut", range(0, 130, 7))
def test_a_text_that_ends_anywhere_is_refused(cut):
    text = document(ONE)
    with pytest.raises(TextSyntaxError):
        read(text[: min(cut, len(text) - 3)])


@pytest.mark.parametrize(
    ("body", "what"),
    [
        (ONE.replace("return %y", "return %z"), "output %z is never computed"),
        (ONE.replace("relu(%x)", "relu(%z)"), "input %z is not defined before its use"),
        (ONE.replace("relu(%x)", "relu()"), "relu cannot take ()"),
        (ONE.replace("relu(%x)", "linear(%x)"), "linear cannot take"),
        (ONE.replace("f32[1]\n  return", "f32[2]\n  return"), "the shape rule says"),
        (ONE.replace("%y = relu(%x) : f32[1]", "%y, %z = relu(%x) : f32[1], f32[1]"), "makes 1 values, not 2"),
        (ONE.replace("f32[1]\n", "f32[0]\n"), "an extent of 0"),
        (ONE.replace("f32[1]\n", "f32[1] q(-0x1.0p+0, 0)\n", 1), "a scale that is not a positive number"),
        (ONE.replace("f32[1]\n", "f32[1] q(-inf, 0)\n", 1), "a scale that is not a positive number"),
        (ONE.replace("f32[1]\n", "f32[1] q([0x1.0p+0, 0x1.0p+0], 0, 0)\n", 1), "2 scales along 0"),
        (ONE.replace("f32[1]\n", "u8[1] q(0x1.0p+0, 256)\n", 1), "zero point 256, which is no u8 code"),
    ],
)
def test_what_parses_but_breaks_a_rule_is_an_invalid_graph(body, what):
    with pytest.raises(InvalidGraph) as caught:
        read(document(body))
    assert type(caught.value) is InvalidGraph
    assert what in caught.value.what


def test_an_unknown_stage_is_refused():
    with pytest.raises(InvalidGraph, match="unknown stage 'baked'"):
        read(document(ONE, stage="baked"))


@pytest.mark.parametrize(
    ("given", "what"),
    [
        ({}, "no array was given for constant %w"),
        ({"w": np.float32([1, 3])}, "is not the array that the program was written with"),
        ({"w": np.float32([[1, 2]])}, "is not the array that the program was written with"),
        ({"w": np.float64([1, 2])}, "is not the array that the program was written with"),
        ({"w": np.int32([1, 2])}, "is not the array that the program was written with"),
    ],
)
def test_other_constants_than_the_program_was_printed_with_are_refused(given, what):
    digest = digest_array(np.float32([1, 2]))
    text = document(f"const %w : f32[2] dense sha256:{digest}\n  %y = relu(%w) : f32[2]\n  return %y\n")
    with pytest.raises(TextSyntaxError) as caught:
        read(text, given)
    assert what in caught.value.what
    assert read(text, {"w": np.float32([1, 2])}).outputs == ("y",)


@pytest.mark.parametrize("dtype", ["f32", "s32", "u8"])
@pytest.mark.parametrize("array", [np.float64([1, 2]), np.int64([1, 2]), np.bool_([1, 0]), np.array(["ab", "c"])])
def test_a_constant_of_a_type_that_no_graph_holds_is_refused_even_with_its_digest(array, dtype):
    text = document(f"const %w : {dtype}[2] dense sha256:{digest_array(array)}\n  return %w\n")
    with pytest.raises(TextSyntaxError, match=r"constant %w is .*\[2\], not"):
        read(text, {"w": array})


@pytest.mark.parametrize("declared", ["f32[1]", "f32[2, 1]", "s32[2]", "u8[2]"])
def test_a_constant_of_another_shape_or_type_than_declared_is_refused(declared):
    array = np.float32([1, 2])
    text = document(f"const %w : {declared} dense sha256:{digest_array(array)}\n  return %w\n")
    with pytest.raises(TextSyntaxError, match=r"constant %w is float32\[2\], not"):
        read(text, {"w": array})


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_constant_with_nan_or_infinity_is_refused(bad):
    array = np.float32([1, bad])
    text = document(f"const %w : f32[2] dense sha256:{digest_array(array)}\n  %y = relu(%w) : f32[2]\n  return %y\n")
    with pytest.raises(InvalidGraph, match="constant %w holds NaN or infinity"):
        read(text, {"w": array})


def test_an_unknown_encoding_is_refused():
    array = np.float32([1])
    text = document(f"const %w : f32[1] zipped sha256:{digest_array(array)}\n  return %w\n")
    with pytest.raises(TextSyntaxError, match="unknown encoding 'zipped'"):
        read(text, {"w": array})


def test_a_constant_read_from_text_cannot_be_written(program):
    again = reread(program)
    for constant in again.constants.values():
        with pytest.raises(ValueError, match="read-only"):
            constant.array[...] = 0


def test_the_text_may_not_be_longer_than_16_mib():
    text = document(ONE).replace("return", " " * MAX_TEXT_BYTES + "return")
    with pytest.raises(TextSyntaxError, match="over the limit of 16777216"):
        read(text)


def test_an_operator_class_without_the_name_in_the_registry_is_unknown():
    with pytest.raises(TextSyntaxError, match="unknown operator"):
        parse_graph(document(ONE), {}, {})
    assert parse_graph(document(ONE), {}, {"relu": Relu}).nodes[0].op == Relu()
