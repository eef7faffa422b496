"""What the site makes of docstrings, files and links; that it builds is seen in .ci/run."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from support import ROOT

pytest.importorskip("griffe")
hooks = pytest.importorskip("mkdocs_hooks")


def _page(name: str, text: str) -> str:
    page = SimpleNamespace(file=SimpleNamespace(abs_src_path=str(ROOT / "docs" / name), src_uri=name))
    return hooks.on_page_markdown(text, page=page, config=SimpleNamespace(docs_dir=str(ROOT / "docs")))


@pytest.mark.parametrize(
    ("docstring", "markdown"),
    [
        ("See :class:`~a.b.Thing` and :meth:`rank`.", "See `Thing` and `rank`."),
        ("Example::\n\n    x = 1", "Example:\n\n    x = 1"),
        (">>> 1 + 1\n2", "```pycon\n>>> 1 + 1\n2\n```"),
        (
            "====  ====\nhead  what\n====  ====\n``a``  one\n      and on\nb     two\n====  ====",
            "| head | what |\n| --- | --- |\n| `a` | one and on |\n| b | two |",
        ),
        ("====  ====\na     one\nb     two\n====  ====", "|  |  |\n| --- | --- |\n| a | one |\n| b | two |"),
    ],
)
def test_docstrings_become_markdown(docstring: str, markdown: str) -> None:
    assert hooks.as_markdown(docstring) == markdown


def test_a_file_is_taken_in_below_the_title_without_what_hubs_read() -> None:
    text = _page("x.md", "# Title\n\n<!-- include: biorerank_plugins/models/biorerank-minilm-l6/README.md -->\n")
    assert "\n## biorerank-minilm-l6" in text and "license: apache-2.0" not in text
    assert _page("x.md", "<!-- include: CHANGELOG.md -->\n").startswith("# Changelog")


def test_links_that_leave_the_site_become_their_text() -> None:
    text = "[a](../benchmarks/README.md) [b](guides/index.md) [c](https://x.org) ![d](pictures/web_app.png)"
    assert _page("x.md", text) == "a [b](guides/index.md) [c](https://x.org) ![d](pictures/web_app.png)"


def test_the_help_of_every_command_is_there() -> None:
    text = _page("reference/command_line.md", "# Command line\n")
    assert text.count("\n## `biorerank ") >= 12 and "--evidence" in text
