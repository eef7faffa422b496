"""The public surface, frozen: names, signatures, defaults, commands and options.

A difference is meant or it is a mistake. If it is meant, write the listing anew and say so in the changelog::

    python tests/reliability/test_public_api.py
"""

from __future__ import annotations

import dataclasses
import difflib
import enum
import inspect
import os
import re
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

LISTING = Path(__file__).resolve().parents[1] / "fixtures" / "public_api.txt"
MODULES = (
    "biorerank_plugins", "biorerank_plugins.errors", "biorerank_plugins.readers", "biorerank_plugins.models",
    "biorerank_plugins.haystack", "biorerank_plugins.langchain", "biorerank_plugins.llama_index",
    "biorerank_plugins.scale",
    "biorerank_plugins.doctor",
    "biorerank_plugins.answers.llm",
    "biorerank_plugins.serve",
    "biorerank_plugins.telemetry",
    "biorerank_plugins.testing",
    "biorerank_plugins.answers.written",
)  # fmt: skip


def surface() -> list[str]:
    """Return one line for each name, parameter, field and option."""
    return [line for module in MODULES for line in _module(module)] + list(_commands())


def _module(name: str) -> Iterator[str]:
    module = import_module(name)
    for public in sorted(module.__all__):
        yield from _thing(f"{name}.{public}", getattr(module, public))


def _thing(name: str, thing: Any) -> Iterator[str]:
    if inspect.isclass(thing):
        yield f"class {name}({', '.join(base.__name__ for base in thing.__bases__ if base is not object)})"
        yield from _fields(name, thing)
        inherited = [vars(parent) for parent in reversed(thing.__mro__) if _is_ours(parent)]
        for member, value in sorted({key: value for own in inherited for key, value in own.items()}.items()):
            if not member.startswith("_") or member in ("__init__", "__call__"):
                yield from _member(f"{name}.{member}", value)
    elif callable(thing):
        yield from _parameters(name, thing)
    else:
        yield name


def _fields(name: str, thing: Any) -> Iterator[str]:
    fields = getattr(thing, "model_fields", None)
    if isinstance(fields, dict):  # the hosts of pydantic
        own = {key for parent in thing.__mro__ if _is_ours(parent) for key in vars(parent).get("__annotations__", {})}
        for key in sorted(own & fields.keys()):
            default = "required" if fields[key].is_required() else _default(fields[key].default)
            yield f"{name}.{key} = {default}"
    elif dataclasses.is_dataclass(thing):
        yield from (f"{name}.{field.name}: {field.type}" for field in dataclasses.fields(thing))
    elif issubclass(thing, enum.Enum):
        yield from (f"{name}.{item.name}" for item in thing)


def _is_ours(thing: Any) -> bool:
    return thing.__module__.startswith(("biorerank_plugins", "haystack_integrations.components"))


def _member(name: str, value: Any) -> Iterator[str]:
    if isinstance(value, (staticmethod, classmethod)):
        value = value.__func__
    if inspect.isfunction(value):
        if _is_ours(value):
            yield from _parameters(name, value)
    elif isinstance(value, property):
        yield f"{name} (property{'' if value.fset is None else ', may be set'})"


def _parameters(name: str, function: Any) -> Iterator[str]:
    parameters = [each for each in inspect.signature(function).parameters.values() if each.name not in ("self", "cls")]
    yield f"{name}({', '.join(map(_parameter, parameters))})"


def _parameter(parameter: inspect.Parameter) -> str:
    mark = {parameter.VAR_POSITIONAL: "*", parameter.VAR_KEYWORD: "**"}.get(parameter.kind, "")
    only = " (keyword)" if parameter.kind is parameter.KEYWORD_ONLY else ""
    default = "" if parameter.default is parameter.empty else f"={_default(parameter.default)}"
    return f"{mark}{parameter.name}{default}{only}"


def _default(value: Any) -> str:
    """Return a default as text that is the same on every machine."""
    return re.sub(r" at 0x[0-9a-f]+", "", repr(value))


def _commands() -> Iterator[str]:
    from typer.main import get_command

    from biorerank_plugins.cli import app

    group: Any = get_command(app)
    for name, command in sorted(group.commands.items()):
        for parameter in command.params:
            names = ", ".join(parameter.opts + parameter.secondary_opts)
            need = "required" if parameter.required else f"= {_default(parameter.default)}"
            yield f"biorerank {name}: {parameter.param_type_name} {names} {need}"


def test_the_public_surface_is_the_one_in_the_listing() -> None:
    for host in ("haystack", "langchain_core", "llama_index.core"):
        pytest.importorskip(host)
    kept, now = LISTING.read_text(encoding="utf-8").splitlines(), surface()
    differences = "\n".join(difflib.unified_diff(kept, now, "the listing", "the code", n=0, lineterm=""))
    assert not differences, f"{differences}\n\nIf this is meant: python tests/reliability/test_public_api.py"


def test_the_listing_would_show_a_changed_default() -> None:
    def before(text: str, *, top_k: int = 3) -> None: ...

    def after(text: str, *, top_k: int = 4) -> None: ...

    assert list(_parameters("rank", before)) == ["rank(text, top_k=3 (keyword))"]
    assert list(_parameters("rank", before)) != list(_parameters("rank", after))


if __name__ == "__main__":
    os.environ.setdefault("HAYSTACK_TELEMETRY_ENABLED", "False")
    LISTING.write_text("\n".join(surface()) + "\n", encoding="utf-8")
