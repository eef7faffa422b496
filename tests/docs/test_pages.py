"""What pages name is there: links, errors and their messages, tests of promises, results."""

from __future__ import annotations

import ast
import inspect
import re
from pathlib import Path

import pytest
from support import ROOT
from support.pages import PAGES

from biorerank_plugins import errors

DOCS = ROOT / "docs"
TROUBLES = (DOCS / "troubleshooting.md").read_text("utf-8")
PROMISES = (DOCS / "contributing" / "promises.md").read_text("utf-8")
CODE = re.compile(r"```.*?```|`[^`\n]*`", re.DOTALL)
IDS = [str(page.relative_to(ROOT)) for page in PAGES]


def _prose(page: Path) -> str:
    return CODE.sub("", page.read_text(encoding="utf-8"))


def _anchors(page: Path) -> set[str]:
    """Names of headings, as GitHub and MkDocs make them."""
    titles = re.findall(r"^#+ (.+)$", re.sub(r"(?ms)^```.*?^```", "", page.read_text("utf-8")), re.MULTILINE)
    return {re.sub(r"\s+", "-", re.sub(r"[^\w\s-]", "", title).strip().lower()) for title in titles}


@pytest.mark.parametrize("page", PAGES, ids=IDS)
def test_links_lead_somewhere(page: Path) -> None:
    broken = []
    for target in re.findall(r"\]\(([^)\s]+)\)", _prose(page)):
        if target.startswith(("http://", "https://", "mailto:")):
            continue
        name, _, anchor = target.partition("#")
        path = (page.parent / name).resolve() if name else page
        if not path.exists() or (anchor and anchor not in _anchors(path)):
            broken.append(target)
    assert broken == []


def test_the_readme_is_short() -> None:
    assert (ROOT / "README.md").read_text("utf-8").count("\n") <= 150


def test_every_page_is_in_the_navigation() -> None:
    named = set(re.findall(r"(?m)^\s+- (?:.*: )?([\w/]+\.md)$", (ROOT / "mkdocs.yml").read_text("utf-8")))
    assert named == {str(page.relative_to(DOCS)) for page in PAGES if page.is_relative_to(DOCS)}


def test_every_error_has_its_entry() -> None:
    classes = {name for name, thing in vars(errors).items() if inspect.isclass(thing) and issubclass(thing, Exception)}
    assert classes <= set(re.findall(r"^## (\w+)$", TROUBLES, re.MULTILINE))


def test_messages_are_those_of_the_package() -> None:
    """Between what differs each time they stand word for word in the source."""
    written = "\n".join(_strings(path) for path in sorted((ROOT / "biorerank_plugins").rglob("*.py")))
    messages = re.findall(r"^\| `([^`]+ [^`]+)`", TROUBLES.split("## No error")[0], re.MULTILINE)
    pieces = [piece.strip() for message in messages for piece in message.split("…") if len(piece.strip()) > 8]
    assert len(pieces) > 20
    assert [piece for piece in pieces if piece not in written] == []


def _strings(path: Path) -> str:
    """The strings of a module; Python has put those together that stand one after another."""
    return "\n".join(
        node.value
        for node in ast.walk(ast.parse(path.read_text("utf-8")))
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    )


# Promises


def _rows() -> list[list[str]]:
    lines = re.findall(r"^\| (.+) \|$", PROMISES, re.MULTILINE)
    return [cells for line in lines if len(cells := line.split(" | ")) == 3]


def test_promises_name_tests_that_exist() -> None:
    rows = [row for row in _rows() if "`tests/" in row[2]]
    assert len(rows) > 30
    missing = []
    for _, _, tests in rows:
        for name in re.findall(r"`(tests/[^`]+)`", tests):
            path, _, function = name.partition("::")
            if not (ROOT / path).exists() or (
                function and not re.search(rf"def {function}\b", (ROOT / path).read_text("utf-8"))
            ):
                missing.append(name)
    assert missing == []


def test_every_section_that_promises_has_a_row() -> None:
    """Each guide, each tutorial, the migration pages, the reference and what is promised for security."""
    linked = {
        (DOCS / "contributing" / target.split("#")[0]).resolve()
        for row in _rows()
        for target in re.findall(r"\]\(([^)]+)\)", row[1])
    }
    promising = [
        page for page in PAGES if page.parent.name in ("tutorials", "guides", "migration") and page.name != "index.md"
    ]
    promising += [ROOT / "README.md", DOCS / "explanation" / "security.md", DOCS / "explanation" / "measured.md"]
    assert [str(page.relative_to(ROOT)) for page in promising if page.resolve() not in linked] == []
