"""Which backend runs a model, in which precision, and why."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Protocol

import torch

from biorerank_plugins.errors import ModelError
from biorerank_plugins.runtime.devices import BACKENDS, device_and_dtype
from biorerank_plugins.scoring.torch_backend import TorchBackend

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from biorerank_plugins.runtime.tokens import EncodedPair, PairTokenizer

logger = logging.getLogger(__name__)

# Tokens a batch. On a CPU what matters is that activations stay in the cache; on a GPU that it has work to do. In int8
# smaller batches pay with VNNI, and cost an eighth with AVX2 alone.
_BATCH_TOKENS, _BYTES_BATCH_TOKENS = 2_048, 1_024
_GPU_BATCH_TOKENS = 32_768


class Backend(Protocol):
    """Token ids in, logits out."""

    @property
    def device(self) -> torch.device:
        """Device the model runs on."""
        ...

    @property
    def dtype(self) -> torch.dtype:
        """Precision of the layers."""
        ...

    def forward(self, pairs: Sequence[EncodedPair]) -> NDArray[np.float32]:
        """Return the logits of one batch, float32 [n].

        :param pairs: the batch, at least one pair.
        """
        ...


def where_to_compute(
    backend: str, device: str | torch.device | None, dtype: str | torch.dtype | None
) -> tuple[torch.device, torch.dtype]:
    """Return device and precision for what a user asks for.

    :param backend: one of :data:`~biorerank_plugins.runtime.devices.BACKENDS`.
    :param device: see :func:`~biorerank_plugins.runtime.devices.device_and_dtype`.
    :param dtype: in the same way.
    :raises ValueError: if a name is unknown, or the three do not go together; the message says what does.

    >>> where_to_compute("auto", None, "int8")
    (device(type='cpu'), torch.int8)
    """
    if backend not in BACKENDS:
        raise ValueError(f"backend={backend!r} is unknown. Choose one of: {', '.join(BACKENDS)}.")
    place = device_and_dtype(device, dtype)
    if place[1] == torch.int8 and backend == "torch":
        raise ValueError("dtype='int8' needs backend='packed' (or 'auto'); got backend='torch'.")
    return place


def choose_backend(
    name: str,
    model: Any,
    tokenizer: PairTokenizer,
    *,
    backend: str,
    device: torch.device,
    dtype: torch.dtype,
    has_types: bool,
) -> tuple[Backend, int]:
    """Return what runs a model, and the tokens a batch that suit it.

    ``"auto"`` takes the forward pass without padding where it covers the model and the device, else transformers' own.
    Where int8 is not possible, the best precision of this CPU is taken, with a warning.

    :param name: name of the model, for messages.
    :param model: a sequence-classification model with one label, not used by anyone else: it may be moved.
    :param tokenizer: builds its pairs.
    :param backend: one of :data:`~biorerank_plugins.runtime.devices.BACKENDS`.
    :param device: where to run.
    :param dtype: precision of the layers.
    :param has_types: whether the model takes segment ids.
    :raises ModelError: if the backend that was asked for cannot run the model here; the message says why.
    """
    from biorerank_plugins.runtime.packed.byte_kernels import adds_in_16_bits, bytes_if_possible
    from biorerank_plugins.runtime.packed.support import why_not_packed
    from biorerank_plugins.scoring.packed_backend import PackedBackend

    common: dict[str, Any] = {"device": device, "dtype": dtype, "has_types": has_types, "pad_id": tokenizer.pad_id}
    common["dtype"] = dtype = bytes_if_possible(dtype, device)
    int8 = dtype == torch.int8
    on_cpu = _BYTES_BATCH_TOKENS if int8 and not adds_in_16_bits() else _BATCH_TOKENS
    tokens = on_cpu if device.type == "cpu" else _GPU_BATCH_TOKENS
    if backend == "torch":
        chosen: Backend = TorchBackend(model, **common)
        _say(name, chosen, "torch", "asked for")
        return chosen, tokens
    why_not = why_not_packed(model, device, dtype)
    if why_not is None:
        chosen = PackedBackend(model, **common)
        asked = "int8 was asked for" if int8 else "asked for" if backend == "packed" else None
        _say(name, chosen, "packed", asked or "no padding, and this model allows it")
        return chosen, tokens
    if backend == "packed" or int8:
        wish = "dtype='int8'" if int8 else "backend='packed'"
        raise ModelError(f"{wish} is not possible for {name} here: {why_not} Choose backend='auto' and another dtype.")
    chosen = TorchBackend(model, **common)
    _say(name, chosen, "torch", why_not)
    return chosen, tokens


def _say(name: str, chosen: Backend, backend: str, why: str) -> None:
    dtype = str(chosen.dtype).removeprefix("torch.")
    logger.info("%s runs on backend %s in %s on %s: %s.", name, backend, dtype, chosen.device, why.rstrip("."))
