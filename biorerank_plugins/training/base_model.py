"""The weights that training starts from, with a cased vocabulary read as one."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any

from biorerank_plugins.errors import ModelError
from biorerank_plugins.runtime.casing import lowers_cased_vocabulary

if TYPE_CHECKING:
    from sentence_transformers import CrossEncoder

logger = logging.getLogger(__name__)

__all__ = ["check_saved_casing", "load_base"]


def load_base(base: str | Path, *, device: str | None = None, local_files_only: bool | None = None) -> CrossEncoder:
    """Load an encoder or a cross-encoder as a cross-encoder with one label, in fp32.

    A tokenizer that lower-cases text although its vocabulary is cased is loaded again with ``do_lower_case=False``:
    ``dmis-lab/biobert-base-cased-v1.1`` has no tokenizer configuration, so it would never see a capital.

    :param base: name of an embedded model, folder, or hub name.
    :param device: ``"cpu"``, ``"cuda"``, …; ``None`` for CUDA where there is one, else the CPU.
    :param local_files_only: whether a hub model is taken from the cache only.
    :raises ModelError: if it cannot be loaded.
    """
    import torch
    from sentence_transformers import CrossEncoder

    from biorerank_plugins.models.folders import resolve_folder
    from biorerank_plugins.runtime.hub import cache_only

    folder = resolve_folder(base)
    chosen = device or ("cuda" if torch.cuda.is_available() else "cpu")
    offline = folder is not None or cache_only(str(base), revision=None, token=None, local_files_only=local_files_only)

    def load(**processor_kwargs: Any) -> CrossEncoder:
        model: CrossEncoder = CrossEncoder(
            str(base if folder is None else folder),
            num_labels=1,
            device=chosen,
            local_files_only=offline,
            # fp32 weights whatever the folder stores: transformers loads stored precision, fp16 weights do not train.
            # On a CPU the backward pass of eager attention is faster than that of torch's fused one.
            model_kwargs={"dtype": torch.float32, "attn_implementation": "sdpa" if "cuda" in chosen else "eager"},
            processor_kwargs=processor_kwargs or None,
        )
        return model

    try:
        model = load()
        if _lowers_cased_vocabulary(model.tokenizer):
            logger.info("The vocabulary of %s is cased: its tokenizer is loaded with do_lower_case=False.", base)
            model = load(do_lower_case=False)
    except (OSError, ValueError, RuntimeError) as error:
        reason = next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
        raise ModelError(
            f"The weights {str(base)!r} cannot be loaded as a cross-encoder with one label: {reason[:300]} "
            "Give a folder that holds them (base, --base) where the hub cannot be reached."
        ) from error
    if _lowers_cased_vocabulary(model.tokenizer):
        raise ModelError(f"The tokenizer of {base} lower-cases text whatever it is told, but its vocabulary is cased.")
    return model


def check_saved_casing(model: CrossEncoder, folder: Path) -> None:
    """Check that a saved folder reads text as the model in memory does.

    :param model: the model as it was saved.
    :param folder: where it was saved to.
    :raises ModelError: if a plain ``AutoTokenizer`` of the folder gives other tokens for text with capitals.
    """
    from transformers import AutoTokenizer

    text = "EGFR and p53 in Homo sapiens"
    saved = AutoTokenizer.from_pretrained(str(folder), local_files_only=True)
    if saved(text)["input_ids"] != model.tokenizer(text)["input_ids"]:
        raise ModelError(f"{folder} was saved with a tokenizer that reads text differently from the one trained with.")


def _lowers_cased_vocabulary(tokenizer: Any) -> bool:
    backend = getattr(tokenizer, "backend_tokenizer", None)  # only fast tokenizers have one
    return backend is not None and lowers_cased_vocabulary(backend)
