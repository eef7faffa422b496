"""Cross-encoder folders that transformers alone can run: importing sentence-transformers takes seconds, we spare them.

A folder is plain if everything that sentence-transformers would read from it says "one sequence-classification model,
no prompts, a known activation". The embedded models, whose files we know, do not even need transformers.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

_ACTIVATIONS = {"torch.nn.modules.activation.Sigmoid": "Sigmoid", "torch.nn.modules.linear.Identity": "Identity"}
_TRANSFORMER = {
    "transformer_task": "sequence-classification",
    "modality_config": {"text": {"method": "forward", "method_output_name": "logits"}},
    "module_output_name": "scores",
}
_KNOWN = {"__version__", "activation_fn", "default_prompt_name", "model_type", "prompts"}


class PlainCrossEncoder(NamedTuple):
    """What is needed to score pairs: a model with one label, its tokenizer, and its activation, a torch module."""

    network: Any
    tokenizer: Any
    activation: Any


def is_plain(folder: Path) -> bool:
    """Return whether transformers alone gives what ``CrossEncoder`` would for this folder."""
    names = ("config", "modules", "config_sentence_transformers", "sentence_bert_config")
    config, modules, about, transformer = (_read(folder / f"{name}.json") for name in names)
    if not all(isinstance(part, dict) for part in (config, about, transformer)) or not isinstance(modules, list):
        return False
    try:
        return (folder / "model.safetensors").is_file() and _says_plain(config, modules, about, transformer)
    except (AttributeError, TypeError):  # something is of another type: for CrossEncoder to complain about
        return False


def _says_plain(config: dict[str, Any], modules: list[Any], about: dict[str, Any], transformer: Any) -> bool:
    return (
        "auto_map" not in config
        and [str(name).endswith("ForSequenceClassification") for name in config.get("architectures") or ()] == [True]
        and len(config.get("id2label") or {0: 0, 1: 1}) == 1
        and len(modules) == 1
        and str(modules[0].get("type")).startswith("sentence_transformers.")
        and str(modules[0].get("type")).endswith(".Transformer")
        and not modules[0].get("path")
        and transformer == _TRANSFORMER
        and set(about) <= _KNOWN
        and about.get("model_type") == "CrossEncoder"
        and about.get("activation_fn") in _ACTIVATIONS
        and about.get("default_prompt_name") is None
        and not any((about.get("prompts") or {}).values())
    )


def load_plain(folder: Path, *, without_transformers: bool = False) -> PlainCrossEncoder:
    """Load a folder for which :func:`is_plain` holds.

    :param without_transformers: whether to read weights and tokenizer ourselves: of embedded models only.
    """
    import torch

    tokenizer: Any
    network: Any
    if without_transformers:
        from biorerank_plugins.runtime.packed.plain_bert import PlainTokenizer, load_bert

        tokenizer, network = PlainTokenizer(folder), load_bert(folder)
    else:
        from transformers import AutoModelForSequenceClassification, AutoTokenizer

        with quiet_loading():
            tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
            # transformers takes the precision that the weights are stored in unless it is told another.
            network = AutoModelForSequenceClassification.from_pretrained(
                folder, dtype=torch.float32, use_safetensors=True, local_files_only=True, trust_remote_code=False
            )
    activation = getattr(torch.nn, _ACTIVATIONS[_read(folder / "config_sentence_transformers.json")["activation_fn"]])
    return PlainCrossEncoder(network, tokenizer, activation())


@contextmanager
def quiet_loading() -> Iterator[None]:
    """Keep the progress bar of transformers, which loads within a second, out of the user's output."""
    from transformers.utils import logging

    library: Any = logging
    shown = library.is_progress_bar_enabled()
    library.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            library.enable_progress_bar()


def _read(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return None
