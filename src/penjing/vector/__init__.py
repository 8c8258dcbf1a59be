"""Integer operators in the form that SIMD kernels take: weights packed into vectors, work cut into bands.

They mean what the operators mean that they replace, byte for byte, and stand only in programs that have been
specialised for a target: a tray never holds one. Found by scanning this folder, as `penjing.ops` does.
"""

import importlib
import pkgutil
from functools import cache

from penjing.ops.operator import IntegerOperator


@cache
def _scan() -> dict[str, type[IntegerOperator]]:
    found: dict[str, type[IntegerOperator]] = {}
    for module in sorted(pkgutil.iter_modules(__path__), key=lambda m: m.name):
        for value in vars(importlib.import_module(f"{__name__}.{module.name}")).values():
            if not (isinstance(value, type) and issubclass(value, IntegerOperator) and "name" in vars(value)):
                continue
            if value.__module__.startswith(__name__) and found.setdefault(value.name, value) is not value:
                raise RuntimeError(f"two operators are called {value.name}")
    return found


def vector_operators() -> dict[str, type[IntegerOperator]]:
    """Operator name -> class."""
    return dict(_scan())
