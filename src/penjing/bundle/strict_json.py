"""JSON that has one spelling: bounded when it is read, typed by dataclasses, canonical when it is written.

Reading refuses before it builds anything large (depth, number of values), then refuses what readers of other languages
would read differently: duplicate keys, NaN, infinities, integers beyond 2^53, lone surrogates, control characters.
A dataclass field is the only spelling of a key: every field is present, no other key is, and types match exactly (1 is
not 1.0, true is not 1). Writing sorts keys, leaves out spaces, keeps UTF-8 readable and prints floats as the shortest
text that reads back to the same float64.
"""

import collections.abc
import dataclasses
import functools
import json
import math
import numbers
import re
import types
import typing
from typing import Any, TypeVar

from penjing.bundle.names import UNPRINTABLE

T = TypeVar("T")

MAX_DEPTH = 16  # nested lists and objects; the manifest needs 6
MAX_VALUES = 1 << 18  # values and keys in one document
MAX_INTEGER = 2**53 - 1  # the largest that every JSON reader keeps exactly

# A string (closed or not, so that the scan never backtracks) or one structural character.
_TOKENS = re.compile(r'"[^"\\]*(?:\\.[^"\\]*)*"?|[\[\]{},:]', re.DOTALL)
_NAMES = {dict: "an object", list: "a list", str: "a string", int: "an integer", float: "a number with a point",
          bool: "true or false", type(None): "null"}  # fmt: skip


class JsonError(ValueError):
    """A document or value that breaks a rule; `path` says where in the document. Both are cut to fit a message."""

    def __init__(self, what: str, path: str = "") -> None:
        super().__init__(what)
        self.what = what[:300]
        self.path = path[:200]


def parse(data: bytes | memoryview) -> object:
    """The JSON value of UTF-8 `data`, within the bounds above.

    Raises:
        JsonError: not UTF-8, not JSON, or outside the bounds. No other exception.
    """
    try:
        text = bytes(data).decode("utf-8")
    except UnicodeDecodeError as error:
        raise JsonError(f"it is not UTF-8 at byte {error.start}") from None
    _bound(text)
    try:
        return json.loads(
            text, object_pairs_hook=_object, parse_int=_integer, parse_float=_float, parse_constant=_constant
        )
    except json.JSONDecodeError as error:
        raise JsonError(f"it is not JSON at line {error.lineno}: {error.msg}") from None


def dump(value: object) -> bytes:
    """The canonical bytes of a JSON value as `encode` returns it."""
    text = json.dumps(value, separators=(",", ":"), sort_keys=True, ensure_ascii=False, allow_nan=False)
    return text.encode("utf-8") + b"\n"


def decode(kind: type[T], value: object) -> T:
    """`value` as the dataclass `kind`, strictly.

    Raises:
        JsonError: a missing or unknown key, or a value of another type.
    """
    return typing.cast(T, _decode(kind, value, ""))


def encode(value: object) -> object:
    """The JSON value of a dataclass; numbers of numpy become plain ones of the field's type.

    Raises:
        JsonError: a value that its field's type does not allow, or that JSON cannot carry.
    """
    return _encode(type(value), value, "")


# --- reading ---


def _bound(text: str) -> None:
    depth = 0
    n_values = 1
    for match in _TOKENS.finditer(text):
        first = text[match.start()]
        if first in "[{":
            depth += 1
            n_values += 1
        elif first in "]}":
            depth -= 1
        elif first in ",:":
            n_values += 1
        if depth > MAX_DEPTH:
            raise JsonError(f"lists and objects are nested deeper than {MAX_DEPTH}")
        if n_values > MAX_VALUES:
            raise JsonError(f"it holds more than {MAX_VALUES} values")


def _object(pairs: list[tuple[str, object]]) -> dict[str, object]:
    result: dict[str, object] = {}
    for key, value in pairs:
        if key in result:
            raise JsonError(f"key {key[:80]!a} occurs twice in one object")
        result[key] = value
    return result


def _integer(text: str) -> int:
    if len(text) > len(str(-MAX_INTEGER)) or abs(int(text)) > MAX_INTEGER:
        raise JsonError(f"integer {text[:20]}... is beyond 2^53 - 1")
    return int(text)


def _float(text: str) -> float:
    if len(text) > 40:
        raise JsonError(f"number {text[:20]}... has {len(text)} characters")
    return _finite(float(text), "")


def _constant(text: str) -> float:
    raise JsonError(f"{text} is not JSON")


# --- types of fields ---


