"""Settings as frozen dataclasses, written to and read from YAML. An unknown key is an error, never ignored."""

from __future__ import annotations

import dataclasses
import types
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

import yaml

from vultus.errors import VultusError

Config = TypeVar("Config")


def to_yaml(config: Any) -> str:
    """A dataclass instance as YAML text, nested dataclasses as nested mappings, in the order of the fields."""
    return yaml.safe_dump(_plain(config), sort_keys=False, allow_unicode=True)


def from_yaml(kind: type[Config], text: str, where: str = "configuration") -> Config:
    """The dataclass that `to_yaml` wrote. Missing fields take their defaults.

    Raises:
        VultusError: the text is not YAML, a key is unknown, or a value has the wrong type; the message names
            `where` and the key.
    """
    try:
        values = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise VultusError(f"{where} is not valid YAML: {' '.join(str(error).split())}") from None
    return _build(kind, {} if values is None else values, where)


def _plain(value: Any) -> Any:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: _plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    return str(value) if isinstance(value, Path) else value


def _build(kind: Any, value: Any, where: str) -> Any:
    if isinstance(kind, type) and dataclasses.is_dataclass(kind):
        if not isinstance(value, Mapping):
            raise VultusError(f"{where} must be a mapping of settings, not {value!r}")
        hints = get_type_hints(kind)
        unknown = sorted(set(map(str, value)) - set(hints))
        if unknown:
            raise VultusError(
                f"{where} has the unknown setting {unknown[0]!r}; known are: {', '.join(sorted(hints))}. "
                "Remove it or correct its spelling."
            )
        return kind(**{key: _build(hints[key], item, f"{where}: {key}") for key, item in value.items()})
    origin, arguments = get_origin(kind), get_args(kind)
    if origin in (Union, types.UnionType):
        if value is None and type(None) in arguments:
            return None
        failures = []
        for option in arguments:
            if option is type(None):
                continue
            try:
                return _build(option, value, where)
            except VultusError as error:
                failures.append(error)
        raise failures[0]
    if origin is Literal:
        if value not in arguments:
            raise VultusError(f"{where} is {value!r}; choose one of {', '.join(map(repr, arguments))}")
        return value
    if origin in (tuple, list):
        if not isinstance(value, list):
            raise VultusError(f"{where} must be a list, not {value!r}")
        many = origin is list or (len(arguments) == 2 and arguments[1] is Ellipsis)
        if not many and len(value) != len(arguments):
            raise VultusError(f"{where} must have {len(arguments)} entries, not {len(value)}")
        kinds = [arguments[0]] * len(value) if many else arguments
        return origin(_build(option, item, where) for option, item in zip(kinds, value, strict=True))
    if kind is Path and isinstance(value, str):
        return Path(value)
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if kind is not Any and (not isinstance(value, kind) or (kind is int and isinstance(value, bool))):
        raise VultusError(f"{where} must be of type {getattr(kind, '__name__', kind)}, not {value!r}")
    return value
