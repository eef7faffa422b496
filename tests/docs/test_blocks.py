"""Every block of README and documentation is run: a reader who copies one must get what the page shows.

The blocks of a page run in the order in which they stand, in one folder; Python blocks share their names. A block of
``text`` or ``console`` right after another one is what that one prints. A block that cannot run here says why in a
comment above it: ``<!-- not run: set-up -->``.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import socket
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support import ROOT
from support.page_run import printed_by, ready_shell
from support.pages import PAGES, RUN, Block, blocks_of, differences
from support.shell import Shell

REASONS = {
    "set-up": "installs packages; the slow test of this module does it where an environment is made",
    "data": "reads the evaluation data; the slow test of this module does it where they are",
    "internet": "fetches from a package index or a model hub",
    "minutes": "takes a minute or more; .ci/run does it, or a test of the command",
    "language model": "needs a language model's server",
    "Ray": "needs the extra ray, which starts servers of its own",
    "does not end": "a server or a chat, until it is stopped",
    "before": "shows what is replaced",
}
SHOWN = ("text", "console", "json", "toml", "yaml", "html")
IDS = [str(page.relative_to(ROOT)) for page in PAGES]


@pytest.fixture(scope="module")
def bash(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shell]:
    with ready_shell(tmp_path_factory.mktemp("commands")) as opened:
        yield opened


@pytest.fixture
def this_machine_only(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fail on any attempt to reach another machine."""
    connect = socket.socket.connect

    def checked(self: socket.socket, address: Any) -> None:
        if self.family != getattr(socket, "AF_UNIX", None) and address[0] not in ("127.0.0.1", "::1", "localhost"):
            raise AssertionError(f"A connection to {address} was attempted.")
        connect(self, address)

    monkeypatch.setattr(socket.socket, "connect", checked)


def _blocks(reason: str | None) -> list[tuple[str, Block]]:
    return [
        (name, block)
        for name, page in zip(IDS, PAGES, strict=True)
        for block in blocks_of(page)
        if block.reason == reason
    ]


@pytest.mark.parametrize("page", PAGES, ids=IDS)
def test_blocks_are_of_kinds_that_are_known(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    blocks = blocks_of(page)
    assert {block.language for block in blocks} <= {*RUN, *SHOWN}
    for block in blocks:
        assert block.reason is None or block.reason in REASONS, f"line {block.line}: {block.reason}"
        if block.language == "json":
            json.loads(block.code)
        elif block.language == "toml":
            tomllib.loads(block.code)
    # What the pattern of blocks does not see would not be run.
    fences = sum(2 + (block.output is not None) * 2 for block in blocks)
    assert len(re.findall(r"^\s*(?:```|~~~)", text, re.MULTILINE)) == fences
    assert text.count("<!-- not run") == sum(block.reason is not None for block in blocks)


@pytest.mark.parametrize("page", PAGES, ids=IDS)
def test_blocks_do_what_the_page_says(
    page: Path, bash: Shell, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, this_machine_only: None
) -> None:
    monkeypatch.chdir(tmp_path)
    for block, printed in printed_by(page, bash, tmp_path):
        found = None if block.output is None else differences(block.output, printed)
        assert found is None, f"{page.name}, line {block.line}\n{found}"


SET_UP = [(name, block) for name, block in _blocks("set-up") if "-m venv" in block.code]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("page", "block"), SET_UP, ids=lambda value: value if isinstance(value, str) else str(value.line)
)
def test_set_up(page: str, block: Block, tmp_path: Path, bash: Shell) -> None:
    """The commands as a reader types them, in a copy of the checkout."""
    checkout = tmp_path / "checkout"
    shutil.copytree(ROOT, checkout, ignore=shutil.ignore_patterns(".git", ".venv", "build", "dist", "site", ".*_cache"))
    bash.run(block.code, checkout)


@pytest.mark.slow
@pytest.mark.data
@pytest.mark.parametrize(
    ("page", "block"), _blocks("data"), ids=lambda value: value if isinstance(value, str) else str(value.line)
)
def test_block_on_data(page: str, block: Block, tmp_path: Path, bash: Shell, data_dir: Path) -> None:
    bash.run(block.code, tmp_path, BIORERANK_DATA=str(data_dir))


def test_constraints_pin_the_torch_that_is_tested() -> None:
    import torch

    pinned = re.search(r"^torch==(\S+)$", (ROOT / "constraints.txt").read_text(), re.MULTILINE)
    assert pinned is not None and "+" not in pinned.group(1)
    if "CI" in os.environ:
        assert torch.__version__.split("+")[0] == pinned.group(1)
