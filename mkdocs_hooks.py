"""What the site needs beside MkDocs: files of the checkout as pages, the command line's help, and docstrings' roles.

The pages stay readable as plain files: what is taken in stands as a link above the comment that takes it in.
"""

from __future__ import annotations

import re
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

from griffe import Attribute, Class, Extension, Function, Object, Parameter, ParameterKind, Parameters

ROOT = Path(__file__).parent
_INCLUDED = re.compile(r"^<!-- include: (\S+) -->$", re.MULTILINE)
_FRONT_MATTER = re.compile(r"\A---\n.*?\n---\n", re.DOTALL)
_LINK = re.compile(r"(!?)\[([^\]\n]*)\]\(([^)\s]+)\)")
_ROLE = re.compile(r":(?:class|func|meth|attr|data|mod|exc):`~?([^`]+)`")
_DEFAULT = re.compile(r"\bdefault=([^,()]+)")
_BORDER = re.compile(r"=+( +=+)+")
_ADMITTED = ("http://", "https://", "#", "mailto:")


def on_page_markdown(markdown: str, *, page: Any, config: Any, **_: Any) -> str:
    """Take in files and the help; links that leave the site become their text."""
    source = Path(page.file.abs_src_path)
    if page.file.src_uri == "reference/command_line.md":
        markdown += _command_line()
    parts = _INCLUDED.split(markdown)
    down = markdown.startswith("# ")
    for number, part in enumerate(parts):
        parts[number] = (
            _inside(part, source.parent, config) if number % 2 == 0 else _included(ROOT / part, config, down)
        )
    return "".join(parts)


def _included(path: Path, config: Any, down: bool) -> str:
    """Return a file's text as part of a page, headings one level down if that has a title; without what hubs read."""
    text = _FRONT_MATTER.sub("", path.read_text(encoding="utf-8"))
    if down:  # in prose; the same sign begins a comment in code
        text = re.sub(r"(?ms)^```.*?^```$|^(?=#+ )", lambda match: match[0] or "#", text)
    return _inside(text, path.parent, config, keep=False)


def _inside(text: str, folder: Path, config: Any, *, keep: bool = True) -> str:
    docs = Path(config.docs_dir).resolve()

    def shown(match: re.Match[str]) -> str:
        target = match[3]
        if match[1] or target.startswith(_ADMITTED):
            return match[0]
        stays = keep and (folder / target.split("#")[0]).resolve().is_relative_to(docs)
        return match[0] if stays else match[2]

    return _LINK.sub(shown, text)


def _command_line() -> str:
    """Return the help of all commands, as typer writes it."""
    command = [sys.executable, "-m", "typer", "biorerank_plugins.cli", "utils", "docs", "--name", "biorerank"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, encoding="utf-8", check=True)
    return "\n" + done.stdout.removeprefix("# `biorerank`\n")


class Roles(Extension):
    """Docstrings are written for Python's ``help()``: this makes Markdown of them, and parameters of models' fields."""

    def on_instance(self, *, obj: Object, **_: Any) -> None:
        """Change one docstring."""
        if obj.docstring is not None:
            obj.docstring.value = as_markdown(obj.docstring.value)

    def on_class_members(self, *, cls: Class, **_: Any) -> None:
        """Give a pydantic model the parameters that its fields are."""
        if "model_config" not in cls.members:
            return
        own = cls.members.get("__init__")
        first = (
            [one for one in own.parameters if one.kind is not ParameterKind.var_keyword] if own else [Parameter("self")]
        )
        named = {one.name for one in first}
        fields = [one for name, one in cls.members.items() if isinstance(one, Attribute) and not name.startswith("_")]
        settings = [_parameter(one) for one in fields if one.annotation is not None and one.name not in named]
        made = Function("__init__", parameters=Parameters(*first, *settings))
        cls.set_member("__init__", made)


def _parameter(field: Attribute) -> Parameter:
    value = str(field.value) if field.value is not None else None
    if value is not None and value.startswith("Field("):
        found = _DEFAULT.search(value)
        value = found[1] if found else None
    return Parameter(field.name, annotation=field.annotation, kind=ParameterKind.keyword_only, default=value)


def as_markdown(text: str) -> str:
    """Return a docstring with Markdown in place of roles, tables, examples and blocks.

    >>> as_markdown("As :class:`~biorerank_plugins.Passage`::")
    'As `Passage`:'
    """
    text = _ROLE.sub(lambda match: f"`{match[1].rpartition('.')[2] if '~' in match[0] else match[1]}`", text)
    text = re.sub(r"(?m)(?<=\S)::$", ":", text)
    text = re.sub(r"(?m)^::$\n?", "", text)
    return "\n\n".join(_paragraph(part) for part in re.split(r"\n{2,}", text))


def _paragraph(part: str) -> str:
    lines = textwrap.dedent(part).strip("\n").splitlines()
    if lines and lines[0].startswith(">>> "):
        return "\n".join(["```pycon", *lines, "```"])
    if lines and _BORDER.fullmatch(lines[0]):
        return _table(lines)
    return part


def _table(lines: list[str]) -> str:
    """Return a simple table of reStructuredText as one of Markdown; a row goes on below an empty or a listing cell."""
    starts = [match.start() for match in re.finditer(r"=+", lines[0])]
    ends = [*starts[1:], None]
    headed = sum(_BORDER.fullmatch(line) is not None for line in lines) > 2
    rows: list[list[str]] = [[]] if headed else [[""] * len(starts), []]
    for line in lines[1:-1]:
        cells = [
            line[start:end].strip().replace("``", "`").replace("|", "\\|")
            for start, end in zip(starts, ends, strict=True)
        ]
        if _BORDER.fullmatch(line):
            rows.append([])
        elif not rows[-1]:
            rows[-1] = cells
        elif len(rows) > 1 and cells[0] and not rows[-1][0].endswith(","):
            rows.append(cells)
        else:
            rows[-1] = [f"{before} {more}".strip() for before, more in zip(rows[-1], cells, strict=True)]
    head, *body = (f"| {' | '.join(row)} |" for row in rows if row)
    return "\n".join([head, "|" + " --- |" * len(starts), *body])
