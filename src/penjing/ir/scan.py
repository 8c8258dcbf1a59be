"""Registries: every operator that the files of one folder define; one that is asked for by name costs its own file."""

import importlib
import pkgutil
from collections.abc import Iterable, Iterator, Mapping

from penjing.ir.graph import Operation


class FolderRegistry(Mapping[str, type[Operation]]):
    """Operator name -> class, for the classes with a `name` of their own in the modules of one package.

    A look-up imports the modules that are named like the operator, the longest name first: those of which every word
    begins a word of the operator's name, as `pool2d` does for `q_max_pool2d`. Only where they lack it, and to list all
    operators, every module is imported, in sorted order.

    Raises:
        RuntimeError: when all are listed, and two of them have one name.
    """

    def __init__(self, package: str, path: Iterable[str]) -> None:
        self._package = package
        self._path = path
        self._found: dict[str, type[Operation]] = {}
        self._complete = False

    def __getitem__(self, name: str) -> type[Operation]:
        if name not in self._found and not self._complete:
            self._look_for(name)
        return self._found[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._all())

    def __len__(self) -> int:
        return len(self._all())

    def _look_for(self, name: str) -> None:
        words = name.split("_")
        like = [module for module in self._modules() if _is_named_like(module, words)]
        for module in sorted(like, key=len, reverse=True):
            self._found.update(self._operations(module))
            if name in self._found:
                return
        self._all()

    def _all(self) -> dict[str, type[Operation]]:
        if not self._complete:
            found: dict[str, type[Operation]] = {}
            for module in self._modules():
                for name, cls in self._operations(module).items():
                    if name in found:
                        raise RuntimeError(f"two operators are called {name}")
                    found[name] = cls
            self._found, self._complete = found, True
        return self._found

    def _modules(self) -> list[str]:
        return sorted(module.name for module in pkgutil.iter_modules(self._path))

    def _operations(self, module: str) -> dict[str, type[Operation]]:
        """Those that the module itself defines."""
        where = f"{self._package}.{module}"
        found: dict[str, type[Operation]] = {}
        for value in vars(importlib.import_module(where)).values():
            if not (isinstance(value, type) and issubclass(value, Operation) and "name" in vars(value)):
                continue
            if value.__module__ == where and found.setdefault(value.name, value) is not value:
                raise RuntimeError(f"two operators are called {value.name}")
        return found


def _is_named_like(module: str, words: list[str]) -> bool:
    return all(any(word.startswith(part) for word in words) for part in module.split("_"))