def _decode(kind: Any, value: object, path: str) -> object:
    inner = _optional(kind)
    if inner is not None:
        return None if value is None else _decode(inner, value, path)
    if dataclasses.is_dataclass(kind):
        return _decode_fields(kind, _expect(dict, value, path), path)
    origin = typing.get_origin(kind)
    if origin is tuple:
        items = _expect(list, value, path)
        kinds = _item_kinds(kind, len(items), path)
        pairs = zip(kinds, items, strict=True)
        return tuple(_decode(item_kind, item, f"{path}[{i}]") for i, (item_kind, item) in enumerate(pairs))
    if origin is collections.abc.Mapping:
        item_kind = typing.get_args(kind)[1]
        entries = _expect(dict, value, path)
        return {_text(key, path): _decode(item_kind, item, _join(path, key)) for key, item in entries.items()}
    scalar = _expect(kind, value, path)
    return _text(scalar, path) if isinstance(scalar, str) else scalar


def _decode_fields(kind: Any, entries: dict[str, object], path: str) -> object:
    kinds = _field_kinds(kind)
    missing = sorted(kinds.keys() - entries.keys())
    if missing:
        raise JsonError(f"key {missing[0]!a} is missing", path)
    unknown = sorted(entries.keys() - kinds.keys())
    if unknown:
        raise JsonError(f"key {unknown[0][:80]!a} is unknown", path)
    return kind(**{key: _decode(kinds[key], entries[key], _join(path, key)) for key in kinds})


def _encode(kind: Any, value: Any, path: str) -> object:
    inner = _optional(kind)
    if inner is not None:
        return None if value is None else _encode(inner, value, path)
    if dataclasses.is_dataclass(kind):
        return _encode_fields(kind, value, path)
    origin = typing.get_origin(kind)
    if origin is tuple:
        items = list(value)
        kinds_of_items = _item_kinds(kind, len(items), path)
        pairs = zip(kinds_of_items, items, strict=True)
        return [_encode(item_kind, item, f"{path}[{i}]") for i, (item_kind, item) in enumerate(pairs)]
    if origin is collections.abc.Mapping:
        item_kind = typing.get_args(kind)[1]
        return {_text(key, path): _encode(item_kind, item, _join(path, str(key))) for key, item in value.items()}
    return _encode_scalar(kind, value, path)


def _encode_fields(kind: Any, value: object, path: str) -> dict[str, object]:
    kinds = _field_kinds(kind)
    return {key: _encode(kinds[key], getattr(value, key), _join(path, key)) for key in kinds}


def _encode_scalar(kind: Any, value: Any, path: str) -> object:
    if kind is str:
        return _text(value, path)
    if kind is bool:
        return _expect(bool, value, path)
    # The abstract classes hold the scalars of numpy too.
    if kind is float and isinstance(value, numbers.Real) and not isinstance(value, bool):
        try:
            return _finite(float(value), path)
        except OverflowError:
            raise JsonError("a number is beyond float64", path) from None
    if kind is int and isinstance(value, numbers.Integral) and not isinstance(value, bool):
        if abs(int(value)) > MAX_INTEGER:
            raise JsonError("integer is beyond 2^53 - 1", path)
        return int(value)
    raise JsonError(f"it must be {_NAMES[kind]}, not {type(value).__name__}", path)


@functools.cache
def _field_kinds(kind: Any) -> dict[str, Any]:
    return {field.name: field.type for field in dataclasses.fields(kind)}


def _optional(kind: Any) -> Any:
    """X where `kind` is `X | None`; None where it is anything else."""
    if typing.get_origin(kind) not in (typing.Union, types.UnionType):
        return None
    return next(arm for arm in typing.get_args(kind) if arm is not types.NoneType)


def _item_kinds(kind: Any, n_items: int, path: str) -> list[Any]:
    kinds = list(typing.get_args(kind))
    if kinds[-1] is Ellipsis:
        return kinds[:1] * n_items
    if len(kinds) != n_items:
        raise JsonError(f"the list must have {len(kinds)} items, not {n_items}", path)
    return kinds


def _expect(kind: type[T], value: object, path: str) -> T:
    if type(value) is not kind:
        found = _NAMES.get(type(value), type(value).__name__)
        raise JsonError(f"it must be {_NAMES[kind]}, not {found}", path)
    return value


def _text(value: object, path: str) -> str:
    text = _expect(str, value, path)
    bad = UNPRINTABLE.search(text)
    if bad is not None:
        raise JsonError(f"text holds the character U+{ord(bad[0]):04X}", path)
    return text


def _finite(number: float, path: str) -> float:
    if not math.isfinite(number):
        raise JsonError("a number is infinite or not a number", path)
    return number


def _join(path: str, key: str) -> str:
    shown = key if key.isascii() and key.isprintable() else ascii(key)
    return f"{path}.{shown[:80]}" if path else shown[:80]
