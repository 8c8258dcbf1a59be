"""`dataclass` for what a device imports: the same classes, some twenty times quicker to define.

The standard decorator writes the source of six methods for every class and compiles it, half a millisecond each time:
half of what loading a tray took. Here classes share methods that read a list of fields. They are dataclasses in every
other respect: `fields`, `replace` and `is_dataclass` know them, and either kind may inherit from the other.
"""

import dataclasses
from collections.abc import Callable
from operator import attrgetter
from typing import TYPE_CHECKING, Any, NoReturn

__all__ = ["dataclass"]

if TYPE_CHECKING:
    from dataclasses import dataclass  # what type checkers see
else:

    def dataclass(cls: type | None = None, /, *, frozen: bool = False, eq: bool = True) -> Any:
        """`dataclasses.dataclass` with these two options; a class that is not frozen is left to that one."""
        if cls is None:
            return lambda cls: dataclass(cls, frozen=frozen, eq=eq)
        return _frozen(cls, eq) if frozen else dataclasses.dataclass(eq=eq)(cls)


def _frozen(cls: type, eq: bool) -> Any:
    bases = [base for base in cls.__mro__[1:] if dataclasses.is_dataclass(base)]
    own = set(vars(cls))
    made: Any = dataclasses.dataclass(init=False, repr=False, eq=False, frozen=bool(bases))(cls)
    if not bases:
        made.__dataclass_params__.frozen = True
        made.__setattr__, made.__delattr__ = _refuse_to_set, _refuse_to_delete
    fields = dataclasses.fields(made)
    made.__init__ = _initializer(fields, hasattr(made, "__post_init__"))
    shared: dict[str, Callable[..., Any]] = {"__repr__": _representation(fields)}
    if eq:
        key = _key(fields)
        shared |= {"__eq__": _equality(key), "__hash__": lambda self: hash(key(self))}
    for name, method in shared.items():
        if name not in own:
            setattr(made, name, method)
    return made


def _initializer(fields: tuple[dataclasses.Field[Any], ...], then: bool) -> Callable[..., None]:
    names = tuple(field.name for field in fields)
    known = frozenset(names)

    def __init__(self: Any, *values: Any, **named: Any) -> None:  # noqa: N807 -- it becomes one
        given = dict(zip(names, values, strict=False))
        if len(values) > len(names) or (named and (named.keys() & given.keys() or named.keys() - known)):
            unfit = sorted(named.keys() & given.keys() | named.keys() - known) or f"{len(values)} values"
            raise TypeError(f"{type(self).__name__} has the fields {', '.join(names)}, and cannot take {unfit}")
        given |= named
        if len(given) < len(names):
            given |= {field.name: _default(self, field) for field in fields if field.name not in given}
        self.__dict__.update(given)
        if then:
            self.__post_init__()

    return __init__


def _default(made: object, field: "dataclasses.Field[Any]") -> Any:
    if field.default is not dataclasses.MISSING:
        return field.default
    if field.default_factory is not dataclasses.MISSING:
        return field.default_factory()
    raise TypeError(f"{type(made).__name__} needs a value for {field.name}")


def _representation(fields: tuple[dataclasses.Field[Any], ...]) -> Callable[[Any], str]:
    shown = [field.name for field in fields if field.repr]
    return lambda self: f"{type(self).__qualname__}({', '.join(f'{name}={getattr(self, name)!r}' for name in shown)})"


def _key(fields: tuple[dataclasses.Field[Any], ...]) -> Callable[[Any], Any]:
    names = [field.name for field in fields if field.compare]
    return attrgetter(*names) if names else lambda self: ()


def _equality(key: Callable[[Any], Any]) -> Callable[[Any, object], bool]:
    def __eq__(self: Any, other: object) -> bool:  # noqa: N807 -- likewise
        return bool(key(self) == key(other)) if type(other) is type(self) else NotImplemented

    return __eq__


def _refuse_to_set(self: object, name: str, value: object) -> NoReturn:
    raise dataclasses.FrozenInstanceError(f"cannot assign to field {name!r} of {type(self).__name__}")


def _refuse_to_delete(self: object, name: str) -> NoReturn:
    raise dataclasses.FrozenInstanceError(f"cannot delete field {name!r} of {type(self).__name__}")
