"""Options of steps: the fields of a dataclass as a recipe or a command line writes them, by their types."""

import collections.abc
import dataclasses
import enum
import math
import re
import sys
import types
import typing
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from penjing.core.errors import InvalidInput, PenjingError
from penjing.recipe.document import Item, Plain, shown

_SCALARS: dict[Any, str] = {bool: "true or false", int: "a whole number", float: "a number", str: "text"}
_ATTRIBUTE = re.compile(r"^    (\w+): (.*(?:\n {8,}.*)*)", re.MULTILINE)


@dataclass(frozen=True)
class Option:
    """One field.

    Attributes:
        name: of the field.
        kind: its type.
        default: `dataclasses.MISSING` where it must be given.
        help: what the class says of it under `Attributes:`, '' where it says nothing.
    """

    name: str
    kind: Any
    default: Any
    help: str

    @property
    def is_needed(self) -> bool:
        """Whether it must be given."""
        return self.default is dataclasses.MISSING


def fields_of(cls: type) -> tuple[Option, ...]:
    """The fields that the constructor takes, in order, plain or not."""
    assert dataclasses.is_dataclass(cls)
    hints, told = typing.get_type_hints(cls), _told(cls)
    found = []
    for field in dataclasses.fields(cls):
        if field.init:
            made = field.default_factory
            default = field.default if made is dataclasses.MISSING else made()
            found.append(Option(field.name, hints[field.name], default, told.get(field.name, "")))
    return tuple(found)


def is_plain(kind: Any) -> bool:
    """Whether values of this type can be written down in a recipe."""
    if kind in _SCALARS or kind is type(None):
        return True
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin is Literal:
        return all(isinstance(argument, str | int | bool) for argument in arguments)
    if origin in (typing.Union, types.UnionType, tuple, list, collections.abc.Sequence):
        return bool(arguments) and all(is_plain(argument) for argument in arguments if argument is not Ellipsis)
    if origin in (dict, collections.abc.Mapping):
        return arguments[0] is str and is_plain(arguments[1])
    return isinstance(kind, type) and (issubclass(kind, enum.StrEnum) or bool(forms_of(kind)))


def forms_of(kind: Any) -> dict[str, type]:
    """The dataclasses beside a protocol that have its methods and plain fields: name as a recipe writes it -> class.

    A field of such a type is written as one of these with its fields, as a step is: `{n-of-m: {n: 4}}`; or as text,
    `4:16`, that a function beside them reads: `parse_` and the name of the protocol, which returns None for other text.
    """
    if not (isinstance(kind, type) and getattr(kind, "_is_protocol", False)):
        return {}
    methods = {name for name in vars(kind) if not name.startswith("_")}
    beside = vars(sys.modules[kind.__module__]).values()
    return {
        _kebab(cls.__name__): cls
        for cls in beside
        if isinstance(cls, type)
        and dataclasses.is_dataclass(cls)
        and methods <= set(dir(cls))
        and all(is_plain(option.kind) for option in fields_of(cls))
    }


def kind_text(kind: Any) -> str:
    """What values of this type look like: `a number or null`, `layer | global`."""
    if kind in _SCALARS:
        return _SCALARS[kind]
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if kind is type(None):
        return "null"
    if origin is Literal:
        return " | ".join(map(str, arguments))
    if origin in (typing.Union, types.UnionType):
        return " or ".join(kind_text(argument) for argument in arguments)
    if origin is tuple and Ellipsis not in arguments:
        return f"[{', '.join(kind_text(argument) for argument in arguments)}]"
    if origin in (tuple, list, collections.abc.Sequence):
        return f"a list of: {kind_text(arguments[0])}"
    if origin in (dict, collections.abc.Mapping):
        return f"a mapping from names to: {kind_text(arguments[1])}"
    forms = forms_of(kind)
    if forms:
        fields = {name: ", ".join(option.name for option in fields_of(cls)) for name, cls in forms.items()}
        written = [f"{{{name}: {{{said}}}}}" for name, said in fields.items()]
        return " | ".join(["text", *written] if _parser_of(kind) else written)
    return " | ".join(str(member) for member in kind)


def read_options(options: tuple[Option, ...], given: Mapping[str, Item], owner: str, where: str) -> dict[str, Any]:
    """The given options as values of their fields' types.

    Args:
        options: all there are.
        given: name -> value.
        owner: name of the step, for errors.
        where: of the step, for errors.

    Raises:
        InvalidInput: an unknown option, a missing one, or a value of another type.
    """
    known = {option.name: option for option in options}
    for name, item in given.items():
        if name not in known:
            hint = f"it has {', '.join(known)}" if known else "it has no options"
            raise InvalidInput(f"{owner} has no option {name[:60]!r}", where=item.where, hint=hint)
    for option in options:
        if option.is_needed and option.name not in given:
            raise InvalidInput(f"{owner} needs {option.name}: {kind_text(option.kind)}", where=where)
    return {name: _read(item, known[name].kind, f"{owner}: {name}") for name, item in given.items()}


