"""Models and indexes that options name; what is heavy is loaded only when it is used."""

from __future__ import annotations

import logging
import os
import shlex
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from biorerank_plugins.cli.one_line_errors import fail, usage_error
from biorerank_plugins.cli.option_groups import option

if TYPE_CHECKING:
    from biorerank_plugins.first_stage import BiEncoder, PassageIndex
    from biorerank_plugins.reranking.reranker import BioReranker
    from biorerank_plugins.scale.sharded import ShardedIndex

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


Model = Annotated[str | None, option("Reranker: embedded name, folder, or hub name.", "--model", "-m", metavar="MODEL")]
Encoder = Annotated[str | None, option("Bi-encoder: embedded name, folder, or hub name.", metavar="MODEL")]
Device = Annotated[str | None, option("cpu, cuda, cuda:1, mps, …", metavar="DEVICE")]


@dataclass(frozen=True)
class Models:
    """The models and the index of a command, in plain types: replicas of a server load them in other processes."""

    partial: Annotated[
        bool, option("Go on without parts of a sharded index that are lost; the answer names them.", "--partial")
    ] = False
    model: Model = None
    encoder: Encoder = None
    device: Device = None
    dtype: Annotated[str, option("auto, float32, bfloat16, float16; on a CPU also int8.", metavar="DTYPE")] = "auto"

    def reranker(self) -> BioReranker:
        """Return the reranker, not yet loaded."""
        quiet_libraries()
        from biorerank_plugins.reranking.reranker import BioReranker

        return BioReranker(self.model, device=self.device, dtype=self.dtype)

    def load_reranker(self) -> BioReranker:
        """Load the reranker now: a wrong name shows before any other work is done."""
        reranker = self.reranker()
        reranker.warm_up()
        return reranker

    def load_encoder(self) -> BiEncoder:
        """Load the bi-encoder."""
        quiet_libraries()
        from biorerank_plugins.first_stage import BiEncoder

        return BiEncoder(self.encoder, device=self.device, dtype=self.dtype)

    def open_index(self, folder: Path) -> PassageIndex | ShardedIndex:
        """Open an index with the encoder it was built with, or with the one named, which must be the same model."""
        from biorerank_plugins.first_stage import BiEncoder, PassageIndex
        from biorerank_plugins.first_stage.verification import is_index, open_version
        from biorerank_plugins.scale.shard_layout import is_sharded, read_layout
        from biorerank_plugins.scale.sharded import ShardedIndex

        check_index(folder)
        quiet_libraries()
        model: BiEncoder | None = None
        if self.encoder is not None:
            model = self.load_encoder()
        elif self.device is not None or self.dtype != "auto":
            folders = list(read_layout(folder).values()) if is_sharded(folder) else [folder]
            there = next((one for one in folders if is_index(one)), folders[0])  # the first shard may be lost
            config = open_version(there, "fast").manifest["encoder"]["config"]
            model = BiEncoder.from_config(config, device=self.device, dtype=self.dtype)
        if is_sharded(folder):
            return ShardedIndex.load(folder, encoder=model, on_lost="partial" if self.partial else "error")
        return PassageIndex.load(folder, encoder=model)

    def open_beside_reranker(self, folder: Path) -> PassageIndex | ShardedIndex:
        """Open an index where ``--dtype`` says how a reranker computes too: questions are not embedded in int8."""
        return replace(self, dtype="auto" if self.dtype == "int8" else self.dtype).open_index(folder)


BothModels = Annotated[Models, "model", "encoder", "device", "dtype"]
EncoderOnly = Annotated[Models, "encoder", "device", "dtype"]
RerankerOnly = Annotated[Models, "model", "device", "dtype"]


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
