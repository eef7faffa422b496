"""Token ids in, logits out: what backends have in common, and padded batches through a model of transformers."""

from __future__ import annotations

import copy
import logging
import threading
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from biorerank_plugins import telemetry
from biorerank_plugins.runtime.devices import overflows_fp16
from biorerank_plugins.runtime.tokens import EncodedPair, padded_inputs

logger = logging.getLogger(__name__)


class Backend(ABC):
    """Runs a model on one device in one precision.

    :param device: where the model runs.
    :param dtype: precision of the layers; the head computes in fp32, since a half-precision logit has so few steps that
        passages would tie.
    """

    padded = True
    """Whether all pairs of a batch count as long as its longest."""

    def __init__(self, device: torch.device, dtype: torch.dtype) -> None:
        self.device = device
        self.dtype = dtype
        self._exact: Backend | None = None
        self._exact_lock = threading.Lock()

    def forward(self, pairs: Sequence[EncodedPair]) -> NDArray[np.float32]:
        """Return the logits of one batch, float32 [n]. A logit that is not finite is computed again in fp32.

        :param pairs: the batch, at least one pair.
        :raises ValueError: if a pair does not fit the model.
        """
        logits = self._run(pairs)
        if self.dtype == torch.float32 or np.isfinite(logits).all():
            return logits
        logger.warning("A logit was not finite in %s; the batch is computed again in fp32.", self.dtype)
        telemetry.count("fallbacks")
        with self._exact_lock:
            if self._exact is None:
                self._exact = self._in_fp32()
        return self._exact.forward(pairs)

    @abstractmethod
    def _run(self, pairs: Sequence[EncodedPair]) -> NDArray[np.float32]:
        """Return the logits of one batch, finite or not."""

    @abstractmethod
    def _in_fp32(self) -> Backend:
        """Return a backend that runs the same model in fp32."""


class TorchBackend(Backend):
    """Pads batches to their longest pair, and runs them as transformers does.

    :param model: a sequence-classification model with one label, not used by anyone else: it is moved and converted.
    :param has_types: whether it takes segment ids.
    """

    def __init__(self, model: Any, *, device: torch.device, dtype: torch.dtype, pad_id: int, has_types: bool) -> None:
        if dtype == torch.float16 and overflows_fp16(model):
            logger.warning("A weight does not fit into fp16; computing in fp32.")
            dtype = torch.float32
        super().__init__(device, dtype)
        self._pad_id = pad_id
        self._has_types = has_types
        self._model = model.to(device=device, dtype=dtype).eval()
        if dtype != torch.float32:
            _keep_head_in_fp32(self._model)

    @torch.inference_mode()
    def _run(self, pairs: Sequence[EncodedPair]) -> NDArray[np.float32]:
        inputs = padded_inputs(pairs, self._pad_id)
        if not self._has_types:
            del inputs["token_type_ids"]
        given = {name: torch.from_numpy(value).to(self.device) for name, value in inputs.items()}
        result: NDArray[np.float32] = self._model(**given).logits.float().reshape(-1).cpu().numpy()
        return result

    def _in_fp32(self) -> Backend:
        model = copy.deepcopy(self._model)
        return TorchBackend(
            model, device=self.device, dtype=torch.float32, pad_id=self._pad_id, has_types=self._has_types
        )


def _keep_head_in_fp32(model: Any) -> None:
    """Let the last linear layers compute in fp32: their input is upcast on the way in."""
    for name in ("classifier", "score"):
        head = getattr(model, name, None)
        if isinstance(head, torch.nn.Module):
            head.float()
            head.register_forward_pre_hook(
                lambda _, args: tuple(a.float() if a.is_floating_point() else a for a in args)
            )
