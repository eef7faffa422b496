"""Marked up text ► plain text: HTML with headings as Markdown has them, and numbers that are raised or lowered."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from biorerank_plugins.readers.report import Malformed

_NO_TEXT = {
    "script", "style", "noscript", "template", "nav", "footer", "aside", "form", "button", "svg", "head", "iframe",
}  # fmt: skip
_BLOCKS = {
    "p", "div", "section", "article", "main", "header", "li", "ul", "ol", "dl", "dt", "dd", "tr", "table", "caption",
    "blockquote", "pre", "figure", "figcaption", "hr", "body", "html", "thead", "tbody", "address", "details",
    "summary",
}  # fmt: skip
_HEADINGS = {f"h{level}": "#" * level for level in range(1, 7)}
_MAX_DEPTH = 500
_DIGIT = re.compile(r"[0-9]$")
_NUMBER = re.compile(r"[-+−–]?[0-9]")
_RAISED = {"sup": "^", "sub": "_"}


def parse_html(text: str) -> Any:
    """Parse HTML, however badly it is written, unless there is nothing in it."""
    from lxml import etree, html

    try:
        return html.document_fromstring(text, parser=html.HTMLParser(no_network=True, huge_tree=False))
    except (etree.LxmlError, ValueError, AssertionError) as error:
        raise Malformed(f"The HTML holds nothing to read ({error}).") from None


def html_text(tree: Any) -> str:
    """Return the text of a tree; what belongs to the page and not to the text (menus, scripts) is left out."""
    blocks: list[list[str]] = [[]]
    _walk(tree, blocks, 0)
    texts = (" ".join("".join(block).split()) for block in blocks)
    return "\n\n".join(text for text in texts if text.strip("# "))


def html_lines(text: str) -> list[str]:
    """Return the paragraphs of an abstract with a little HTML; a heading is a label before its text: ``Aim: …``."""
    if "<" not in text and "&" not in text:
        return [" ".join(text.split())] if text.strip() else []
    return list(_labelled(html_text(parse_html(f"<div>{text}</div>")).split("\n\n")))


def _labelled(paragraphs: list[str]) -> Iterator[str]:
    label = ""
    for paragraph in paragraphs:
        if paragraph.startswith("#"):
            label = paragraph.lstrip("# ").rstrip(":")
        else:
            yield f"{label}: {paragraph}" if label else paragraph
            label = ""


def _walk(element: Any, blocks: list[list[str]], depth: int) -> None:
    tag = element.tag
    is_block = tag in _BLOCKS or tag in _HEADINGS
    if is_block:
        blocks.append([f"{_HEADINGS[tag]} "] if tag in _HEADINGS else [])
    if element.text:
        blocks[-1].append(element.text)
    for child in element if depth < _MAX_DEPTH else ():
        if isinstance(child.tag, str) and child.tag not in _NO_TEXT:
            if child.tag in ("sup", "sub"):
                before = "".join(blocks[-1][-1:])
                blocks[-1].append(raised(child.tag, before, child.text_content()))
            else:
                _walk(child, blocks, depth + 1)
            if child.tag in ("br", "td", "th"):
                blocks[-1].append(" ")
        if child.tail:
            blocks[-1].append(child.tail)
    if is_block:
        blocks.append([])


def raised(tag: str, before: str, text: str) -> str:
    """Return the text of an element behind what stands before it, with a sign where a number would be lost: 10^6."""
    sign = _RAISED.get(tag, "")
    return f"{sign}{text.strip()}" if sign and _DIGIT.search(before) and _NUMBER.match(text.strip()) else text
