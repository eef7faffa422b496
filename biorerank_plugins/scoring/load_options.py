"""How a model is loaded and run: one frozen object, which is also the key under which rerankers share a scorer."""

from __future__ import annotations

import os
import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from biorerank_plugins._common.checks import whole_number

if TYPE_CHECKING:
    import torch
    from sentence_transformers import CrossEncoder

    from biorerank_plugins.scoring.scores import PairScorer


@dataclass(frozen=True, slots=True)
class LoadOptions:
    """What :class:`~biorerank_plugins.BioReranker` is told about its model; the fields are its parameters.

    ``backend="onnx"``, which earlier versions had, is taken for the backend that is chosen here, in fp32 where no
    precision is named, with a ``DeprecationWarning``.

    :raises ValueError: if a length is impossible. Device, precision and backend are checked where they are chosen.
    """

    model: str | os.PathLike[str] | CrossEncoder | PairScorer | None = None
    device: str | torch.device | None = None
    dtype: str | torch.dtype | None = "auto"
    backend: str = "auto"
    max_length: int = 512
    query_max_length: int = 128
    max_batch_tokens: int | None = None
    revision: str | None = None
    token: str | bool | None = None
    cache_folder: str | os.PathLike[str] | None = None
    local_files_only: bool | None = None

    def __post_init__(self) -> None:
        whole_number("max_length", self.max_length, least=8)
        whole_number("query_max_length", self.query_max_length)
        if self.max_batch_tokens is not None:
            whole_number("max_batch_tokens", self.max_batch_tokens)
        if self.backend == "onnx":
            warnings.warn(
                "backend='onnx' is gone: the packed backend is as fast, also in int8, and needs no export. "
                "Leave it out.",
                DeprecationWarning,
                stacklevel=4,
            )
            object.__setattr__(self, "backend", "auto")
            if self.dtype in (None, "auto"):
                object.__setattr__(self, "dtype", "float32")

    @property
    def named(self) -> bool:
        """Whether the model is a name or a folder, and no object of the caller's."""
        return self.model is None or isinstance(self.model, (str, os.PathLike))

    def key(self) -> tuple[Any, ...]:
        """Return what two rerankers of named models must agree in to share one."""
        return tuple(str(getattr(self, name)) for name in self.__dataclass_fields__ if name != "model")
