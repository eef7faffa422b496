"""Models and indexes that options name; what is heavy is loaded only when it is used."""

from __future__ import annotations

import logging
import os
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Any

from biorerank_plugins.cli.one_line_errors import fail, usage_error

if TYPE_CHECKING:
    from biorerank_plugins.first_stage import BiEncoder, PassageIndex
    from biorerank_plugins.reranking.reranker import BioReranker
    from biorerank_plugins.scale.sharded import ShardedIndex

__all__ = [
    "check_abstain",
    "check_index",
    "check_order",
    "load_encoder",
    "load_reranker",
    "open_index",
    "quiet_libraries",
]

_LOGGERS = {
    "huggingface_hub": "HF_HUB_VERBOSITY",
    "transformers": "TRANSFORMERS_VERBOSITY",
    "sentence_transformers": "TRANSFORMERS_VERBOSITY",
}


def quiet_libraries() -> None:
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
    quiet_libraries()
    from biorerank_plugins.reranking.reranker import BioReranker

    reranker = BioReranker(model, device=device, dtype=dtype)
    reranker.warm_up()
    return reranker


def load_encoder(model: str | None, device: str | None, dtype: str) -> BiEncoder:
    """Load the bi-encoder that the options name."""
    quiet_libraries()
    from biorerank_plugins.first_stage import BiEncoder

    return BiEncoder(model, device=device, dtype=dtype)


def check_index(folder: Path) -> None:
    """Refuse a folder without an index, before anything heavy is loaded."""
    if not _is_index(folder):
        where = shlex.quote(str(folder))
        fail(f"There is no passage index in {folder}. Build one: biorerank index FILES --out {where}")


def check_order(command: str, index: Path, question: str | None) -> None:
    """Refuse an index and a question that are in each other's place, or a question without an index."""
    if _is_index(index) or index.exists():
        return
    given = shlex.quote(str(index))
    if question is not None and question.strip() and _is_index(Path(question)):
        usage_error(f"The first argument is the index: biorerank {command} {shlex.quote(question)} {given}")
    if any(sign.isspace() or sign == "?" for sign in str(index)) and question is None:
        usage_error(f"The first argument is the index, the second the question: biorerank {command} INDEX {given}")


def _is_index(folder: Path) -> bool:
    from biorerank_plugins.first_stage.verification import is_index
    from biorerank_plugins.scale.shard_layout import is_sharded

    return is_index(folder) or is_sharded(folder)


def open_index(
    folder: Path, *, encoder: str | None, device: str | None, dtype: str, partial: bool = False
) -> PassageIndex | ShardedIndex:
    """Open a saved index with the encoder it was built with, or with the one named, which must be the same model."""
    from biorerank_plugins.first_stage import BiEncoder, PassageIndex
    from biorerank_plugins.scale.shard_layout import is_sharded
    from biorerank_plugins.scale.sharded import ShardedIndex

    check_index(folder)
    quiet_libraries()
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

    folders = list(read_layout(folder).values()) if is_sharded(folder) else [folder]
    there = next((one for one in folders if is_index(one)), folders[0])  # the first shard may be lost
    config: dict[str, Any] = open_version(there, "fast").manifest["encoder"]["config"]
    return config


def check_abstain(reranker: BioReranker, abstain: bool) -> None:
    """Refuse ``--abstain`` for a model that says nothing about when there is no evidence."""
    if abstain and reranker.calibration.evidence_threshold is None:
        fail(f"--abstain needs a threshold, and {reranker.model_name} stores none. Fit one: biorerank calibrate")
