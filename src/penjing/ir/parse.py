"""Reads the text form back. The text may come from a hostile tray: sizes and depth are bounded, nothing is executed."""

import dataclasses
import json
import math
import re
from collections.abc import Iterator, Mapping
from types import UnionType
from typing import Any, Union, get_args, get_origin, get_type_hints

import numpy as np

from penjing.core.digests import digest_array
from penjing.core.errors import TextSyntaxError
from penjing.ir.graph import Graph, Node, Operation, Registry
from penjing.ir.text import HEADER
from penjing.ir.types import MAX_RANK, Constant, Dim, DType, Encoding, Extent, Quant, Source, State, Type
from penjing.ir.verify import verify

MAX_TEXT_BYTES = 16 * 2**20
MAX_NODES = 100_000
MAX_VALUES = 400_000
MAX_EXTENT = 2**31 - 1
MAX_DEPTH = 4

_WORDS = {"none": None, "true": True, "false": False, "inf": math.inf}
_DTYPES = {dtype.value: dtype for dtype in DType}
_ENCODINGS = {encoding.value: encoding for encoding in Encoding}
_TOKEN = re.compile(
    r"""[ \n]*+(?:
        (?P<float>-?0x[01]\.[0-9a-f]{1,13}p[+-][0-9]{1,4}|-inf(?![0-9a-zA-Z_.]))
      | (?P<digest>sha256:[0-9a-f]{64})
      | (?P<int>-?[0-9]{1,19}(?![0-9a-zA-Z_.]))
      | (?P<string>"(?:[^"\\\n]|\\.){0,4096}")
      | (?P<word>[A-Za-z_][A-Za-z0-9_.]{0,255})
      | (?P<mark><=|<-|[%{}()\[\],:=@])
      | (?P<end>\Z))""",
    re.VERBOSE,
)


def parse_graph(text: str, constants: Mapping[str, np.ndarray], operators: Registry) -> Graph:
    """The graph that prints as `text`.

    Args:
        text: the text form, at most 16 MiB.
        constants: value name -> array; each must have the digest that the text states.
        operators: operator name -> class, from `penjing.ops`.

    Raises:
        TextSyntaxError: with the line, when it is not a text form, or `constants` are not those it was printed with.
        InvalidGraph: when it parses but breaks a rule of its stage.
    """
    if len(text) > MAX_TEXT_BYTES:
        raise TextSyntaxError(f"a program of {len(text)} bytes is over the limit of {MAX_TEXT_BYTES}")
    head, _, body = text.partition("\n")
    if head != HEADER:
        raise TextSyntaxError(f"expected {HEADER!r} on the first line", where="line 1", hint="upgrade penjing")
    graph = _Parser(body, constants, operators).graph()
    verify(graph)
    return graph


