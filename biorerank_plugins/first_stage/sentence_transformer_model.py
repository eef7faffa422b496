"""Models that ask for more than our token path computes run through sentence-transformers itself."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from biorerank_plugins._common.forks import Lock
from biorerank_plugins.errors import ModelError
from biorerank_plugins.first_stage.model_folder import EncoderSettings
from biorerank_plugins.runtime.computing import computing
from biorerank_plugins.runtime.devices import inference, refuse_in_child
from biorerank_plugins.runtime.plain_folder import quiet_loading

if TYPE_CHECKING:
    import torch
    from sentence_transformers import SentenceTransformer

    from biorerank_plugins.first_stage.embedding_model import Role, TextInput
    from biorerank_plugins.first_stage.vectors import FloatArray


class SentenceTransformerModel:
    """The same calls as :class:`~biorerank_plugins.first_stage.embedding_model.EmbeddingModel`, of any module.

    Many threads may call, one of which computes at a time.

    :param pooling: must be ``None``: the folder's modules say how.
    :param normalize: whether to bring vectors to length 1 after the folder's modules have run.
    """

    def __init__(
        self,
        folder: Path,
        settings: EncoderSettings,
        *,
        device: torch.device,
        dtype: torch.dtype,
        pooling: str | None = None,
        normalize: bool | None = None,
    ) -> None:
        if pooling is not None or normalize is False:
            raise ModelError(
                f"{folder} makes its vectors by {', '.join(settings.unusual)}: "
                "pooling=… and normalize=False are not possible."
            )
        if any(not list(weights.parent.glob("*.safetensors")) for weights in folder.rglob("*.bin")):
            raise ModelError(f"{folder} holds pickled weights (*.bin), which can run code. Save it as safetensors.")
        if str(dtype) == "torch.int8":
            raise ModelError(
                f"dtype='int8' is not possible for {folder}, which makes its vectors by {', '.join(settings.unusual)}."
            )
        self._model = computing(partial(_load, folder, device, dtype))
        self._normalize = bool(normalize)
        self._encoding = Lock()
        self._device, self._process = device, os.getpid()
        self.max_length = int(self._model.max_seq_length or 512)
        self.lengths = 3, self.max_length
        self.dimension = int(self._model.get_embedding_dimension() or 0)

    def encode(self, inputs: Sequence[TextInput], max_length: int, *, prefix: str, role: Role) -> FloatArray:
        """Return one vector for each input, which is a text: pairs are refused."""
        if not inputs:
            return np.empty((0, self.dimension), dtype=np.float32)
        texts = [item for item in inputs if isinstance(item, str)]
        if len(texts) != len(inputs):
            raise ModelError("This model reads no [title, text] pairs. Use title='join'.")
        encode = self._model.encode_query if role == "query" else self._model.encode_document
        refuse_in_child(self._device, self._process)
        with self._encoding:
            self._model.max_seq_length = max_length
            return computing(partial(self._vectors, partial(encode, texts, prompt=prefix)), self._device)

    def _vectors(self, encode: Callable[..., Any]) -> FloatArray:
        with inference(self._device):
            vectors = encode(show_progress_bar=False, convert_to_tensor=True).float()
            if self._normalize:
                vectors = vectors / vectors.norm(dim=-1, keepdim=True).clamp(min=1e-12)
            array: FloatArray = vectors.cpu().numpy()
            return array


def _load(folder: Path, device: torch.device, dtype: torch.dtype) -> SentenceTransformer:
    from sentence_transformers import SentenceTransformer

    try:
        with quiet_loading():
            return SentenceTransformer(
                str(folder),
                device=str(device),
                local_files_only=True,
                model_kwargs={"dtype": dtype, "use_safetensors": True},
            )
    except Exception as error:  # the library raises whatever it meets: OSError, ValueError, KeyError, …
        raise ModelError(f"The bi-encoder in {folder} cannot be loaded: {error}") from error
