"""Options that several commands share, as one parameter: a frozen dataclass whose fields are the options."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import fields, is_dataclass
from typing import Any, get_type_hints


def spread(function: Callable[..., None]) -> tuple[list[inspect.Parameter], Callable[[dict[str, Any]], dict[str, Any]]]:
    """Return the options of a command each by itself, and what puts their values together again.

    A parameter that is a dataclass stands for all its fields that are annotated as options; ``Annotated[Group, "a",
    "b"]`` for the fields ``a`` and ``b`` only.
    """
    parameters: list[inspect.Parameter] = []
    groups: dict[str, tuple[Callable[..., Any], tuple[str, ...]]] = {}
    for parameter in inspect.signature(function, eval_str=True).parameters.values():
        group = getattr(parameter.annotation, "__origin__", parameter.annotation)
        if not is_dataclass(group):
            parameters.append(parameter)
            continue
        hints = get_type_hints(group, include_extras=True)
        defaults = {field.name: field.default for field in fields(group)}
        options = tuple(name for name, hint in hints.items() if hasattr(hint, "__metadata__"))
        names = getattr(parameter.annotation, "__metadata__", options)
        parameters += [
            inspect.Parameter(name, parameter.kind, default=defaults[name], annotation=hints[name]) for name in names
        ]
        groups[parameter.name] = group, names  # type: ignore[assignment]

    def together(given: dict[str, Any]) -> dict[str, Any]:
        made = {key: group(**{name: given[name] for name in names}) for key, (group, names) in groups.items()}
        taken = {name for _, names in groups.values() for name in names}
        return {**{name: value for name, value in given.items() if name not in taken}, **made}

    return parameters, together