class _Parser:
    """Reads token by token; the one that is looked at has not been taken yet."""

    def __init__(self, text: str, constants: Mapping[str, np.ndarray], operators: Registry) -> None:
        self._source_text = text
        self._kind, self._text = "", ""
        self._start = self._end = self._last = 0  # of the token looked at, and start of the one taken last
        self._constants = constants
        self._operators = operators
        self._graph = Graph("")
        self._inputs: list[str] = []
        self._hints: dict[str, dict[str, Any]] = {}
        self._advance()

    def graph(self) -> Graph:
        self._expect("graph")
        self._graph.name = self._string()
        self._expect("stage")
        self._graph.stage = self._string()
        self._expect("{")
        while not self._at("return"):
            self._statement()
            if len(self._graph.nodes) > MAX_NODES or len(self._graph.types) > MAX_VALUES:
                raise self._error(f"more than {MAX_NODES} nodes or {MAX_VALUES} values")
        self._graph.inputs = tuple(self._inputs)
        self._expect("return")
        self._graph.outputs = tuple(self._names())
        self._expect("}")
        if self._kind != "end":
            raise self._unexpected("nothing after the closing brace")
        return self._graph

    def _statement(self) -> None:
        if self._accept("input"):
            name = self._value_name()
            self._expect(":")
            self._define(name, self._type())
            self._inputs.append(name)
        elif self._accept("state"):
            self._state()
        elif self._accept("const"):
            self._constant()
        else:
            self._node()

    def _state(self) -> None:
        name = self._value_name()
        self._expect(":")
        type_ = self._type()
        self._expect("=")
        initial = self._floats() if self._at("[") else self._float()
        self._expect("<-")
        self._define(name, type_)
        self._graph.states[name] = State(type_, self._value_name(), initial)

    def _constant(self) -> None:
        name = self._value_name()
        self._expect(":")
        type_ = self._type()
        encoding = self._word()
        digest = self._take("digest").removeprefix("sha256:")
        if encoding not in _ENCODINGS:
            raise self._error(f"unknown encoding {encoding!r}")
        array = self._constants.get(name)
        if array is None:
            raise self._error(f"no array was given for constant %{name}")
        if digest_array(array) != digest:
            raise self._error(f"constant %{name} is not the array that the program was written with")
        if (tuple(array.shape), array.dtype.newbyteorder("=")) != (type_.shape, type_.dtype.numpy.newbyteorder("=")):
            raise self._error(
                f"constant %{name} is {array.dtype}{list(array.shape)}, not {type_.dtype}{list(type_.shape)}"
            )
        constant = Constant(array, _ENCODINGS[encoding], type_.quant)
        self._define(name, type_)
        self._graph.constants[name] = constant

    def _node(self) -> None:
        outputs = tuple(self._names())
        self._expect("=")
        operator = self._operators.get(self._word())
        if operator is None:
            raise self._error("unknown operator")
        self._expect("(")
        inputs: list[str] = []
        while not self._accept(")"):
            inputs.append("" if self._accept("none") else self._value_name())
            if not self._at(")"):
                self._expect(",")
        op = self._operation(operator)
        self._expect(":")
        types = [self._type()]
        while self._accept(","):
            types.append(self._type())
        if len(types) != len(outputs):
            raise self._error("as many types as outputs are needed")
        for name, type_ in zip(outputs, types, strict=True):
            self._define(name, type_)
        self._graph.nodes.append(Node(op, tuple(inputs), outputs, self._source()))

    def _operation(self, operator: type[Operation]) -> Operation:
        attributes: dict[str, Any] = {}
        if self._accept("{"):
            while not self._accept("}"):
                key = self._word()
                if key in attributes:
                    raise self._error(f"attribute {key} is given twice")
                self._expect("=")
                attributes[key] = self._attribute(0)
                if not self._at("}"):
                    self._expect(",")
        hints = self._attribute_types(operator)
        if attributes.keys() != hints.keys():
            raise self._error(f"the attributes of {operator.name} do not fit")
        for key, hint in hints.items():
            if not _fits(attributes[key], hint):
                raise self._error(f"attribute {key} of {operator.name} must be {hint}")
        made = operator(**attributes)
        assert isinstance(made, Operation)
        return made

    def _attribute_types(self, operator: type[Operation]) -> dict[str, Any]:
        if operator.name not in self._hints:
            assert dataclasses.is_dataclass(operator)
            hints = {field.name: field.type for field in dataclasses.fields(operator)}
            if any(isinstance(hint, str) for hint in hints.values()):  # slower: as text, where a module postpones them
                hints = {name: hint for name, hint in get_type_hints(operator).items() if name in hints}
            self._hints[operator.name] = hints
        return self._hints[operator.name]

    def _attribute(self, depth: int) -> object:
        if depth > MAX_DEPTH:
            raise self._error("attributes nest too deeply")
        match self._kind:
            case "int":
                return self._int()
            case "float":
                return self._float()
            case "string":
                return self._string()
        if self._accept("["):
            items = []
            while not self._accept("]"):
                items.append(self._attribute(depth + 1))
                if not self._at("]"):
                    self._expect(",")
            return tuple(items)
        word = self._word()
        if self._at("<="):
            return self._dim(word)
        if word not in _WORDS:
            raise self._error(f"unexpected {word!r}")
        return _WORDS[word]

    def _type(self) -> Type:
        word = self._word()
        dtype = _DTYPES.get(word)
        if dtype is None:
            raise self._error(f"unknown dtype {word!r}")
        self._expect("[")
        shape: list[Extent] = []
        while not self._accept("]"):
            shape.append(self._int(0, MAX_EXTENT) if self._kind == "int" else self._dim(self._word()))
            if len(shape) > MAX_RANK:
                raise self._error(f"a rank over {MAX_RANK}")
            if not self._at("]"):
                self._expect(",")
        type_ = Type(tuple(shape), dtype, self._quant())
        if math.prod(type_.bounds) > MAX_EXTENT:
            raise self._error("a tensor of more than 2^31 - 1 elements")
        return type_

    def _quant(self) -> Quant | None:
        if not self._accept("q"):
            return None
        self._expect("(")
        scales = self._floats() if self._at("[") else (self._float(),)
        self._expect(",")
        zero_point = self._int(-MAX_EXTENT, MAX_EXTENT)
        axis = self._int(0, MAX_RANK - 1) if self._accept(",") else None
        self._expect(")")
        return Quant(scales, zero_point, axis)

    def _source(self) -> Source:
        if not self._accept("@"):
            return Source()
        file = self._string()
        self._expect(":")
        line = self._int(0, MAX_EXTENT)
        return Source(file, line, self._string())

    def _dim(self, name: str) -> Dim:
        self._expect("<=")
        return Dim(name, self._int(1, MAX_EXTENT))

    def _names(self) -> Iterator[str]:
        yield self._value_name()
        while self._accept(","):
            yield self._value_name()

    def _value_name(self) -> str:
        self._expect("%")
        if self._kind == "string":
            return self._string()
        if self._kind in ("int", "word"):
            return self._advance()
        raise self._unexpected("a value name")

    def _define(self, name: str, type_: Type) -> None:
        if name in self._graph.types:
            raise self._error(f"value %{name} is defined twice")
        self._graph.types[name] = type_

    def _string(self) -> str:
        text = self._take("string")
        if "\\" not in text and text.isprintable():
            return text[1:-1]
        try:
            value = json.loads(text)
        except ValueError:
            raise self._error(f"bad string {text[:40]}") from None
        assert isinstance(value, str)
        return value

    def _floats(self) -> tuple[float, ...]:
        self._expect("[")
        values = [self._float()]
        while self._accept(","):
            values.append(self._float())
        self._expect("]")
        return tuple(values)

    def _float(self) -> float:
        text = self._take("float")
        try:
            return float.fromhex(text)
        except OverflowError:
            raise self._error(f"{text} is no float64") from None

    def _int(self, low: int = -(2**63), high: int = 2**63 - 1) -> int:
        value = int(self._take("int"))
        if not low <= value <= high:
            raise self._error(f"{value} is outside {low}..{high}")
        return value

    def _word(self) -> str:
        return self._take("word")

    def _take(self, kind: str) -> str:
        if self._kind != kind:
            raise self._unexpected(f"a {kind}")
        return self._advance()

    def _at(self, mark_or_word: str) -> bool:
        return self._text == mark_or_word  # strings have their quotes, and no number looks like a word

    def _accept(self, text: str) -> bool:
        if self._text != text:
            return False
        self._advance()
        return True

    def _expect(self, text: str) -> None:
        if self._text != text:
            raise self._unexpected(repr(text))
        self._advance()

    def _advance(self) -> str:
        """The text of the token looked at; then look at the next."""
        taken, self._last = self._text, self._start
        match = _TOKEN.match(self._source_text, self._end)
        if match is None:
            start = next(i for i in range(self._end, len(self._source_text)) if self._source_text[i] not in " \n")
            found = self._source_text[start : start + 12]
            raise TextSyntaxError(f"unexpected {found!r}", where=self._line(start))
        self._kind = kind = str(match.lastgroup)
        self._text = match[kind]
        self._start, self._end = match.span(kind)
        return taken

    def _line(self, position: int) -> str:
        return f"line {self._source_text.count(chr(10), 0, position) + 2}"

    def _error(self, what: str) -> TextSyntaxError:
        """About what was taken last."""
        return TextSyntaxError(what, where=self._line(self._last))

    def _unexpected(self, wanted: str) -> TextSyntaxError:
        """About the token looked at."""
        return TextSyntaxError(f"expected {wanted}, found {self._text!r}", where=self._line(self._start))


def _fits(value: object, hint: Any) -> bool:
    """Whether an attribute read from text has the type that its dataclass field declares."""
    origin, arguments = get_origin(hint), get_args(hint)
    if origin in (UnionType, Union):
        return any(_fits(value, part) for part in arguments)
    if origin is not tuple:
        return type(value) is hint
    if not isinstance(value, tuple):
        return False
    if len(arguments) == 2 and arguments[1] is Ellipsis:
        return all(_fits(item, arguments[0]) for item in value)
    return len(arguments) == len(value) and all(_fits(v, a) for v, a in zip(value, arguments, strict=True))
