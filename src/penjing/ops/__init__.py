"""The operator table: every class with a `name` in this folder's files, found by scanning them in sorted order.

A program names few of them. `registry()` imports the files of those that are looked up, the others scan the folder.
"""

from functools import cache

from penjing.ir.graph import Registry
from penjing.ir.scan import FolderRegistry
from penjing.ops.operator import IntegerOperator, Operator


@cache
def registry() -> Registry:
    """Operator name -> class, both kinds."""
    return FolderRegistry(__name__, __path__)


def operators() -> dict[str, type[Operator]]:
    """The operators of networks."""
    return {name: cls for name, cls in registry().items() if issubclass(cls, Operator)}


def integer_operators() -> dict[str, type[IntegerOperator]]:
    """The operators of programs."""
    return {name: cls for name, cls in registry().items() if issubclass(cls, IntegerOperator)}
