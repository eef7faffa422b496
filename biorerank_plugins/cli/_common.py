"""What every command shares: options, one-line errors, and loading what is heavy only when it is used."""

from __future__ import annotations

import functools
import inspect
import logging
import math
import os
import re
import sys
import traceback
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn, ParamSpec

import typer

from biorerank_plugins.cli.output import one_line
from biorerank_plugins.errors import BioRerankError

if TYPE_CHECKING:
    from biorerank_plugins.first_stage import BiEncoder, SearchableIndex
    from biorerank_plugins.reranking.reranker import BioReranker


def path(text: str) -> Path:
    """Read a path; an empty one, as of a shell variable that is not set, would be the current folder."""
    if not text.strip():
        raise typer.BadParameter("the path is empty; give a file or a folder.")
    return Path(text)


def _finite(value: float | None) -> float | None:
    if value is not None and not math.isfinite(value):
        raise typer.BadParameter(f"{value} is no finite number.")
    return value


Json = Annotated[bool, typer.Option("--json", help="Print JSON on stdout, and nothing else there.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="No notes and no progress bars.")]
Debug = Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")]
Model = Annotated[
    str | None,
    typer.Option("--model", "-m", metavar="MODEL", help="Reranker: embedded name, folder, or hub name."),
]
Encoder = Annotated[
    str | None,
    typer.Option("--encoder", metavar="MODEL", help="Bi-encoder: embedded name, folder, or hub name."),
]
Device = Annotated[str | None, typer.Option("--device", metavar="DEVICE", help="cpu, cuda, cuda:1, mps, …")]
Dtype = Annotated[
    str, typer.Option("--dtype", metavar="DTYPE", help="auto, float32, bfloat16, float16; for a reranker also int8.")
]
Partial = Annotated[
    bool, typer.Option("--partial", help="Go on without parts of a sharded index that are lost; the answer names them.")
]
Candidates = Annotated[int, typer.Option("--candidates", "-c", min=1, help="Passages handed to the reranker.")]
Fusion = Annotated[
    float | None,
    typer.Option(
        "--fusion",
        min=0,
        callback=_finite,
        help="Weight of the first stage's score in the order; as stored with the model.",
    ),
]
MinScore = Annotated[
    float | None, typer.Option("--min-score", callback=_finite, help="Leave out passages that score lower.")
]
MinProbability = Annotated[
    float | None,
    typer.Option("--min-probability", min=0.0, max=1.0, help="Leave out passages that are less probably relevant."),
]
EvidenceSentences = Annotated[
    int, typer.Option("--evidence", "-e", min=0, help="Show the best sentences of each passage instead of its text.")
]
Abstain = Annotated[
    bool,
    typer.Option("--abstain", help="Show nothing, and exit with 3, where no passage reaches the stored threshold."),
]
NO_EVIDENCE = 3
"""Exit code of ``--abstain``."""

_MESSAGE_LIMIT = 600  # one line stays readable; --debug shows everything
# How the library's messages name arguments that are options here: on_duplicate='skip'.
_ARGUMENT = re.compile(r"(?<![\w/.])(on_duplicate|factory|device|dtype)='([^'\s]*)'")
_LOGGERS = {
    "huggingface_hub": "HF_HUB_VERBOSITY",
    "transformers": "TRANSFORMERS_VERBOSITY",
    "sentence_transformers": "TRANSFORMERS_VERBOSITY",
}

P = ParamSpec("P")


def command(function: Callable[P, None]) -> Callable[P, None]:
    """Turn every error of a command into one line on stderr and an exit code.

    0 is success, 1 an error while running, 2 wrong usage, 3 no evidence (--abstain), 130 Ctrl-C.
    """
    options = frozenset(inspect.signature(function).parameters)

    @functools.wraps(function)
    def guarded(*args: P.args, **kwargs: P.kwargs) -> None:
        with _one_line_errors(options, debug=bool(kwargs.get("debug"))):
            function(*args, **kwargs)
            sys.stdout.flush()  # a reader that went away is noticed here, not while Python shuts down

    # Help is wrapped to the terminal: the line ends of the source must not stay in it.
    paragraphs = (inspect.getdoc(function) or "").split("\n\n")
    guarded.__doc__ = "\n\n".join(" ".join(paragraph.split()) for paragraph in paragraphs)
    return guarded


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
    """Say in one line what went wrong, and what to do in terms of options.

    What this package raised on purpose, and what the operating system says about a file, speaks for itself. Anything
    else is named with its type, since its message alone may say nothing (``KeyError: 3``).

    :param options: names of the parameters of the command.
    """
    if isinstance(error, OSError) and not isinstance(error, BioRerankError) and error.strerror:
        message = f"{error.filename}: {error.strerror}" if error.filename is not None else error.strerror
    else:
        message = _in_options(" ".join(str(error).split()), options)
    if "format" in options and _is_unknown_format(error):
        message = f"{message} Use --format."
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


def _is_unknown_format(error: Exception) -> bool:
    from biorerank_plugins.readers.detect import UnknownFormatError

    return isinstance(error, UnknownFormatError)


def _raised_here(error: Exception) -> bool:
    """Whether the error is a ``ValueError`` or ``TypeError`` that this package raised about an argument."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    module = "" if trace is None else str(trace.tb_frame.f_globals.get("__name__", ""))
    return isinstance(error, (ValueError, TypeError)) and module.startswith("biorerank_plugins")


def _quiet_libraries() -> None:
    """Keep the libraries' notices about loading weights out of the terminal; bars of downloads stay."""
    chosen = {name for name, variable in _LOGGERS.items() if os.environ.get(variable)}
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    from huggingface_hub.utils.tqdm import enable_progress_bars
    from transformers.utils.logging import disable_progress_bar

    disable_progress_bar()  # type: ignore[no-untyped-call]  # also switches off those of the hub
    if not os.environ.get("HF_HUB_DISABLE_PROGRESS_BARS"):
        enable_progress_bars()
    # After the imports, which set levels of their own; a level that the user has chosen stays.
    for name in _LOGGERS.keys() - chosen:
        logging.getLogger(name).setLevel(logging.ERROR)


def load_reranker(model: str | None, device: str | None, dtype: str) -> BioReranker:
    """Load the reranker that the options name, now: a wrong name shows before any other work is done."""
    _quiet_libraries()
    from biorerank_plugins.reranking.reranker import BioReranker

    reranker = BioReranker(model, device=device, dtype=dtype)
    reranker.warm_up()
    return reranker


def load_encoder(model: str | None, device: str | None, dtype: str) -> BiEncoder:
    """Load the bi-encoder that the options name."""
    _quiet_libraries()
    from biorerank_plugins.first_stage import BiEncoder

    return BiEncoder(model, device=device, dtype=dtype)


def check_index(folder: Path) -> None:
    """Refuse a folder without an index, before anything heavy is loaded."""
    from biorerank_plugins.first_stage.verification import is_index
    from biorerank_plugins.scale.shard_layout import is_sharded

    if not is_index(folder) and not is_sharded(folder):
        fail(f"There is no passage index in {folder}. Build one: biorerank index FILES --out {folder}")


def open_index(
    folder: Path, *, encoder: str | None, device: str | None, dtype: str, partial: bool = False
) -> SearchableIndex:
    """Open a saved index with the encoder it was built with, or with the one named, which must be the same model."""
    from biorerank_plugins.first_stage import BiEncoder, PassageIndex
    from biorerank_plugins.scale.shard_layout import is_sharded
    from biorerank_plugins.scale.sharded import ShardedIndex

    check_index(folder)
    _quiet_libraries()
    model: BiEncoder | None = None
    if encoder is not None:
        model = BiEncoder(encoder, device=device, dtype=dtype)
    elif device is not None or dtype != "auto":
        model = BiEncoder.from_config(_encoder_config(folder), device=device, dtype=dtype)
    if is_sharded(folder):
        return ShardedIndex.load(folder, encoder=model, on_lost="partial" if partial else "error")
    return PassageIndex.load(folder, encoder=model)


def _encoder_config(folder: Path) -> dict[str, Any]:
    from biorerank_plugins.first_stage.verification import is_index, open_version
    from biorerank_plugins.scale.shard_layout import is_sharded, read_layout

    folders = [folder / name for name in read_layout(folder)] if is_sharded(folder) else [folder]
    there = next((one for one in folders if is_index(one)), folders[0])  # the first shard may be lost
    config: dict[str, Any] = open_version(there, "fast").manifest["encoder"]["config"]
    return config


def check_abstain(reranker: BioReranker, abstain: bool) -> None:
    """Refuse ``--abstain`` for a model that says nothing about when there is no evidence."""
    if abstain and reranker.calibration.evidence_threshold is None:
        fail(f"--abstain needs a threshold, and {reranker.model_name} stores none. Fit one: biorerank calibrate")


def check_question(text: str, name: str = "QUERY") -> str:
    """Return the question without surrounding white space; a blank one is wrong usage."""
    if not text.strip():
        usage_error(f"{name} is empty; give a question in quotes.")
    return text.strip()
