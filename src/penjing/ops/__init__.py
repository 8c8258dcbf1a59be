"""The operator table: every class with a `name` in this folder's files, found by scanning them in sorted order."""

from functools import cache
from types import MappingProxyType

from penjing.ir.graph import Operation, Registry
from penjing.ir.scan import scan_operations
from penjing.ops.operator import IntegerOperator, Operator


@cache
def _scan() -> dict[str, type[Operation]]:
    return scan_operations(__name__, __path__)


def registry() -> Registry:
    """Operator name -> class, both kinds."""
    return MappingProxyType(_scan())


def operators() -> dict[str, type[Operator]]:
    """The operators of networks."""
    return {name: cls for name, cls in _scan().items() if issubclass(cls, Operator)}


def integer_operators() -> dict[str, type[IntegerOperator]]:
    """The operators of programs."""
    return {name: cls for name, cls in _scan().items() if issubclass(cls, IntegerOperator)}
