"""Where settings come from: a TOML file, the environment, flags, the later the stronger.

Owns reading and merging; each wrong value is reported with the source that holds it, and a key that
nobody knows is an error wherever it stands. Ranges live in `settings` and `policy`.
"""

import os
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from lastunit_server.errors import Problem, SettingsError
from lastunit_server.policy import PolicyDocument, built_in_policy, checked_policy
from lastunit_server.settings import Settings
from lastunit_server.stamps import stamp
from lastunit_server.tokens import TokenFile, Tokens
from lastunit_server.toml_lines import line_of
from lastunit_server.validation import problems_from

__all__ = ["ENVIRONMENT_PREFIX", "load_policy", "load_settings", "load_tokens"]

ENVIRONMENT_PREFIX = "LASTUNIT_SERVER__"
_SEPARATOR = "__"
# Our files are a page long; a wrong path to something big must not be read whole.
_FILE_BYTES_MAX = 1024 * 1024

Values = dict[str, Any]
Model = TypeVar("Model", bound=BaseModel)


def load_settings(
    config_file: Path | None = None,
    *,
    flags: Mapping[str, str] | None = None,
    environment: Mapping[str, str] | None = None,
) -> Settings:
    """Reads all sources and checks the result.

    Args:
        config_file: A TOML file, or None for no file.
        flags: Dotted keys and texts, the strongest source.
        environment: Variables; those that start with `LASTUNIT_SERVER__` count, for example
            `LASTUNIT_SERVER__DATA__ADDRESS`. Default is the process environment.

    Returns:
        Settings in which every value is in range.

    Raises:
        SettingsError: With every problem that was found.
    """
    variables = os.environ if environment is None else environment
    text, values = _read_toml(config_file) if config_file else ("", {})
    sources = {
        "flag": _from_flags(flags or {}),
        "environment": _from_environment(variables),
        str(config_file or "settings"): values,
    }
    merged: Values = {}
    for values in reversed(sources.values()):
        merged = _merge(merged, values)
    return _validated(Settings, merged, sources=sources, text=text)


def load_policy(policy_file: Path | None) -> PolicyDocument:
    """Reads and checks an admission policy.

    Args:
        policy_file: A TOML file of schema version 1, or None for the policy that is built in.

    Returns:
        The document, which the node's own reader has passed.

    Raises:
        SettingsError: With every problem that was found, each with its line.
    """
    if policy_file is None:
        return built_in_policy()
    # Before it is read: what is written from now on is a change.
    seen = stamp(policy_file)
    return checked_policy(_read_text(policy_file), policy_file, seen)


def load_tokens(tokens_file: Path | None) -> Tokens | None:
    """Reads and checks a file of token digests.

    Args:
        tokens_file: A TOML file, or None if tokens are not taken.

    Returns:
        The tokens that are accepted, or None.

    Raises:
        SettingsError: With every problem that was found.
    """
    if tokens_file is None:
        return None
    text, values = _read_toml(tokens_file)
    found = _validated(TokenFile, values, sources={str(tokens_file): values}, text=text)
    return Tokens(found.tokens)


def _validated(
    model: type[Model], values: Values, *, sources: dict[str, Values], text: str
) -> Model:
    """Validates; `text` is the weakest source's, whose lines problems point at."""
    weakest = next(reversed(sources))

    def source_of(path: tuple[str, ...]) -> str:
        for name, held in sources.items():
            if _holds(held, path):
                return _with_line(name, path) if name == weakest else name
        # A missing key, or a check over several: the weakest source that says anything, because
        # that is the file that an operator edits.
        found = next((name for name, held in reversed(sources.items()) if held), weakest)
        return _with_line(found, path) if found == weakest else found

    def _with_line(name: str, path: tuple[str, ...]) -> str:
        line = line_of(text, path)
        return name if line is None else f"{name}:{line}"

    try:
        return model.model_validate(values)
    except ValidationError as error:
        raise SettingsError(problems_from(error, model=model, source_of=source_of)) from error


def _holds(values: Values, path: tuple[str, ...]) -> bool:
    current: Any = values
    for part in path:
        if isinstance(current, list) and part.isdecimal() and int(part) < len(current):
            current = current[int(part)]
            continue
        if not isinstance(current, dict) or part not in current:
            return False
        current = current[part]
    return bool(path)


def _merge(weak: Values, strong: Values) -> Values:
    merged = dict(weak)
    for key, value in strong.items():
        below = merged.get(key)
        is_table = isinstance(value, dict) and isinstance(below, dict)
        merged[key] = _merge(below, value) if is_table and isinstance(below, dict) else value
    return merged


def _from_flags(flags: Mapping[str, str]) -> Values:
    values: Values = {}
    for key, text in flags.items():
        _put(values, key.split("."), text, source="flag", key=key)
    return values


def _from_environment(variables: Mapping[str, str]) -> Values:
    values: Values = {}
    for name in sorted(variables):
        if name.startswith(ENVIRONMENT_PREFIX):
            parts = name.removeprefix(ENVIRONMENT_PREFIX).lower().split(_SEPARATOR)
            _put(values, parts, variables[name], source="environment", key=name)
    return values


def _put(values: Values, parts: list[str], text: str, *, source: str, key: str) -> None:
    if not all(parts):
        advice = "write it like data.address or LASTUNIT_SERVER__DATA__ADDRESS"
        raise SettingsError([Problem(source, key, "has an empty part", advice)])
    current = values
    for part in parts[:-1]:
        current = current.setdefault(part, {})
        if not isinstance(current, dict):
            advice = "set either the table's keys or the value, not both"
            raise SettingsError([Problem(source, key, f"{part} is a value already", advice)])
    current[parts[-1]] = text


def _read_toml(file: Path) -> tuple[str, Values]:
    """Returns a file's text and what it says."""
    text = _read_text(file)
    try:
        return text, tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        problem = Problem(str(file), "(whole file)", f"is not TOML: {error}", "correct that line")
        raise SettingsError([problem]) from error


def _read_text(file: Path) -> str:
    try:
        if file.stat().st_size > _FILE_BYTES_MAX:
            problem = Problem(
                str(file),
                "(whole file)",
                f"is larger than {_FILE_BYTES_MAX} bytes",
                "point to a TOML file of settings",
            )
            raise SettingsError([problem])
        return file.read_text(encoding="utf-8")
    except OSError as error:
        advice = "check the path and its permissions"
        message = f"can't be read: {error.strerror}"
        raise SettingsError([Problem(str(file), "(whole file)", message, advice)]) from error
    except UnicodeDecodeError as error:
        problem = Problem(str(file), "(whole file)", f"is not UTF-8: {error}", "correct that byte")
        raise SettingsError([problem]) from error
