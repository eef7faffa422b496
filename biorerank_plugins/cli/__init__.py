"""The command ``biorerank``: one thin file a command.

Only the standard library, typer and rich are imported here; models, FAISS and torch load inside the commands.
"""

from __future__ import annotations

import os
import sys
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from biorerank_plugins._common.versions import VERSION
from biorerank_plugins.cli.ask import ask
from biorerank_plugins.cli.bench import bench
from biorerank_plugins.cli.calibrate import calibrate
from biorerank_plugins.cli.demo import demo
from biorerank_plugins.cli.doctor import doctor
from biorerank_plugins.cli.evaluate import evaluate
from biorerank_plugins.cli.index import index
from biorerank_plugins.cli.mcp import mcp
from biorerank_plugins.cli.output import one_line
from biorerank_plugins.cli.pairs import pairs
from biorerank_plugins.cli.rerank import rerank
from biorerank_plugins.cli.search import search
from biorerank_plugins.cli.serve import serve
from biorerank_plugins.cli.train import train

__all__ = ["app", "main"]


class _Commands(TyperGroup):
    """Commands whose usage errors are one line, as all other errors are, and whose list cuts no description off."""

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        """Write the list of commands."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, one.get_short_help_str(limit=1000)) for name, one in self.commands.items()])

    def main(self, *args: Any, **options: Any) -> Any:
        """Run a command; exit with its code."""
        if options.get("standalone_mode") is False:
            return super().main(*args, **options)
        try:
            code = super().main(*args, **{**options, "standalone_mode": False})
        except BrokenPipeError:  # the reader of our output has gone (| head): Python shall shut down quietly
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            code = 1
        except Exception as error:
            # typer's usage errors, wherever its version keeps their base class
            if not hasattr(error, "format_message"):
                raise
            context = getattr(error, "ctx", None)
            path = context.command_path if context is not None else "biorerank"
            message = one_line(error.format_message()).rstrip(".")
            typer.echo(f"Error: {message}. See '{path} --help'.", err=True)
            code = getattr(error, "exit_code", 2)
        sys.exit(code if isinstance(code, int) else 0)


# Plain help, since Rich's tables cut the names of options off where a terminal is narrow.
app = typer.Typer(
    name="biorerank",
    cls=_Commands,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

_FIRST_STEPS = """\
Rank biomedical evidence. Start here:

  biorerank demo                              both stages at work, offline
  biorerank index my-files --out my-index     an index of your passages
  biorerank search my-index "a question"      the passages that answer it
  biorerank ask my-index "a question"         an answer with its sources
  biorerank doctor                            whether everything is in order here

All commands: biorerank --help. One of them: biorerank search --help.
Completion for your shell: biorerank --install-completion"""


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"biorerank-plugins {VERSION}")
        raise typer.Exit


@app.callback(invoke_without_command=True)
def biorerank(
    context: typer.Context,
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Rank biomedical evidence: find passages with a bi-encoder, rerank them with a cross-encoder.

    Start here: biorerank demo
    """
    if context.invoked_subcommand is None:
        typer.echo(_FIRST_STEPS, err=True)
        raise typer.Exit(2)


for _command in (demo, index, search, rerank, ask, evaluate, pairs, train, calibrate, bench, serve, mcp, doctor):
    app.command()(_command)


def main() -> None:
    """Run the command line; the entry point ``biorerank``."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")  # an old terminal shows ? for ↑, rather than an error
    app(prog_name="biorerank")
