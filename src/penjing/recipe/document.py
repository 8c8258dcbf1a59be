"""Recipes as text: YAML or JSON, read into plain values that know their line.

Of YAML only what JSON has is taken: mappings, lists, strings, numbers, true, false and null. Tags, anchors and aliases
are refused (they build objects, or a document that is far larger than its text), so are keys that occur twice. A number
is what JSON or Python calls one (`1e-3` too, which YAML 1.1 takes for text), and `yes` or `on` are text.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from penjing.bundle import strict_json
from penjing.core.errors import InvalidInput, MissingDependency

MAX_BYTES = 64 * 2**10
MAX_DEPTH = 8
_MAX_SHOWN = 60
_INT = re.compile(r"[-+]?[0-9]{1,15}")
_FLOAT = re.compile(r"[-+]?(?:[0-9]{1,20}\.?[0-9]{0,20}|\.[0-9]{1,20})(?:[eE][-+]?[0-9]{1,3})?")
_WORDS = {"null": None, "~": None, "": None, "true": True, "false": False}

Plain = None | bool | int | float | str | list["Item"] | dict[str, "Item"]


@dataclass(frozen=True)
class Item:
    """A value and where it stands: `recipe.yaml, line 4`."""

    value: Plain
    where: str


def read_document(text: str, where: str) -> Item:
    """The document in `text`: JSON when `where` ends with .json, else YAML.

    Raises:
        InvalidInput: too large, or not what is taken, with the line.
        MissingDependency: YAML, and PyYAML is not installed.
    """
    if len(text.encode("utf-8", "surrogatepass")) > MAX_BYTES:
        raise InvalidInput(f"the recipe has more than {MAX_BYTES} bytes", where=where)
    if where.endswith(".json"):
        return _from_json(text, where)
    return _from_yaml(text, where)


def read_value(text: str, where: str) -> Item:
    """One value as an option of a command line has it: a word or a number, or a list or mapping in YAML."""
    if text[:1] not in ("[", "{"):
        return Item(_scalar(text), where)
    return _at(_from_yaml(text, where), where)


def write_document(value: dict[str, Any]) -> str:
    """Plain values as YAML that `read_document` reads back."""
    return _yaml().safe_dump(value, sort_keys=False, default_flow_style=None, width=100, allow_unicode=True)  # type: ignore[no-any-return]


def shown(value: Plain) -> str:
    """A value as a message names it."""
    if isinstance(value, dict):
        return "a mapping"
    if isinstance(value, list):
        return "a list"
    words = {None: "null", True: "true", False: "false"}
    text = words[value] if value is None or isinstance(value, bool) else repr(value)
    return text if len(text) <= _MAX_SHOWN else f"{text[:_MAX_SHOWN]}..."


def _from_json(text: str, where: str) -> Item:
    try:
        return _located(strict_json.parse(text.encode("utf-8", "surrogatepass")), where)
    except strict_json.JsonError as error:
        raise InvalidInput(error.what, where=where) from error


def _located(value: Any, where: str) -> Item:
    if isinstance(value, dict):
        return Item({key: _located(item, where) for key, item in value.items()}, where)
    if isinstance(value, list):
        return Item([_located(item, where) for item in value], where)
    return Item(value, where)


def _at(item: Item, where: str) -> Item:
    """The same, all of it at `where`."""
    if isinstance(item.value, dict):
        return Item({key: _at(value, where) for key, value in item.value.items()}, where)
    if isinstance(item.value, list):
        return Item([_at(value, where) for value in item.value], where)
    return Item(item.value, where)


def _yaml() -> Any:
    try:
        import yaml
    except ImportError as error:
        raise MissingDependency(
            "recipes in YAML need PyYAML, which is not installed",
            hint="pip install 'penjing[compress]', or write the recipe as JSON",
        ) from error
    return yaml


def _from_yaml(text: str, where: str) -> Item:
    yaml = _yaml()
    try:
        return _Reader(yaml, yaml.parse(text, Loader=yaml.SafeLoader), where).document()
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        place = f"{where}, line {mark.line + 1}" if mark is not None else where
        problem = getattr(error, "problem", None) or getattr(error, "reason", None) or "it cannot be read"
        raise InvalidInput(f"this is not YAML: {problem}", where=place) from error


class _Reader:
    """Builds values from the events of PyYAML's parser, which builds none itself."""

    def __init__(self, yaml: Any, events: Iterator[Any], where: str) -> None:
        self._yaml = yaml
        self._events = events
        self._where = where

    def document(self) -> Item:
        next(self._events)  # the stream begins
        start = next(self._events)
        if isinstance(start, self._yaml.StreamEndEvent):
            raise InvalidInput("the recipe is empty", where=self._where)
        item = self._item(next(self._events), 0)
        next(self._events)  # the document ends
        if not isinstance(next(self._events), self._yaml.StreamEndEvent):
            raise InvalidInput("there is more than one document", where=self._where)
        return item

    def _item(self, event: Any, depth: int) -> Item:
        where = f"{self._where}, line {event.start_mark.line + 1}"
        if getattr(event, "anchor", None) is not None:
            raise InvalidInput("anchors and aliases are not taken", where=where, hint="write the values out")
        if getattr(event, "tag", None) not in (None, "!"):
            raise InvalidInput(f"the tag {event.tag[:_MAX_SHOWN]} is not taken", where=where)
        if depth > MAX_DEPTH:
            raise InvalidInput(f"values nest deeper than {MAX_DEPTH}", where=where)
        if isinstance(event, self._yaml.SequenceStartEvent):
            return Item(list(self._items(depth)), where)
        if isinstance(event, self._yaml.MappingStartEvent):
            return Item(self._mapping(depth), where)
        return Item(_scalar(event.value) if event.implicit[0] and event.style is None else event.value, where)

    def _items(self, depth: int) -> Iterator[Item]:
        while not isinstance(event := next(self._events), self._yaml.SequenceEndEvent):
            yield self._item(event, depth + 1)

    def _mapping(self, depth: int) -> dict[str, Item]:
        entries: dict[str, Item] = {}
        while not isinstance(event := next(self._events), self._yaml.MappingEndEvent):
            key = self._item(event, depth + 1)
            if not isinstance(key.value, str):
                raise InvalidInput(f"a key must be text, not {shown(key.value)}", where=key.where)
            if key.value in entries:
                raise InvalidInput(f"the key {key.value[:_MAX_SHOWN]!r} occurs twice", where=key.where)
            entries[key.value] = self._item(next(self._events), depth + 1)
        return entries


def _scalar(text: str) -> Plain:
    if text in _WORDS:
        return _WORDS[text]
    if _INT.fullmatch(text):
        return int(text)
    if _FLOAT.fullmatch(text):
        return float(text)
    return text
