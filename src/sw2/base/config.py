"""Configs: frozen dataclasses of plain values, to and from dictionaries, TOML and `--set key=value`.

One config system for the whole toolchain. A config class is a `@dataclass(frozen=True, kw_only=True)` whose fields are
`int`, `float` (finite), `str`, `bool`, `None`, `Literal[...]`, further configs, or tuples of all these. An unknown key,
a missing key and a value of the wrong type are errors that name the path of the key; nothing is ever ignored, so that
a setting without effect cannot exist. TOML has no null: None is written "none", so a `str | None` cannot be that word.

Text from the command line (`--set learn.learning_rate=3e-4`) is read as a TOML value where it parses as one and as a
plain string otherwise.
"""

from __future__ import annotations

import dataclasses
import sys
import tomllib
import types
from collections.abc import Iterable, Mapping
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from sw2.base.errors import UsageError
from sw2.base.names import unknown

__all__ = [
    "apply_settings",
    "check_ranges",
    "check_shares",
    "from_dict",
    "parse_setting",
    "replace",
    "settings_for",
    "spell_setting",
    "to_dict",
    "to_toml",
    "typed",
]

C = TypeVar("C")


def to_dict(config: Any) -> dict[str, Any]:
    """`config` as nested dictionaries of plain values; tuples become lists."""
    return {field.name: _plain(getattr(config, field.name)) for field in dataclasses.fields(config)}


def _plain(value: Any) -> Any:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return to_dict(value)
    if isinstance(value, tuple):
        return [_plain(item) for item in value]
    return value


def from_dict(cls: type[C], values: Mapping[str, Any], path: str = "") -> C:
    """The config of class `cls` that `values` describes.

    Args:
        cls: a config class.
        values: its fields by name; nested configs as nested mappings.
        path: the name of the section, for messages.

    Raises:
        UsageError: for an unknown key, a missing key without default, or a value of the wrong type.
    """
    assert dataclasses.is_dataclass(cls), cls
    hints = get_type_hints(cls)
    fields = {field.name: field for field in dataclasses.fields(cls)}
    for key in values:
        if key not in fields:
            raise unknown("setting", _join(path, key), [_join(path, name) for name in fields])
    arguments = {}
    for name, field in fields.items():
        if name in values:
            arguments[name] = _convert(hints[name], values[name], _join(path, name))
        elif field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING:
            raise UsageError(
                f"The setting '{_join(path, name)}' is missing.", wanted=_spell(hints[name]), got="nothing"
            )
    return cls(**arguments)


