"""Turns what pydantic refuses into problems that name source, key, range and what to do.

Owns the wording only; must not read a file or the environment (see `loading`).
"""

from collections.abc import Callable, Mapping
from types import UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from annotated_types import Ge, Gt, Le, Lt
from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo

from lastunit_server.errors import Problem

__all__ = ["allowed_text", "problems_from"]

_NUMBER_MARGINS = ((Ge, "ge"), (Gt, "gt"))
_NUMBER_LIMITS = ((Le, "le"), (Lt, "lt"))


def problems_from(
    error: ValidationError,
    *,
    model: type[BaseModel],
    source_of: Callable[[tuple[str, ...]], str],
) -> list[Problem]:
    """Words every error of one validation.

    Args:
        error: What pydantic raised.
        model: The model that was validated; its fields say what is allowed.
        source_of: Gives the name of the source that holds a key.

    Returns:
        One problem per wrong key, in key order.
    """
    found = []
    for detail in error.errors():
        path = tuple(str(part) for part in detail["loc"] if not str(part).startswith("function-"))
        key = ".".join(path) or "(whole file)"
        found.append(_problem(detail, key=key, source=source_of(path), model=model, path=path))
    return sorted(found, key=lambda problem: problem.key)


def _problem(
    detail: Mapping[str, Any],
    *,
    key: str,
    source: str,
    model: type[BaseModel],
    path: tuple[str, ...],
) -> Problem:
    match detail["type"]:
        case "extra_forbidden":
            near = ", ".join(_known_keys(model, path[:-1]))
            return Problem(source, key, "is not a known key", f"remove it, or use one of: {near}")
        case "missing":
            return Problem(source, key, "is missing", f"set it to {allowed_text(model, path)}")
        case "value_error":
            # The message of our own validators already says what to do after the semicolon.
            text = str(detail["ctx"]["error"])
            message, _, advice = text.partition("; ")
            return Problem(source, key, message, advice or f"set it to {allowed_text(model, path)}")
        case _:
            allowed = allowed_text(model, path)
            shown = repr(detail["input"])[:80]
            return Problem(source, key, f"is {shown}, allowed is {allowed}", "set it in that range")


def _known_keys(model: type[BaseModel], path: tuple[str, ...]) -> list[str]:
    inner = _model_at(model, path)
    return sorted(inner.model_fields) if inner is not None else ["(free names of another form)"]


def _model_at(model: type[BaseModel], path: tuple[str, ...]) -> type[BaseModel] | None:
    current: Any = model
    for part in path:
        if not (isinstance(current, type) and issubclass(current, BaseModel)):
            # A mapping of free names, or a list of rows: the part is a name or a number.
            current = _mapping_value(current)
            continue
        field = current.model_fields.get(part)
        if field is None:
            return None
        current = _bare(field.annotation)
    if isinstance(current, type) and issubclass(current, BaseModel):
        return current
    value = _mapping_value(current)
    return value if isinstance(value, type) and issubclass(value, BaseModel) else None


def _mapping_value(annotation: Any) -> Any:
    """Returns what a mapping or a list holds."""
    arguments = get_args(_bare(annotation))
    if get_origin(_bare(annotation)) is Annotated:
        return _mapping_value(arguments[0])
    return _bare(arguments[-1]) if arguments else None


def _bare(annotation: Any) -> Any:
    if get_origin(annotation) in (Union, UnionType):
        return next(part for part in get_args(annotation) if part is not type(None))
    return annotation


def allowed_text(model: type[BaseModel], path: tuple[str, ...]) -> str:
    """Says in words which values a key takes.

    Args:
        model: The model that the path starts in.
        path: The key's parts.

    Returns:
        For example `1 to 600`, `one of system, manual`, or the field's own description.
    """
    inner = _model_at(model, path[:-1]) if path else None
    field = inner.model_fields.get(path[-1]) if inner is not None else None
    if field is None:
        return "a value of the documented form"
    return _range_of(field) or field.description or "a value of the documented form"


def _range_of(field: FieldInfo) -> str:
    kind = _bare(field.annotation)
    if get_origin(kind) is Literal:
        return "one of " + ", ".join(str(choice) for choice in get_args(kind))
    if kind is bool:
        return "true or false"
    low = _bound(field, _NUMBER_MARGINS)
    high = _bound(field, _NUMBER_LIMITS)
    if low is None or high is None:
        return ""
    noun = "a whole number" if kind is int else "a number"
    return f"{noun}, {low} to {high}"


def _bound(field: FieldInfo, kinds: tuple[tuple[type, str], ...]) -> Any:
    for mark in field.metadata:
        for kind, attribute in kinds:
            if isinstance(mark, kind):
                return getattr(mark, attribute)
    return None
