"""From what a user names as ``model`` to a scorer."""

from __future__ import annotations

import copy
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeGuard

import torch

from biorerank_plugins import models
from biorerank_plugins.errors import ModelError
from biorerank_plugins.models.folders import cache_only, resolve_folder
from biorerank_plugins.runtime.plain_folder import is_plain, load_plain, quiet_loading
from biorerank_plugins.runtime.text_ids import UnsupportedTokenizerError
from biorerank_plugins.scoring.backends import Place, scorer_for, token_scorer, where_to_compute
from biorerank_plugins.scoring.cross_encoder import PairScorerAdapter
from biorerank_plugins.scoring.scores import PairScorer

if TYPE_CHECKING:
    from sentence_transformers import CrossEncoder

    from biorerank_plugins.scoring.load_options import LoadOptions
    from biorerank_plugins.scoring.scores import Scorer


def load_scorer(options: LoadOptions) -> Scorer:
    """Load what ``options.model`` names.

    :raises ModelError: if the model cannot be found or loaded, or has more than one label.
    :raises ValueError: if an option is impossible.
    :raises TypeError: if the model is of another type.
    """
    model, backend = options.model, options.backend
    if _is_cross_encoder(model):
        own = model.model
        where = where_to_compute(backend, model.device if options.device is None else options.device, options.dtype)
        # What the caller chose for the object holds, unless something else is asked for here.
        as_it_is = options.dtype is None or options.dtype == "auto"
        place = Place(backend, where[0], (own.dtype if own is not None else None) if as_it_is else where[1])
        # A copy: what the caller gave stays as it is (mode, precision, device, maximal length), whatever we do. The
        # card of a model that was just trained holds the trainer, which cannot be copied.
        card = model.model_card_data
        loaded = copy.deepcopy(model, {id(card): card})
        name = str(getattr(card, "base_model", None) or getattr(own, "name_or_path", "") or "CrossEncoder")
    elif model is None or isinstance(model, (str, os.PathLike)):
        place = Place(backend, *where_to_compute(backend, options.device, options.dtype))
        folder = resolve_folder(models.DEFAULT_RERANKER if model is None else model)
        name = models.DEFAULT_RERANKER if model is None else os.fspath(model)
        if folder is not None and is_plain(folder):
            ourselves = models.is_embedded(folder) and backend in ("auto", "packed")
            with _explained(name, folder):
                plain = load_plain(folder, without_transformers=ourselves)
            _refuse_foreign_tokenizer(name, plain.network, plain.tokenizer)
            with suppress(UnsupportedTokenizerError):
                return token_scorer(name, plain, place, options)
        loaded = _load_cross_encoder(name, folder, place.device, options)
        _refuse_untrained_head(name, loaded)
        if loaded.model is not None:
            _refuse_foreign_tokenizer(name, loaded.model, loaded.tokenizer)
    elif isinstance(model, PairScorer) and not isinstance(model, type):
        where_to_compute(backend, options.device, options.dtype)  # refuses what is impossible, though it has no effect
        return PairScorerAdapter(model)
    else:
        raise TypeError(
            f"model must be a name, a folder, a CrossEncoder or an object with logits(query, texts); "
            f"got {type(model).__name__}."
        )
    if loaded.num_labels != 1:
        raise ModelError(
            f"{name} has {loaded.num_labels} labels; a reranker needs a model with one label, whose output is the "
            "relevance of the passage."
        )
    return scorer_for(name, loaded, place, options)


def _is_cross_encoder(model: object) -> TypeGuard[CrossEncoder]:
    # Whoever has such an object has imported its library, which takes seconds: not for a scorer of the user's own.
    library = sys.modules.get("sentence_transformers")
    return library is not None and isinstance(model, library.CrossEncoder)


def _load_cross_encoder(name: str, folder: Path | None, device: torch.device, options: LoadOptions) -> CrossEncoder:
    from sentence_transformers import CrossEncoder

    if folder is not None and any(folder.rglob("*.bin")) and not any(folder.rglob("*.safetensors")):
        raise ModelError(
            f"The folder {str(folder)!r} holds pickled weights only (*.bin), which can run code when they are loaded. "
            "Save the model again as safetensors."
        )
    with _explained(name, folder), quiet_loading():
        # A folder needs no network, and must not ask for one: hospitals have none.
        local = folder is not None or cache_only(
            name, revision=options.revision, token=options.token, local_files_only=options.local_files_only
        )
        loaded: CrossEncoder = CrossEncoder(
            str(folder or name),
            device=str(device),
            revision=options.revision,
            token=options.token,
            cache_folder=None if options.cache_folder is None else os.fspath(options.cache_folder),
            local_files_only=local,
            # transformers takes the precision that the weights are stored in unless it is told another.
            model_kwargs={"dtype": torch.float32, "use_safetensors": True},
        )
        return loaded


@contextmanager
def _explained(name: str, folder: Path | None) -> Iterator[None]:
    try:
        yield
    except Exception as error:  # the libraries below raise whatever they meet: OSError, ValueError, KeyError, …
        where = f"the folder {str(folder)!r}" if folder is not None else f"{name!r} from the hub"
        said = next(iter(str(error).strip().splitlines()), "no message")
        way_out = "" if folder is not None else " Without internet, give a folder or an embedded model."
        raise ModelError(
            f"Cannot load a cross-encoder from {where}: {type(error).__name__}: {said}{way_out} "
            f"Embedded models: {', '.join(models.names())}."
        ) from error


def _refuse_untrained_head(name: str, model: CrossEncoder) -> None:
    """Refuse an encoder: sentence-transformers would put a random head on it, and rank at random."""
    transformer: Any = model[0]
    architectures = getattr(transformer.config, "architectures", None) or []
    if (
        getattr(transformer, "transformer_task", None) == "sequence-classification"
        and architectures
        and not any(architecture.endswith("ForSequenceClassification") for architecture in architectures)
    ):
        raise ModelError(
            f"{name} is no cross-encoder but {' '.join(architectures)}, which has no trained classification head. "
            f"Give a cross-encoder, such as the embedded {models.DEFAULT_RERANKER!r}."
        )


def _refuse_foreign_tokenizer(name: str, network: Any, tokenizer: Any) -> None:
    """Refuse a tokenizer of another model here, and not with an index error at some passage."""
    words = getattr(getattr(network, "config", None), "vocab_size", None)
    # Tokens that were added later are not counted: some models come with names that their weights have no rows for.
    known = getattr(tokenizer, "vocab_size", None)
    if isinstance(words, int) and isinstance(known, int) and known > words:
        raise ModelError(
            f"The tokenizer of {name} has {known} tokens, and its model knows {words}: they do not belong together."
        )
