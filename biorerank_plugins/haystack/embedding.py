"""What our two Haystack embedders share: the arguments of the host's, and the bi-encoder."""

from __future__ import annotations

import os
from inspect import signature
from typing import TYPE_CHECKING, Any

from haystack.utils import ComponentDevice, Secret

from biorerank_plugins import models
from biorerank_plugins._common.checks import string, whole_number
from biorerank_plugins.first_stage.encoder import BiEncoder
from biorerank_plugins.haystack.components import (
    HUB_TOKEN,
    LazyComponent,
    check_loading,
    device_name,
    dtype_name,
    length_limit,
    token_value,
)

if TYPE_CHECKING:
    import torch

    from biorerank_plugins.first_stage.encoder import TitleUse


class BiEncoderComponent(LazyComponent[BiEncoder]):
    """Base of the embedders; the arguments are those of Haystack's ``SentenceTransformers…Embedder`` classes."""

    def __init__(
        self,
        *,
        model: str | os.PathLike[str] | None = None,
        device: ComponentDevice | None = None,
        token: Secret | None = HUB_TOKEN,
        prefix: str | None = None,
        suffix: str = "",
        batch_size: int = 32,
        progress_bar: bool = True,
        normalize_embeddings: bool = False,
        trust_remote_code: bool = False,
        local_files_only: bool = False,
        truncate_dim: int | None = None,
        model_kwargs: dict[str, Any] | None = None,
        tokenizer_kwargs: dict[str, Any] | None = None,
        config_kwargs: dict[str, Any] | None = None,
        precision: str = "float32",
        encode_kwargs: dict[str, Any] | None = None,
        backend: str = "torch",
        revision: str | None = None,
        quantization_ranges: list[list[float]] | None = None,
        dtype: str | torch.dtype = "auto",
        max_length: int | None = None,
        cache_folder: str | os.PathLike[str] | None = None,
    ) -> None:
        LazyComponent.__init__(self)
        self.model = model
        self.device = device
        self.token = token
        self.prefix = None if prefix is None else string("prefix", prefix)
        self.suffix = string("suffix", suffix)
        self.batch_size = whole_number("batch_size", batch_size)
        self.progress_bar = progress_bar
        self.normalize_embeddings = normalize_embeddings
        self.trust_remote_code = trust_remote_code
        self.local_files_only = local_files_only
        self.truncate_dim = truncate_dim
        self.model_kwargs = model_kwargs
        self.tokenizer_kwargs = tokenizer_kwargs
        self.config_kwargs = config_kwargs
        self.precision = precision
        self.encode_kwargs = encode_kwargs
        self.backend = backend
        self.revision = revision
        self.quantization_ranges = quantization_ranges
        self.dtype = dtype
        self.max_length = max_length
        self.cache_folder = cache_folder
        check_loading(device, dtype, backend, trust_remote_code, model_kwargs, tokenizer_kwargs, config_kwargs)
        other = None if precision == "float32" else precision
        refused: dict[str, object] = {"truncate_dim": truncate_dim, "encode_kwargs": encode_kwargs or None}
        for name, value in (refused | {"precision": other, "quantization_ranges": quantization_ranges}).items():
            if value is not None:
                raise ValueError(f"{name}={value!r:.80} is not supported: vectors are whole and float32.")

    def _load(self) -> BiEncoder:
        length = length_limit(self.max_length, self.tokenizer_kwargs)
        return BiEncoder(
            self.model,
            device=device_name(self.device),
            dtype=dtype_name(self.dtype, self.model_kwargs),
            normalize=True if self.normalize_embeddings else None,
            query_prefix=self.prefix,
            passage_prefix=self.prefix,
            max_length=length,
            query_max_length=length,
            title=self._title(),
            revision=self.revision,
            token=token_value(self.token),
            cache_folder=self.cache_folder,
            local_files_only=self.local_files_only or None,
        )

    def _title(self) -> TitleUse:
        return "omit"

    @property
    def _embedded_model(self) -> bool:
        return self.model is None or str(self.model) in models.names()


BI_ENCODER_SETTINGS = frozenset(signature(BiEncoderComponent.__init__).parameters) - {"self"}
"""Names of the arguments that both embedders share."""
