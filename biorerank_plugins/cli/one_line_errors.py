"""What makes a function a command: groups of options become options, and errors one line on stderr and an exit code."""

from __future__ import annotations

import functools
import inspect
import re
import sys
import traceback
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import fields, is_dataclass
from typing import Any, NoReturn, get_type_hints

import typer

from biorerank_plugins.cli.output import one_line
from biorerank_plugins.errors import BioRerankError

_MESSAGE_LIMIT = 600  # one line stays readable; --debug shows everything
# How the library's messages name arguments that are options here: on_duplicate='skip'.
_ARGUMENT = re.compile(r"(?<![\w/.])(on_duplicate|factory|device|dtype|encoding)='([^'\s]*)'")


def command(function: Callable[..., None]) -> Callable[..., None]:
    """Turn every error into one line on stderr and an exit code, and parameters that are groups into options.

    0 is success, 1 an error while running, 2 wrong usage, 3 no evidence (--abstain), 130 Ctrl-C.
    """
    parameters, together = _spread(function)
    options = {parameter.name: parameter.annotation for parameter in parameters}

    @functools.wraps(function)
    def guarded(**given: Any) -> None:
        with _one_line_errors(options, debug=given.get("debug", False)):
            function(**together(given))
            sys.stdout.flush()  # a reader that went away is noticed here, not while Python shuts down

    guarded.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    guarded.__annotations__ = options
    # Help is wrapped to the terminal: the line ends of the source must not stay in it.
    paragraphs = (inspect.getdoc(function) or "").split("\n\n")
    guarded.__doc__ = "\n\n".join(" ".join(paragraph.split()) for paragraph in paragraphs)
    return guarded


def _spread(
    function: Callable[..., None],
) -> tuple[list[inspect.Parameter], Callable[[dict[str, Any]], dict[str, Any]]]:
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


def usage_error(message: str) -> NoReturn:
    """Stop with exit code 2 and one line."""
    fail(message, code=2)


def fail(message: str, *, code: int = 1) -> NoReturn:
    """Stop with one line on stderr."""
    typer.echo(f"Error: {one_line(message)}", err=True)
    raise typer.Exit(code)


@contextmanager
def _one_line_errors(options: Collection[str], *, debug: bool) -> Iterator[None]:
    try:
        yield
    except (typer.Exit, BrokenPipeError):
        raise
    except KeyboardInterrupt:
        typer.echo("Interrupted.", err=True)
        raise typer.Exit(130) from None
    except Exception as error:
        if hasattr(error, "format_message"):  # typer's own usage errors
            raise
        if debug:
            traceback.print_exc()
        fail(describe(error, options))


def describe(error: Exception, options: Collection[str] = ()) -> str:
    """Say in one line what went wrong, and what to do in terms of options: the names of the command's parameters.

    What this package raised on purpose, and what the operating system says about a file, speaks for itself. Anything
    else is named with its type, since its message alone may say nothing (``KeyError: 3``).
    """
    if isinstance(error, OSError) and not isinstance(error, BioRerankError) and error.strerror:
        message = f"{error.filename}: {error.strerror}" if error.filename is not None else error.strerror
    else:
        message = _in_options(" ".join(str(error).split()), options)
    if "format" in options:
        from biorerank_plugins.readers.detect import UnknownFormatError

        message += " Use --format." if isinstance(error, UnknownFormatError) else ""
    message = message if len(message) <= _MESSAGE_LIMIT else f"{message[:_MESSAGE_LIMIT]}…"
    if isinstance(error, (BioRerankError, OSError)) or _raised_here(error):
        return message
    return f"{type(error).__name__}: {message} (unexpected; --debug shows where)"


def _in_options(message: str, options: Collection[str]) -> str:
    def option(match: re.Match[str]) -> str:
        typed = f"--{match[1].replace('_', '-')} {match[2]}"
        # What a command cannot be told, such as evaluate --corpus, can be told when an index is built.
        return typed if match[1] in options else f"biorerank index {typed}"

    return _ARGUMENT.sub(option, message)


def _raised_here(error: Exception) -> bool:
    """Whether the error is a ``ValueError`` or ``TypeError`` that this package raised about an argument."""
    modules = [str(frame.f_globals.get("__name__", "")) for frame, _ in traceback.walk_tb(error.__traceback__)]
    return isinstance(error, (ValueError, TypeError)) and "".join(modules[-1:]).startswith("biorerank_plugins")
