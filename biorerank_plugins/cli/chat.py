"""``biorerank ask`` without a question: one after another, from a terminal or from a pipe."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from biorerank_plugins.cli.one_line_errors import describe
from biorerank_plugins.cli.output import Output, one_line
from biorerank_plugins.cli.views import bar, headline, highlighted

if TYPE_CHECKING:
    from biorerank_plugins.passages import Ranking

HELP = (
    "A question in English, as “Do statins cause muscle pain?”, is answered from the index.\n"
    ":show N     the whole passage that stands at place N of the last ranking, with its evidence\n"
    ":ranking    what was found for the last question\n"
    ":history    the questions of this session\n"
    ":help       this text\n"
    ":quit       end (or Ctrl-D)"
)
_KEPT = 1000  # questions in a history file


def chat(output: Output, answer: Callable[[str], Ranking | None], *, history: Path | None) -> None:
    """Answer questions until there are no more; what one raises is shown in a line, and the next is asked for.

    ``answer`` shows an answer and returns the ranking behind it; the file ``history`` keeps questions over sessions.
    """
    session = _Session(output, answer)
    interactive = sys.stdin.isatty()
    if interactive:
        output.note("Ask a question; :help shows what else there is, Ctrl-D ends.")
    with _line_editing(history if interactive else None):
        for line in _typed() if interactive else _piped():
            if line.strip() == ":quit":
                return
            session.take(line.strip())


class _Session:
    def __init__(self, output: Output, answer: Callable[[str], Ranking | None]) -> None:
        self.output = output
        self.answer = answer
        self.asked: list[str] = []
        self.last: Ranking | None = None

    def take(self, line: str) -> None:
        if line.startswith(":"):
            self.command(line)
        elif not line:
            self.output.note("Type a question, such as: Do statins cause muscle pain?")
        else:
            self.ask(line)

    def ask(self, question: str) -> None:
        self.asked.append(question)
        try:
            self.last = self.answer(question)
        except KeyboardInterrupt:
            self.output.warn("Stopped. Ask again, or end with Ctrl-D.")
        except (BrokenPipeError, MemoryError):
            raise
        except Exception as error:
            message = describe(error)
            self.output.document({"query": question, "error": message}, indent=None)
            self.output.warn(f"This question could not be answered: {message}")

    def command(self, line: str) -> None:
        name, _, argument = line.partition(" ")
        told: dict[str, Callable[[], Iterable[str]]]
        told = {":help": HELP.splitlines, ":history": self._history, ":ranking": self._ranking}
        if self.output.json:
            self.output.warn(f"{name} is for reading on a terminal; with --json only questions are taken.")
        elif name == ":show":
            self._show(argument.strip())
        elif name in told:
            for line in told[name]():
                self.output.line(line)
        else:
            self.output.note(f"There is no {name}. :help shows what there is.")

    def _history(self) -> Iterator[str]:
        yield from (f"{n}. {one_line(asked)}" for n, asked in enumerate(self.asked, start=1))

    def _ranking(self) -> Iterator[str]:
        for ranked in self.last or ():
            yield f"{ranked.rank}. {bar(ranked.probability)}  {headline(ranked.passage)[:90]}"
        if not self.last:
            yield "Nothing was found yet."

    def _show(self, place: str) -> None:
        found = {str(ranked.rank): ranked for ranked in self.last or ()}
        if place not in found:
            places = f"1 to {len(found)}" if found else "a question first"
            self.output.note(f":show needs the place of a passage: {places}.")
            return
        ranked = found[place]
        console = self.output.console()
        console.print(one_line(ranked.passage.title or ranked.passage.id), style="bold", markup=False)
        console.print(highlighted(ranked.passage, ranked.evidence, whole=True))


def _typed() -> Iterator[str]:
    while True:
        try:
            yield input("\n? ")
        except (EOFError, KeyboardInterrupt):
            sys.stdout.write("\n")
            return


def _piped() -> Iterator[str]:
    if hasattr(sys.stdin, "reconfigure"):
        sys.stdin.reconfigure(errors="replace")  # one broken letter must not end the session
    yield from sys.stdin


@contextmanager
def _line_editing(history: Path | None) -> Iterator[None]:
    """Give ``input`` arrow keys and a history, where the system has readline."""
    try:
        import readline
    except ImportError:  # Windows
        history = None
    if history is None:
        yield
        return
    with suppress(FileNotFoundError):
        readline.read_history_file(history)
    readline.set_history_length(_KEPT)
    try:
        yield
    finally:
        history.touch(mode=0o600)  # questions about health are nobody else's business
        os.chmod(history, 0o600)
        readline.write_history_file(history)
