"""BiEncoder: queries and passages as vectors of one space."""

from __future__ import annotations

import hashlib
import logging
import os
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, get_args

from biorerank_plugins import models
from biorerank_plugins._common.checks import string
from biorerank_plugins.errors import ModelError
from biorerank_plugins.first_stage.arguments import check_length, refuse_string
from biorerank_plugins.first_stage.model_folder import POOLINGS, EncoderSettings, find_model_folder, read_settings
from biorerank_plugins.models.folders import portable_name
from biorerank_plugins.passages import Passage
from biorerank_plugins.text.templates import passage_text, wellformed

if TYPE_CHECKING:
    import torch

    from biorerank_plugins.first_stage.embedding_model import EmbeddingModel, TextInput, Tokens
    from biorerank_plugins.first_stage.sentence_transformer_model import SentenceTransformerModel
    from biorerank_plugins.first_stage.vectors import FloatArray

    _Model: TypeAlias = EmbeddingModel | SentenceTransformerModel

logger = logging.getLogger(__name__)

TitleUse = Literal["join", "pair", "omit"]


class BiEncoder:
    """Embeds queries and passages; the inner product of two vectors says how well they fit.

    A folder made by sentence-transformers says by itself how it pools, normalises, cuts and prompts. A plain
    transformers folder does not: mean pooling without normalisation, unless told otherwise. MedCPT is used as::

        BiEncoder("ncbi/MedCPT-Article-Encoder", query_model="ncbi/MedCPT-Query-Encoder",
                  pooling="cls", title="pair", query_max_length=64)

    Safe to share between threads.

    :param model: passage encoder: name of an embedded model, folder, or hub name; ``None`` for the embedded default.
    :param query_model: query encoder, if it is another one.
    :param device: see :func:`~biorerank_plugins.runtime.devices.resolve_device`.
    :param dtype: precision; ``"auto"`` is bf16 on a CPU that has it, fp16 on CUDA, else fp32. ``"int8"`` is a little
        faster for passages with AVX2 alone, with vectors a little off. Vectors are fp32 always.
    :param pooling: ``"mean"``, ``"cls"``, ``"max"`` or ``"lasttoken"``; ``None`` for what the folder says.
    :param normalize: whether vectors are brought to length 1, so that scores are cosines; ``None`` for what the
        folder says.
    :param query_prefix: text put before every query; ``None`` for the prompt that the folder stores, if any.
    :param passage_prefix: text put before every passage, in the same way.
    :param max_length: tokens read of a passage; ``None`` for what the folder says.
    :param query_max_length: tokens read of a query; ``None`` for what the folder says.
    :param title: ``"join"`` reads title and text as one text, ``"pair"`` as two, ``"omit"`` only the text.
    :param revision: branch, tag or commit of a hub model.
    :param token: access token for the hub.
    :param cache_folder: where hub models are kept.
    :param local_files_only: whether hub models are taken from the cache only. Embedded models and folders never use
        the network.
    :raises ModelError: if a model is unknown or cannot be loaded.
    :raises ValueError: if an argument is out of its range.

    >>> encoder = BiEncoder()                                            # doctest: +SKIP
    >>> encoder.encode_queries(["Is p53 a tumour suppressor?"]).shape    # doctest: +SKIP
    (1, 384)
    """

    def __init__(
        self,
        model: str | os.PathLike[str] | None = None,
        *,
        query_model: str | os.PathLike[str] | None = None,
        device: str | torch.device | None = None,
        dtype: str | torch.dtype = "auto",
        pooling: str | None = None,
        normalize: bool | None = None,
        query_prefix: str | None = None,
        passage_prefix: str | None = None,
        max_length: int | None = None,
        query_max_length: int | None = None,
        title: TitleUse = "join",
        revision: str | None = None,
        token: str | bool | None = None,
        cache_folder: str | os.PathLike[str] | None = None,
        local_files_only: bool | None = None,
    ) -> None:
        from biorerank_plugins.runtime.devices import device_and_dtype

        _check_choice("title", title, get_args(TitleUse))
        _check_choice("pooling", pooling, (None, *POOLINGS))
        self._device, self._dtype = device_and_dtype(device, dtype)
        self._choices = {"pooling": pooling, "normalize": normalize}
        hub = {"revision": revision, "token": token, "cache_folder": cache_folder, "local_files_only": local_files_only}
        name = models.DEFAULT_ENCODER if model is None else model
        self._folder = find_model_folder(name, **hub)  # type: ignore[arg-type]
        self._passages, settings = self._load(self._folder)
        self._query_folder, self._queries, query_settings = self._folder, self._passages, settings
        if query_model is not None:
            self._query_folder = find_model_folder(query_model, **hub)  # type: ignore[arg-type]
            self._queries, query_settings = self._load(self._query_folder)
        if self._passages.dimension != self._queries.dimension:
            raise ModelError(
                f"The passage encoder gives {self._passages.dimension} dimensions and the query encoder "
                f"{self._queries.dimension}. Both must come from one training."
            )
        self._config: dict[str, Any] = {
            "model": portable_name(name),
            "query_model": None if query_model is None else portable_name(query_model),
            "pooling": pooling,
            "normalize": normalize,
            "query_prefix": query_settings.prompt(query_prefix, "query"),
            "passage_prefix": settings.prompt(passage_prefix, "document", "passage", "corpus"),
            "max_length": _length(max_length, self._passages),
            "query_max_length": _length(query_max_length, self._queries),
            "title": title,
            "revision": revision,
        }
        self._content_hash: str | None = None

    def _load(self, folder: Path) -> tuple[_Model, EncoderSettings]:
        from biorerank_plugins.first_stage.embedding_model import EmbeddingModel
        from biorerank_plugins.first_stage.sentence_transformer_model import SentenceTransformerModel

        settings = read_settings(folder)
        kind = SentenceTransformerModel if settings.unusual else EmbeddingModel
        if settings.unusual:
            logger.info("%s runs through sentence-transformers because of: %s", folder, ", ".join(settings.unusual))
        model = kind(folder, settings, device=self._device, dtype=self._dtype, **self._choices)  # type: ignore[arg-type]
        return model, settings

    @classmethod
    def from_config(cls, config: Mapping[str, Any], **arguments: Any) -> BiEncoder:
        """Make the encoder that :meth:`config` describes.

        :param config: what :meth:`config` returned.
        :param arguments: anything else the class takes: device, dtype, token, …
        :raises ModelError: if the model is not there, or ``config`` describes no such encoder.
        """
        known = dict(config)
        if known.pop("type", None) != cls.__name__:
            raise ModelError(f"{config.get('type')!r} is no encoder that can be made from its configuration.")
        try:
            return cls(**{**known, **arguments})
        except TypeError as error:
            raise ModelError(f"The encoder's configuration is of no use here: {error}.") from error

    @property
    def dimension(self) -> int:
        """Length of a vector."""
        return self._passages.dimension

    @property
    def model_id(self) -> str:
        """Name of the model, or of both."""
        return " + ".join(filter(None, (self._config["model"], self._config["query_model"])))

    @property
    def content_hash(self) -> str:
        """SHA-256 over the files of the model, or of both."""
        if self._content_hash is None:
            hashes = [models.content_hash(self._folder)]
            if self._query_folder != self._folder:
                hashes.append(models.content_hash(self._query_folder))
            self._content_hash = hashes[0] if len(hashes) == 1 else hashlib.sha256("".join(hashes).encode()).hexdigest()
        return self._content_hash

    def config(self) -> dict[str, Any]:
        """Return the model and every setting that changes a vector; :meth:`from_config` takes it back."""
        return {"type": type(self).__name__, **self._config}

    def __reduce__(self) -> tuple[Any, ...]:
        # Weights and locks stay behind: what is made of the configuration loads the model again.
        return partial(BiEncoder.from_config, device=str(self._device), dtype=self._dtype), (self.config(),)

    def __copy__(self) -> BiEncoder:
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> BiEncoder:
        return self  # it never changes, and threads may share it

    def encode_queries(self, queries: Sequence[str]) -> FloatArray:
        """Return one vector for each query.

        :param queries: texts.
        :returns: ``[len(queries), dimension]``.
        :raises TypeError: if ``queries`` is one string, or holds something else than strings.
        """
        refuse_string(queries, "queries")
        return self._queries.encode(
            [wellformed(string("A query", query)) for query in queries],
            self._config["query_max_length"],
            prefix=self._config["query_prefix"],
            role="query",
        )

    def encode_passages(self, passages: Sequence[Passage]) -> FloatArray:
        """Return one vector for each passage.

        :param passages: passages; their title is used as ``title`` says.
        :returns: ``[len(passages), dimension]``.
        :raises TypeError: if ``passages`` holds something else.
        """
        refuse_string(passages, "passages")
        for passage in passages:
            if not isinstance(passage, Passage):
                raise TypeError(f"Expected a Passage, got {type(passage).__name__}: {passage!r:.80}")
        return self._passages.encode(
            [passage_input(passage, self._config["title"]) for passage in passages],
            self._config["max_length"],
            prefix=self._config["passage_prefix"],
            role="passage",
        )

    def embed_tokens(self, encoded: Sequence[Tokens]) -> FloatArray:
        """Return one vector for each passage that was tokenised elsewhere, as :mod:`~biorerank_plugins.scale` does.

        :param encoded: what :class:`~biorerank_plugins.scale.ray_stages.PassageTokenizer` made for this encoder.
        :returns: ``[len(encoded), dimension]``.
        :raises ModelError: if this model tokenises for itself.
        """
        embed = getattr(self._passages, "embed", None)
        if embed is None:
            raise ModelError(f"{self.model_id} tokenises for itself; give it texts.")
        vectors: FloatArray = embed(encoded)
        return vectors


def passage_input(passage: Passage, title: TitleUse) -> TextInput:
    """Return the text, or the pair, that an encoder with this use of titles reads of a passage."""
    if title == "pair":
        return wellformed(passage.title or ""), wellformed(passage.text)
    return passage_text(passage) if title == "join" else wellformed(passage.text)


def _check_choice(name: str, value: object, choices: Sequence[str | None]) -> None:
    if value not in choices:
        raise ValueError(f"{name}={value!r} is unknown. Choose one of: {', '.join(filter(None, choices))}.")


def _length(given: int | None, model: _Model) -> int:
    return model.max_length if given is None else check_length(given, model.lengths)