def _join(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name


def _spell(hint: Any) -> str:
    if get_origin(hint) is Literal:
        return " or ".join(repr(option) for option in get_args(hint))
    if get_origin(hint) in (Union, types.UnionType):
        return " or ".join(_spell(option) for option in get_args(hint))
    if hint is type(None):
        return "none"
    return hint.__name__ if isinstance(hint, type) else str(hint)


def _convert(hint: Any, value: Any, path: str) -> Any:
    """`value` as the type `hint`, refusing what would lose or guess (2.5 for an int, "yes" for a bool)."""
    wrong = UsageError(f"The setting '{path}' has a value that does not fit.", wanted=_spell(hint), got=repr(value))
    origin = get_origin(hint)
    if origin is Literal:
        if not any(value == option and type(value) is type(option) for option in get_args(hint)):
            raise wrong
        return value
    if origin in (Union, types.UnionType):
        # None first: it is written "none", which would do for a str too.
        for option in sorted(get_args(hint), key=lambda option: option is not type(None)):
            try:
                return _convert(option, value, path)
            except UsageError:
                continue
        raise wrong
    if origin is tuple:
        if not isinstance(value, (list, tuple)):
            raise wrong
        item_hints = get_args(hint)
        if len(item_hints) == 2 and item_hints[1] is Ellipsis:
            item_hints = (item_hints[0],) * len(value)
        if len(item_hints) != len(value):
            raise wrong
        pairs = zip(item_hints, value, strict=True)
        return tuple(_convert(item, each, f"{path}[{index}]") for index, (item, each) in enumerate(pairs))
    if dataclasses.is_dataclass(hint):
        if isinstance(hint, type) and isinstance(value, hint):
            return value
        if not isinstance(value, Mapping):
            raise wrong
        return from_dict(hint, value, path)  # type: ignore[arg-type]
    if hint is Any:
        return value
    if hint is type(None):
        if value is None or value == "none":
            return None
        raise wrong
    if hint is float and type(value) in (int, float):
        if not abs(value) <= sys.float_info.max:  # false for nan too
            raise wrong
        return float(value)
    if hint in (int, str, bool) and type(value) is hint:
        return value
    raise wrong


def check_ranges(section: str, config: Any, allowed: Mapping[str, tuple[bool, str]]) -> None:
    """Hold the fields of a config to what is allowed; for its `__post_init__`.

    Args:
        section: where a user sets the fields.
        config: the config.
        allowed: for each field whether it fits, and what would.

    Raises:
        UsageError: naming the first field that does not fit.
    """
    for name, (fits, wanted) in allowed.items():
        if not fits:
            raise UsageError(f"{section}.{name} is out of range.", wanted=wanted, got=getattr(config, name))


def check_shares(section: str, config: Any, *names: str) -> None:
    """Hold the fields `names` to shares that leave something over.

    Raises:
        UsageError: naming the first one outside [0, 1).
    """
    check_ranges(
        section, config, {name: (0 <= getattr(config, name) < 1, "a share from 0 to below 1") for name in names}
    )


def parse_setting(text: str) -> tuple[str, Any]:
    """`"learn.learning_rate=3e-4"` as `("learn.learning_rate", 0.0003)`."""
    key, separator, raw = text.partition("=")
    key, raw = key.strip(), raw.strip()
    if not separator or not key:
        raise UsageError("A setting is written key=value.", where=f"--set {text}", wanted="key=value", got=repr(text))
    try:
        document = tomllib.loads(f"value = {raw}")
    except tomllib.TOMLDecodeError:
        return key, raw
    return key, document["value"] if len(document) == 1 else raw


def spell_setting(key: str, value: Any) -> str:
    """The text of `--set` that `parse_setting` reads back to the same key and value.

    >>> spell_setting("model.widths", [16, 32])
    'model.widths=[16, 32]'
    """
    return f"{key}={_toml_value(value)}"


def typed(sections: Mapping[str, Any], key: str, value: Any, where: str) -> tuple[str, Any]:
    """The whole name of the setting `key`, and `value` as a plain value of its type; ranges are not looked at.

    Args:
        sections: config by section name.
        key: as for `apply_settings`.
        value: what is to be set.
        where: what a message names as the place.

    Raises:
        UsageError: there is no such setting, or the value is of another type.
    """
    section, *names = _place(sections, key, where)
    parent = sections.get(section)
    for name in names[:-1]:
        parent = getattr(parent, name) if dataclasses.is_dataclass(parent) and _has_field(parent, name) else None
    if not names or not dataclasses.is_dataclass(parent) or not _has_field(parent, names[-1]):
        raise unknown("setting", key, _all_keys(sections), where=where)
    whole = ".".join([section, *names])
    try:
        return whole, _plain(_convert(get_type_hints(type(parent))[names[-1]], value, whole))
    except UsageError as error:
        error.where = where
        raise


def _place(sections: Mapping[str, Any], key: str, where: str) -> list[str]:
    """The parts of `key`, its section first."""
    names = key.split(".")
    if names[0] in sections:
        return names
    owners = [section for section, config in sections.items() if _has_field(config, names[0])]
    if len(owners) > 1:
        raise UsageError(
            f"The setting '{key}' exists in several sections.",
            where=where,
            wanted=" or ".join(f"{owner}.{key}" for owner in owners),
            got=key,
        )
    return [*owners, *names]


def apply_settings(sections: Mapping[str, Any], settings: Iterable[str]) -> dict[str, Any]:
    """`sections` (config by section name) with `--set` texts applied.

    A key names its section (`model.depth=4`); a bare key is accepted when exactly one section has it.
    """
    plain = {section: to_dict(config) for section, config in sections.items()}
    changed = set()
    for text in settings:
        key, value = parse_setting(text)
        names = _place(sections, key, f"--set {text}")
        section = names[0]
        if section not in sections or len(names) < 2:
            raise unknown("setting", key, _all_keys(sections), where=f"--set {text}")
        plain[section] = _replace_at(plain[section], names[1:], value, key, text, _all_keys(sections))
        changed.add(section)
    # Built once, after all changes: settings that only fit together (heads, kv_heads) come in any order.
    return {
        section: from_dict(type(config), plain[section], section) if section in changed else config
        for section, config in sections.items()
    }


def settings_for(section: str, config: Any, settings: Iterable[str]) -> list[str]:
    """Those of the `--set` texts that are about one section, while the configs of the others are not known yet.

    A bare key is the section's where it has such a field; `apply_settings` refuses it later where others have it too.
    """
    keys = [(text, parse_setting(text)[0].split(".")) for text in settings]
    return [text for text, names in keys if names[0] == section or _has_field(config, names[0])]


def _has_field(config: Any, name: str) -> bool:
    return any(field.name == name for field in dataclasses.fields(config))


def _all_keys(sections: Mapping[str, Any]) -> list[str]:
    def walk(values: Mapping[str, Any], path: str) -> Iterable[str]:
        for name, value in values.items():
            if isinstance(value, Mapping):
                yield from walk(value, f"{path}.{name}")
            else:
                yield f"{path}.{name}"

    return [key for section, config in sections.items() for key in walk(to_dict(config), section)]


def _replace_at(
    values: dict[str, Any], names: list[str], value: Any, key: str, text: str, known: list[str]
) -> dict[str, Any]:
    head, *rest = names
    if head not in values or (rest and not isinstance(values[head], dict)):
        raise unknown("setting", key, known, where=f"--set {text}")
    new = _replace_at(values[head], rest, value, key, text, known) if rest else value
    return {**values, head: new}


def replace(config: C, **changes: Any) -> C:
    """`dataclasses.replace`, typed for any config."""
    return dataclasses.replace(config, **changes)  # type: ignore[type-var]


def to_toml(sections: Mapping[str, Any]) -> str:
    """Nested plain mappings as TOML text that `tomllib` reads back to the same values; None is written "none"."""
    lines: list[str] = []

    def write(values: Mapping[str, Any], path: str) -> None:
        plain = {name: value for name, value in values.items() if not isinstance(value, Mapping)}
        nested = {name: value for name, value in values.items() if isinstance(value, Mapping)}
        if path and (plain or not nested):
            lines.append(f"\n[{path}]" if lines else f"[{path}]")
        lines.extend(f"{name} = {_toml_value(value)}" for name, value in plain.items())
        for name, value in nested.items():
            write(value, f"{path}.{name}" if path else name)

    write(sections, "")
    return "\n".join(lines) + "\n"


def _toml_value(value: Any) -> str:
    if value is None:
        return '"none"'
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        escaped = "".join(
            f"\\u{ord(char):04x}" if ord(char) < 32 or char == "\x7f" else char
            for char in value.replace("\\", "\\\\").replace('"', '\\"')
        )
        return f'"{escaped}"'
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(_toml_value(item) for item in value) + "]"
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{name} = {_toml_value(item)}" for name, item in value.items()) + "}"
    return repr(value)
