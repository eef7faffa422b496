"""Does it work: a reranker ranks three passages, an index is opened and searched."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

_QUESTION = "Which drug reverses dabigatran?"
_TEXTS = ("Heparin is given by injection.", "Idarucizumab reverses dabigatran.", "Warfarin was found in clover.")


@contextmanager
def _told(name: str) -> Iterator[list[str]]:
    """Collect what a logger says, whatever the caller has set up."""
    messages: list[str] = []

    class _Handler(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            messages.append(record.getMessage())

    logger, handler = logging.getLogger(name), _Handler()
    level = logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    try:
        yield messages
    finally:
        logger.removeHandler(handler)
        logger.setLevel(level)


def try_reranker(model: str | None, problems: list[str]) -> dict[str, Any]:
    """Load a reranker, and rank three passages of which one is the answer.

    :param model: as ``BioReranker`` takes it.
    :param problems: where what is wrong is added.
    """
    from biorerank_plugins.reranking.reranker import BioReranker

    start = time.perf_counter()
    with _told("biorerank_plugins.scoring.backends") as said, BioReranker(model) as reranker:
        reranker.warm_up()
        loaded = time.perf_counter()
        ranking = reranker.rank(_QUESTION, list(_TEXTS))
        seconds = time.perf_counter() - loaded
        told: dict[str, Any] = {
            "model": reranker.model_name,
            "runs": said[0] if said else "-",
            "loaded in": f"{loaded - start:.2f} s",
            "three passages in": f"{1000 * seconds:.0f} ms",
            "best of three": ranking[0].passage.text,
        }
    if ranking[0].input_index != 1:
        problems.append(
            f"{told['model']} puts {ranking[0].passage.text!r} first for {_QUESTION!r}: it is no good reranker, or "
            "this machine computes wrongly."
        )
    return told


def check_index(folder: Path, problems: list[str]) -> dict[str, Any]:
    """Check every file of an index, open it and search it.

    :param folder: the index.
    :param problems: where what is wrong is added.
    """
    from biorerank_plugins.first_stage.verification import is_index, open_version
    from biorerank_plugins.scale.shard_layout import is_sharded, read_layout
    from biorerank_plugins.scale.sharded import open_index

    shards = [folder / name for name in read_layout(folder)] if is_sharded(folder) else [folder]
    versions = [open_version(shard, "full") for shard in shards if shard == folder or is_index(shard)]
    with open_index(folder) as index:
        index.search("Is it there?", 1)
        told = {
            "passages": len(index),
            "format": versions[0].manifest.get("format_version", versions[0].manifest.get("format")),
            "factory": index.factory,
            "encoder": index.encoder.model_id,
            "lexical part": index.lexical,
        }
    return told | ({"shards": len(shards)} if is_sharded(folder) else {})
