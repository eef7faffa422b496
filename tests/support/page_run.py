"""Run the blocks of pages, in tests and to write anew what they print: ``python -m support.page_run PAGE …``."""

from __future__ import annotations

import contextlib
import io
import os
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from support.pages import RUN, Block, blocks_of, differences
from support.shell import Shell, shell

__all__ = ["printed_by", "ready_shell"]


@contextlib.contextmanager
def ready_shell(folder: Path) -> Iterator[Shell]:
    """Give a shell whose command has the embedded model loaded.

    :param folder: an empty one, for commands.
    """
    from biorerank_plugins import BioReranker

    # All that name the same model share its weights as long as one of them is there.
    with BioReranker() as kept, shell(folder) as opened:
        kept.warm_up()
        yield opened


def printed_by(page: Path, bash: Shell, folder: Path) -> Iterator[tuple[Block, str]]:
    """Run the blocks of a page that run, in order; yield each with what it printed.

    :param page: the page.
    :param bash: runs the shell blocks.
    :param folder: an empty one, which is the current folder.
    """
    bash.prepare(folder)
    names: dict[str, Any] = {"__name__": "__main__"}
    for block in blocks_of(page):
        if block.language in RUN and block.reason is None:
            yield block, _python(block, page, names) if block.language == "python" else bash.run(block.code, folder)


def _python(block: Block, page: Path, names: dict[str, Any]) -> str:
    printed = io.StringIO()
    lines = "\n" * block.line + block.code  # so that a traceback names the line of the page
    with contextlib.redirect_stdout(printed):
        exec(compile(lines, str(page), "exec", dont_inherit=True), names)
    return printed.getvalue()


def _write_anew(page: Path, bash: Shell) -> None:
    """Put what blocks print in the place of what the page shows, where they differ."""
    text = page.read_text(encoding="utf-8")
    with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
        for block, printed in printed_by(page, bash, Path(folder)):
            if block.output is not None and differences(block.output, printed) is not None:
                before, code, after = text.partition(f"{block.code}```\n")
                text = before + code + after.replace(block.output, f"{printed.rstrip()}\n", 1)
    page.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    given = [Path(name).resolve() for name in sys.argv[1:]]
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    with tempfile.TemporaryDirectory() as commands, ready_shell(Path(commands)) as opened:
        for one in given:
            _write_anew(one, opened)
