"""Frozen dataclasses for the hot path of every job: the same interface, and a twentieth of the cost to define.

The standard library's `dataclass` writes and compiles six methods for each class, and importing it brings `inspect` and `ast`.
That was a third of the time of `dayfly run` before it spawned QEMU (docs/decisions/0053). Here all classes have the same few
functions. Type checkers see the standard library's names; its `replace`, `asdict` and `fields` work on these classes too.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

TYPE_CHECKING = False  # typing's own costs an import at every start, and checkers know the name
if TYPE_CHECKING:
    from dataclasses import asdict, dataclass, field, replace

__all__ = ["asdict", "dataclass", "field", "replace"]


class _Made:
    """A default that is made for each instance."""

    def __init__(self, make: Callable[[], object]) -> None:
        self.make = make


class _StandardFields:
    """`__dataclass_fields__`, by which the standard library recognises a dataclass: made on demand."""

    def __get__(self, instance: object, owner: type) -> Mapping[str, object]:
        import dataclasses  # noqa: PLC0415 (what this module avoids)

        names: tuple[str, ...] = owner.__match_args__  # type: ignore[attr-defined]
        like = dataclasses.make_dataclass(owner.__name__, [(name, object, _standard(owner, name)) for name in names])
        fields: Mapping[str, object] = like.__dataclass_fields__  # type: ignore[attr-defined]
        return fields


def _standard(owner: type, name: str) -> object:
    import dataclasses  # noqa: PLC0415 (what this module avoids)

    defaults = _defaults(owner)
    if name not in defaults:
        return dataclasses.field()
    default = defaults[name]
    make = default.make if isinstance(default, _Made) else lambda: default
    return dataclasses.field(default_factory=make)


def _defaults(owner: type) -> Mapping[str, object]:
    defaults: Mapping[str, object] = vars(owner)["__value_defaults__"]
    return defaults


def _define(owner: type, *, frozen: bool) -> type:
    """Make a class a dataclass: its fields are what it annotates, in that order."""
    names = tuple(owner.__annotations__)
    defaults = {name: vars(owner)[name] for name in names if name in vars(owner)}
    if list(defaults) != list(names[len(names) - len(defaults) :]):
        raise TypeError(f"{owner.__name__}: a field without a default comes after one with")
    for name, default in defaults.items():
        if isinstance(default, _Made):
            delattr(owner, name)
    members: dict[str, object] = {
        "__match_args__": names,
        "__value_defaults__": defaults,
        "__dataclass_fields__": _StandardFields(),
        "__init__": _init,
        "__repr__": _repr,
        "__eq__": _eq,
        "__hash__": _hash if frozen else None,
    }
    if frozen:
        members |= {"__setattr__": _refuse, "__delattr__": _refuse}
    for name, member in members.items():
        setattr(owner, name, member)
    return owner


def _init(self: object, /, *positional: object, **named: object) -> None:
    owner = type(self)
    names: tuple[str, ...] = owner.__match_args__  # type: ignore[attr-defined]
    if len(positional) > len(names):
        raise TypeError(f"{owner.__name__} has {len(names)} fields, {len(positional)} values were given")
    given = dict(zip(names, positional, strict=False))
    for name, value in named.items():
        if name in given or name not in names:
            raise TypeError(f"{owner.__name__}: {name} " + ("is given twice" if name in given else "is not a field"))
        given[name] = value
    defaults = _defaults(owner)
    values = self.__dict__  # __setattr__ of a frozen class refuses
    for name in names:
        if name in given:
            values[name] = given[name]
        elif name in defaults:
            default = defaults[name]
            values[name] = default.make() if isinstance(default, _Made) else default
        else:
            raise TypeError(f"{owner.__name__}: {name} is missing")


def _contents(value: object) -> tuple[object, ...]:
    return tuple(getattr(value, name) for name in type(value).__match_args__)  # type: ignore[attr-defined]


def _repr(self: object) -> str:
    names: tuple[str, ...] = type(self).__match_args__  # type: ignore[attr-defined]
    return f"{type(self).__qualname__}({', '.join(f'{name}={getattr(self, name)!r}' for name in names)})"


def _eq(self: object, other: object) -> object:
    return _contents(self) == _contents(other) if type(self) is type(other) else NotImplemented


def _hash(self: object) -> int:
    return hash(_contents(self))


def _refuse(self: object, name: str, *_: object) -> None:
    from dataclasses import FrozenInstanceError  # noqa: PLC0415 (what this module avoids)

    raise FrozenInstanceError(f"{type(self).__name__} is frozen: {name} cannot be changed")


def _dataclass(*, frozen: bool = False) -> Callable[[type], type]:
    return lambda owner: _define(owner, frozen=frozen)


def _field(*, default_factory: Callable[[], object]) -> _Made:
    return _Made(default_factory)


def _replace(value: object, /, **changes: object) -> object:
    return type(value)(**{**dict(zip(type(value).__match_args__, _contents(value), strict=True)), **changes})  # type: ignore[attr-defined]


def _asdict(value: object) -> object:
    """Also for values in tuples, lists and mappings, as in the standard library."""
    if isinstance(value, Mapping):
        return {name: _asdict(inner) for name, inner in value.items()}
    if isinstance(value, (tuple, list)):
        return type(value)(_asdict(inner) for inner in value)
    if "__value_defaults__" in vars(type(value)):
        return {name: _asdict(getattr(value, name)) for name in type(value).__match_args__}  # type: ignore[attr-defined]
    return value


if not TYPE_CHECKING:
    asdict, dataclass, field, replace = _asdict, _dataclass, _field, _replace
