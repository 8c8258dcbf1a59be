"""The operator table: every class with a `name` in this folder's files, found by scanning them in sorted order."""

import importlib
import pkgutil
from functools import cache
from types import MappingProxyType

from penjing.ir.graph import Operation, Registry
from penjing.ops.operator import IntegerOperator, Operator


@cache
def _scan() -> dict[str, type[Operation]]:
    found: dict[str, type[Operation]] = {}
    for module in sorted(pkgutil.iter_modules(__path__), key=lambda m: m.name):
        for value in vars(importlib.import_module(f"{__name__}.{module.name}")).values():
            if not (isinstance(value, type) and issubclass(value, Operation) and "name" in vars(value)):
                continue
            if found.setdefault(value.name, value) is not value:
                raise RuntimeError(f"two operators are called {value.name}")
    return found


def registry() -> Registry:
    """Operator name -> class, both kinds."""
    return MappingProxyType(_scan())


def operators() -> dict[str, type[Operator]]:
    """The operators of networks."""
    return {name: cls for name, cls in _scan().items() if issubclass(cls, Operator)}


def integer_operators() -> dict[str, type[IntegerOperator]]:
    """The operators of programs."""
    return {name: cls for name, cls in _scan().items() if issubclass(cls, IntegerOperator)}
