"""Registries: every operator that the files of one folder define, found by scanning them in sorted order."""

import importlib
import pkgutil
from collections.abc import Iterable

from penjing.ir.graph import Operation


def scan_operations(package: str, path: Iterable[str]) -> dict[str, type[Operation]]:
    """Operator name -> class, for the classes with a `name` of their own in the modules of `package`.

    Raises:
        RuntimeError: two of them have one name.
    """
    found: dict[str, type[Operation]] = {}
    for module in sorted(pkgutil.iter_modules(path), key=lambda m: m.name):
        for value in vars(importlib.import_module(f"{package}.{module.name}")).values():
            if not (isinstance(value, type) and issubclass(value, Operation) and "name" in vars(value)):
                continue
            if value.__module__.startswith(f"{package}.") and found.setdefault(value.name, value) is not value:
                raise RuntimeError(f"two operators are called {value.name}")
    return found
