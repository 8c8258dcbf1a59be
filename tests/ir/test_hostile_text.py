"""A text from a hostile tray is refused or understood; nothing else happens, and not for long."""

import re
import resource
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from penjing.core.errors import PenjingError, TextSyntaxError
from penjing.ir import parse
from penjing.ir.graph import Graph
from penjing.ir.parse import parse_graph
from penjing.ir.text import HEADER, print_graph
from penjing.ir.types import Constant, DType, Type
from penjing.ops import integer_operators, operators, registry
from penjing.ops.operator import IntegerOperator
from penjing.program.plan import plan

PIECE = re.compile(r'"(?:[^"\\]|\\.)*"|[A-Za-z0-9_.]+|[^A-Za-z0-9_.]')
NASTY = [
    *(
        "0",
        "1",
        "-1",
        "2",
        "7",
        "255",
        "256",
        "65536",
        "2147483647",
        "2147483648",
        "9223372036854775807",
        "9" * 19,
        "9" * 30,
    ),
    *(
        "-9223372036854775808",
        "0x1.0p+1023",
        "0x1.0p+1024",
        "0x0.0p+0",
        "-0x0.0p+0",
        "0x1.0p-1074",
        "inf",
        "-inf",
        "nan",
        "1.5",
    ),
    *(
        "none",
        "true",
        "false",
        "batch<=1",
        "batch<=2",
        "n<=2147483647",
        "[]",
        "[1]",
        "[[1, 2], 3]",
        "[" * 9,
        '""',
        '"\\ud800"',
    ),
    *(
        "%x",
        '%""',
        "%",
        ", %x",
        "relu",
        "q_conv2d",
        "linear",
        "split",
        "f32",
        "u8",
        "s8",
        "s32",
        "u8[1]",
        "f32[]",
        "q(",
        "return",
    ),
    *(
        "{",
        "}",
        "input",
        "const",
        "state",
        "lowered",
        "imported",
        "planned",
        "\n",
        '"',
        "\\",
        "\0",
        "\u2028",
        "木",
        "@",
        "<-",
        "=",
    ),
]


NUMBERS = ("0", "-1", "2", "2147483647", "9" * 18, "-9223372036854775808", "[]", "0x1.0p+1023", "-inf", "none")
MOST_BYTES = 2**30


@pytest.fixture(autouse=True, scope="module")
def little_memory():
    """A shape rule that allocates as much as a text asks for fails its test, and not the machine."""
    pages = Path("/proc/self/statm")
    if not pages.exists():
        yield
        return
    used = int(pages.read_text().split()[0]) * resource.getpagesize()
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (used + MOST_BYTES, hard))
    yield
    resource.setrlimit(resource.RLIMIT_AS, (soft, hard))


def arrays(graph: Graph) -> dict[str, np.ndarray]:
    return {name: constant.array for name, constant in graph.constants.items()}


@st.composite
def mutations(draw):
    """(how, where, with what) to be applied in turn."""
    how = st.sampled_from(["drop", "replace", "insert", "copy", "swap"])
    place = st.floats(0, 1, exclude_max=True)
    return draw(st.lists(st.tuples(how, place, place, st.sampled_from(NASTY)), min_size=1, max_size=4))


def mutate(text: str, changes) -> str:
    pieces = PIECE.findall(text)
    for how, at, other, nasty in changes:
        i, j = int(at * len(pieces)), int(other * len(pieces))
        if how == "drop":
            del pieces[i]
        elif how == "replace":
            pieces[i] = nasty
        elif how == "insert":
            pieces.insert(i, nasty)
        elif how == "copy":
            pieces[i] = pieces[j]
        else:
            pieces[i], pieces[j] = pieces[j], pieces[i]
    return "".join(pieces)


