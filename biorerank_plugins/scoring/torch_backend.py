"""Padded batches through a transformers sequence-classification model: token ids in, logits out."""

from __future__ import annotations

import copy
import logging
import threading
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from biorerank_plugins import telemetry
from biorerank_plugins.runtime.devices import overflows_fp16
from biorerank_plugins.runtime.tokens import EncodedPair

if TYPE_CHECKING:
    from numpy.typing import NDArray

logger = logging.getLogger(__name__)


class TorchBackend:
    """Runs a model on one device in one precision.

    The classification head computes in fp32 whatever the precision of the layers below: a half-precision logit has so
    few steps that passages would tie.

    :param model: a sequence-classification model with one label, not used by anyone else: it is moved and converted.
    :param dtype: precision of the layers.
    :param pad_id: token id that pads.
    :param has_types: whether the model takes segment ids.
    """

    def __init__(self, model: Any, *, device: torch.device, dtype: torch.dtype, pad_id: int, has_types: bool) -> None:
        if dtype == torch.float16 and overflows_fp16(model):
            logger.warning("A weight does not fit into fp16; computing in fp32.")
            dtype = torch.float32
        self.device = device
        self.dtype = dtype
        self._pad_id = pad_id
        self._has_types = has_types
        self._model = model.to(device=device, dtype=dtype).eval()
        if dtype != torch.float32:
            _keep_head_in_fp32(self._model)
        self._exact: Any = None
        self._exact_lock = threading.Lock()

    def forward(self, pairs: Sequence[EncodedPair]) -> NDArray[np.float32]:
        """Return the logits of one batch, float32 [n]. A logit that is not finite is computed again in fp32.

        :param pairs: the batch; it is padded to its longest pair.
        """
        logits = self._run(self._model, pairs)
        if np.isfinite(logits).all() or self.dtype == torch.float32:
            return logits
        logger.warning("A logit was not finite in %s; the batch is computed again in fp32.", self.dtype)
        telemetry.count("fallbacks")
        with self._exact_lock:
            if self._exact is None:
                self._exact = copy.deepcopy(self._model).float()
        return self._run(self._exact, pairs)

    @torch.inference_mode()
    def _run(self, model: Any, pairs: Sequence[EncodedPair]) -> NDArray[np.float32]:
        longest = max(len(pair.ids) for pair in pairs)
        ids = np.full((len(pairs), longest), self._pad_id, dtype=np.int64)
        mask = np.zeros((len(pairs), longest), dtype=np.int64)
        types = np.zeros((len(pairs), longest), dtype=np.int64)
        for row, pair in enumerate(pairs):
            ids[row, : len(pair.ids)] = pair.ids
            mask[row, : len(pair.ids)] = 1
            types[row, : len(pair.ids)] = pair.types
        inputs = {"input_ids": ids, "attention_mask": mask}
        if self._has_types:
            inputs["token_type_ids"] = types
        logits = model(**{name: torch.from_numpy(value).to(self.device) for name, value in inputs.items()}).logits
        result: NDArray[np.float32] = logits.float().reshape(-1).cpu().numpy()
        return result


def _keep_head_in_fp32(model: Any) -> None:
    """Let the last linear layers compute in fp32: their input is upcast on the way in."""
    for name in ("classifier", "score"):
        head = getattr(model, name, None)
        if isinstance(head, torch.nn.Module):
            head.float()
            head.register_forward_pre_hook(
                lambda _, args: tuple(a.float() if a.is_floating_point() else a for a in args)
            )