def plain_value(value: Any) -> Any:
    """A field's value as JSON or YAML writes it."""
    if isinstance(value, enum.Enum):
        return value.value
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        if _is_said_by_text(value):
            return str(value)
        fields = {o.name: plain_value(getattr(value, o.name)) for o in fields_of(type(value))}
        return {_kebab(type(value).__name__): fields}
    if isinstance(value, tuple | list):
        return [plain_value(item) for item in value]
    if isinstance(value, collections.abc.Mapping):
        return {key: plain_value(item) for key, item in value.items()}
    return value


def item_of(value: Any, where: str) -> Item:
    """A value of Python as a document would hold it."""
    plain = plain_value(value)
    if isinstance(plain, dict):
        return Item({str(key): item_of(entry, where) for key, entry in plain.items()}, where)
    if isinstance(plain, list):
        return Item([item_of(entry, where) for entry in plain], where)
    return Item(plain, where)


def _read(item: Item, kind: Any, what: str) -> Any:
    """The value as its field takes it."""
    try:
        read = _read_as(item.value, kind)
    except PenjingError as error:
        error.where = error.where or item.where
        error.hint = error.hint or f"write {kind_text(kind)}"
        raise
    if read is _UNFIT:
        raise InvalidInput(f"{what} must be {kind_text(kind)}, not {shown(item.value)}", where=item.where)
    return read


_UNFIT = object()


def _read_as(value: Plain, kind: Any) -> Any:
    """The value as `kind`, or _UNFIT."""
    if kind is float and type(value) in (int, float):
        assert isinstance(value, int | float)
        return float(value) if math.isfinite(value) else _UNFIT
    if kind in _SCALARS or kind is type(None):
        return value if type(value) is kind else _UNFIT
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin is Literal:
        return next((one for one in arguments if one == value and type(one) is type(value)), _UNFIT)
    if origin in (typing.Union, types.UnionType):
        return next((read for arm in arguments if (read := _read_as(value, arm)) is not _UNFIT), _UNFIT)
    if origin in (tuple, list, collections.abc.Sequence):
        return _read_list(value, origin, arguments)
    if origin in (dict, collections.abc.Mapping):
        return _read_mapping(value, arguments[1])
    if forms_of(kind):
        parse = _parser_of(kind) if isinstance(value, str) else None
        return parse(value) or _UNFIT if parse else _read_form(value, forms_of(kind))
    return next((member for member in kind if member.value == value), _UNFIT)


def _read_form(value: Plain, forms: dict[str, type]) -> Any:
    if not isinstance(value, dict) or len(value) != 1:
        return _UNFIT
    ((name, given),) = value.items()
    if name not in forms or not isinstance(given.value, dict):
        return _UNFIT
    return forms[name](**read_options(fields_of(forms[name]), given.value, name, given.where))


def _parser_of(kind: type) -> Callable[[Any], Any] | None:
    return vars(sys.modules[kind.__module__]).get(f"parse_{_kebab(kind.__name__).replace('-', '_')}")


def _is_said_by_text(value: Any) -> bool:
    """Whether `str(value)` reads back to an equal one."""
    beside = vars(sys.modules[type(value).__module__]).values()
    parsers = [_parser_of(kind) for kind in beside if type(value) in forms_of(kind).values()]
    return any(parse is not None and parse(str(value)) == value for parse in parsers)


def _kebab(name: str) -> str:
    return re.sub(r"(?<!^)(?=[A-Z])", "-", name).lower()


def _read_list(value: Plain, origin: Any, arguments: tuple[Any, ...]) -> Any:
    if not isinstance(value, list):
        return _UNFIT
    kinds = list(arguments)
    if origin is not tuple or Ellipsis in arguments:
        kinds = [arguments[0]] * len(value)
    if len(kinds) != len(value):
        return _UNFIT
    items = [_read_as(item.value, kind) for item, kind in zip(value, kinds, strict=True)]
    return _UNFIT if any(item is _UNFIT for item in items) else tuple(items)


def _read_mapping(value: Plain, kind: Any) -> Any:
    if not isinstance(value, dict):
        return _UNFIT
    entries = {key: _read_as(item.value, kind) for key, item in value.items()}
    return _UNFIT if any(entry is _UNFIT for entry in entries.values()) else entries


def _told(cls: type) -> dict[str, str]:
    """What the docstrings of the class and its bases say of fields, below `Attributes:` or `Args:`."""
    told: dict[str, str] = {}
    for base in reversed(cls.__mro__):
        told |= _told_by(base.__doc__ or "")
    return told


def _told_by(text: str) -> dict[str, str]:
    section = re.search(r"^ *(?:Attributes|Args):\n(.*)", text, re.MULTILINE | re.DOTALL)
    if section is None:
        return {}
    lines = section[1].splitlines()
    indent = min((len(line) - len(line.lstrip()) for line in lines if line.strip()), default=0)
    body = "\n".join("    " + line[indent:] for line in lines)
    return {name: " ".join(said.split()) for name, said in _ATTRIBUTE.findall(body)}