@pytest.mark.parametrize("which", ["featured", "program"])
@settings(max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(changes=mutations())
def test_a_changed_text_is_refused_with_a_penjing_error_or_is_a_legal_graph(which, changes, request):
    graph = request.getfixturevalue(which)
    constants = arrays(graph)
    try:
        got = parse_graph(mutate(print_graph(graph), changes), constants, registry())
    except PenjingError as error:
        assert error.what and str(error)
        return
    text = print_graph(got)
    assert print_graph(parse_graph(text, constants, registry())) == text
    if got.stage == "lowered":
        assert plan(got).arena_bytes >= 0


@pytest.mark.parametrize("nasty", NASTY)
def test_every_attribute_and_number_of_a_program_may_be_anything(program, nasty):
    """Each piece in turn: what hypothesis reaches by chance is reached here for certain."""
    text = print_graph(program)
    constants = arrays(program)
    pieces = PIECE.findall(text)
    numbers = [i for i, piece in enumerate(pieces) if re.fullmatch(r"-?[0-9].*|true|false|none", piece)]
    for i in numbers[:: max(1, len(numbers) // 40)]:
        changed = "".join([*pieces[:i], nasty, *pieces[i + 1 :]])
        try:
            got = parse_graph(changed, constants, registry())
        except PenjingError:
            continue
        assert print_graph(got)


def one_node(sample) -> Graph:
    """A graph of the sample's operator alone."""
    graph = Graph("one", stage="lowered" if isinstance(sample.op, IntegerOperator) else "imported")
    inputs = []
    for i, array in enumerate(sample.inputs):
        if array is None:
            inputs.append("")
        elif i in sample.constant:
            inputs.append(graph.add_constant(f"c{i}", Constant(array)))
        else:
            inputs.append(graph.add_input(f"x{i}", Type(tuple(array.shape), DType.of(array))))
    outputs = tuple(f"y{i}" for i in range(len(sample.op.infer(*sample.types))))
    graph.add_node(sample.op, tuple(inputs), outputs)
    graph.outputs = outputs
    return graph


@pytest.mark.parametrize("name", sorted({**operators(), **integer_operators()}))
def test_every_attribute_of_every_operator_may_be_anything(name):
    sample = next(iter(registry()[name].samples()))
    graph = one_node(sample)
    text, constants = print_graph(graph), arrays(graph)
    head, _, rest = text.partition(f"= {name}(")
    call, _, tail = rest.partition(" : ")
    pieces = PIECE.findall(call)
    start = pieces.index("{") if "{" in pieces else len(pieces)
    for i in range(start, len(pieces)):
        if not re.fullmatch(r"[0-9].*|true|false|none|inf", pieces[i]):
            continue
        for number in NUMBERS:
            changed = "".join([*pieces[:i], number, *pieces[i + 1 :]])
            try:
                got = parse_graph(f"{head}= {name}({changed} : {tail}", constants, registry())
            except PenjingError:
                continue
            assert print_graph(got)
            if got.stage == "lowered":
                assert plan(got).arena_bytes >= 0


@given(st.binary(max_size=300))
def test_random_bytes_are_refused(data):
    text = data.decode("latin-1")
    for given_text in (text, f"{HEADER}\n{text}", f'{HEADER}\ngraph "g" stage "imported" {{\n{text}'):
        with pytest.raises(TextSyntaxError):
            parse_graph(given_text, {}, registry())


def start(body: str) -> str:
    return f'{HEADER}\ngraph "g" stage "imported" {{\n{body}'


HUGE = {
    "a million blank lines": ("\n" * 10**6, "line 1000003"),
    "a million levels": ("input %x : f32[1]\n%y = reshape(%x) {shape = " + "[" * 10**6, "line 4"),
    "a million braces": ("{" * 10**6, "line 3"),
    "a rank of a million": ("input %x : f32[" + "1, " * 10**6, "line 3"),
    "a name of a megabyte": ('input %"' + "a" * 10**6 + '" : f32[1]\n', "line 3"),
    "a word of a megabyte": ("input %" + "a" * 10**6 + " : f32[1]\n", "line 3"),
    "an integer of a megabyte": ("input %x : f32[" + "9" * 10**6 + "]\n", "line 3"),
    "an attribute that never ends": ("input %x : f32[1]\n%y = reshape(%x) {shape = [" + "1, " * 10**5, "line 4"),
}


@pytest.mark.parametrize("which", HUGE)
def test_size_and_depth_are_bounded(which):
    body, line = HUGE[which]
    with pytest.raises(TextSyntaxError) as caught:
        parse_graph(start(body), {}, registry())
    assert caught.value.where == line
    assert len(str(caught.value)) < 500


def test_the_number_of_values_is_bounded(monkeypatch):
    monkeypatch.setattr(parse, "MAX_VALUES", 20_000)
    values = "".join(f"input %a{i} : f32[]\n" for i in range(20_001))
    with pytest.raises(TextSyntaxError, match="more than 100000 nodes or 20000 values") as caught:
        parse_graph(start(values), {}, registry())
    assert caught.value.where == "line 20003"


def test_the_number_of_nodes_is_bounded(monkeypatch):
    monkeypatch.setattr(parse, "MAX_NODES", 50)
    nodes = "input %b0 : f32[]\n" + "".join(f"%b{i + 1} = relu(%b{i}) : f32[]\n" for i in range(51))
    with pytest.raises(TextSyntaxError, match="more than 50 nodes"):
        parse_graph(start(nodes), {}, registry())
