"""How a passage becomes the text that a model reads."""

from __future__ import annotations

import string
from collections.abc import Callable
from typing import TypeAlias

from biorerank_plugins.passages import Passage

DEFAULT_TEMPLATE = "{title}. {text}"
"""MedCPT's form: title, full stop, text. A passage without a title is its text alone."""

Template: TypeAlias = str | Callable[[Passage], str]
"""A format string over ``title``, ``text`` and metadata keys, or a function from passage to text."""

_SEPARATORS = " \t\n.,;:|/-–—"


def wellformed(text: str) -> str:
    """Replace lone surrogates, which no tokenizer can read, by ``?``; all other text is returned as it is."""
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return text.encode("utf-8", "replace").decode("utf-8")
    return text


def check_template(template: Template | None) -> Template:
    """Return a template that has ``{text}`` and can be filled in; ``None`` gives the default."""
    if template is None:
        return DEFAULT_TEMPLATE
    if callable(template):
        return template
    if not isinstance(template, str):
        raise TypeError(f"template must be a format string or a function, got {type(template).__name__}.")
    try:
        fields = [field for field in string.Formatter().parse(template) if field[1] is not None]
    except ValueError as error:
        raise ValueError(f"template={template!r} is no format string: {error}.") from error
    if all(name != "text" for _, name, _, _ in fields):
        raise ValueError(f"template={template!r} must contain {{text}}; {{title}} and metadata keys are possible too.")
    if any(not str(name).isidentifier() or spec or conversion for _, name, spec, conversion in fields):
        raise ValueError(f"template={template!r} may name title, text and metadata keys only, without formats or dots.")
    return template


def passage_text(passage: Passage, template: Template = DEFAULT_TEMPLATE) -> str:
    """Return what the model reads of a passage.

    In a format string, the literal text before a field belongs to it: it is left out with a field that has no value,
    with a bracket around it and separators that would then stand at the very start. A field that ends in ``.?!:`` is
    not followed by a second full stop.

    >>> passage_text(Passage("1", "It suppresses tumours.", title="TP53"))
    'TP53. It suppresses tumours.'
    >>> passage_text(Passage("1", "It suppresses tumours."))
    'It suppresses tumours.'
    """
    if callable(template):
        text = template(passage)
        if not isinstance(text, str):
            raise TypeError(f"The template function must return a string, got {type(text).__name__}.")
        return wellformed(text)
    written, before_was_left_out = "", False
    for literal, name, _, _ in string.Formatter().parse(template):
        value = "" if name is None else _field(passage, name)
        if before_was_left_out:
            literal = literal.lstrip(")]")
            if not written:
                literal = literal.lstrip(_SEPARATORS)
        before_was_left_out = name is not None and not value
        if before_was_left_out:
            continue
        if written.endswith((".", "?", "!", ":")):
            literal = literal.removeprefix(".")
        written += literal + value
    return wellformed(written)


def _field(passage: Passage, name: str) -> str:
    if name == "text":
        return passage.text
    if name == "title":
        return (passage.title or "").strip()
    value = passage.metadata.get(name)
    if isinstance(value, tuple):  # a list, as a passage keeps it
        return ", ".join(map(str, value))
    return "" if value is None else str(value)
