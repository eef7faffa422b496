"""What ``biorerank index`` refuses before anything is read or loaded."""

from __future__ import annotations

from pathlib import Path

from biorerank_plugins.cli.index_scale import EngineName
from biorerank_plugins.cli.inputs import STDIN
from biorerank_plugins.cli.one_line_errors import fail, usage_error


def check_shards(**given: bool) -> None:
    """Refuse what belongs to one index only."""
    if any(given.values()):
        usage_error(
            "--shards builds a new index: it takes no --add, --update, --overwrite or --lists-on-disk. "
            "Bring a sharded index up to date without it: biorerank index FILES --out FOLDER --update."
        )


def check_target(out: Path, *, add: bool, update: bool, overwrite: bool) -> None:
    """Refuse a folder that holds what the command would not replace, or lacks what it would add to."""
    from biorerank_plugins.first_stage.verification import is_index
    from biorerank_plugins.scale.shard_layout import is_sharded

    if add + update + overwrite > 1:
        usage_error("--add, --update and --overwrite exclude each other.")
    if is_sharded(out):
        if update:
            return
        fail(
            f"{out} holds a sharded index. --update changes it: what is new is added, newer versions replace. For "
            "another one take another folder: biorerank index FILES --shards N --out OTHER."
        )
    if (add or update) and not is_index(out):
        what, option = ("add to", "--add") if add else ("update", "--update")
        fail(f"There is no passage index in {out} to {what}; leave {option} out to build one.")
    if not (add or update or overwrite) and is_index(out):
        fail(
            f"{out} holds an index already. Use --overwrite to replace it, --add to add to it, --update to bring it up "
            "to date."
        )


def refuse_with_add(factory: str | None, no_lexical: bool) -> None:
    """Say which option belongs to a new index only."""
    if factory is not None:
        usage_error("--factory belongs to a new index; --add and --update keep that of the index.")
    if no_lexical:
        usage_error("--no-lexical belongs to a new index; --add and --update keep what the index has.")


def check_engine(engine: EngineName, inputs: list[Path], *, lists_on_disk: bool, simple: bool) -> None:
    """Refuse what an engine does not do."""
    if engine is EngineName.PLAIN and lists_on_disk:
        usage_error("--lists-on-disk needs --engine ray.")
    if engine is EngineName.RAY and (not simple or STDIN in inputs):
        usage_error(
            "--engine ray builds a new index from files: it takes no --add, no --update, no stdin, no --format lines. "
            "Change the index that it built without --engine ray."
        )


def check_factory(factory: str | None) -> None:
    """Refuse a type of index that is not offered."""
    from biorerank_plugins.first_stage.factory import OFFERED, parse_factory

    try:
        parse_factory("Flat" if factory is None else factory)
    except ValueError:
        usage_error(f"--factory {factory!r} is not offered. Choose one of: {OFFERED}.")
