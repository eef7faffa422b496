"""Which backend runs a model, in which precision, and why."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
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


@dataclass(frozen=True, slots=True)
class Place:
    """Where and how a model computes.

    :param backend: one of :data:`~biorerank_plugins.runtime.devices.BACKENDS`.
    :param dtype: precision; ``None`` keeps what the model has.
    """

    backend: str
    device: torch.device
    dtype: torch.dtype | None

    def refuse_if_asked_for(self, name: str, why: str) -> None:
        """Raise if a model is to run without padding, or in int8, and cannot; ``why`` is a sentence."""
        if self.backend == "packed" or self.dtype == torch.int8:
            wish = "dtype='int8'" if self.dtype == torch.int8 else "backend='packed'"
            raise ModelError(f"{wish} is not possible for {name} here: {why} Choose backend='auto' and another dtype.")


def choose_backend(
    name: str, model: Any, tokenizer: PairTokenizer, place: Place, *, has_types: bool
) -> tuple[Backend, int]:
    """Return what runs a model, and the tokens a batch that suit it.

    ``"auto"`` takes the forward pass without padding where it covers the model and the device, else transformers' own.
    Where int8 is not possible, the best precision of this CPU is taken, with a warning.

    :param name: of the model, for messages.
    :param model: a sequence-classification model with one label, not used by anyone else: it may be moved.
    :param place: with a precision.
    :param has_types: whether the model takes segment ids.
    :raises ModelError: if the backend that was asked for cannot run the model here; the message says why.
    """
    from biorerank_plugins.runtime.packed.byte_kernels import adds_in_16_bits, bytes_if_possible
    from biorerank_plugins.runtime.packed.support import why_not_packed
    from biorerank_plugins.scoring.packed_backend import PackedBackend

    assert place.dtype is not None
    device, dtype = place.device, bytes_if_possible(place.dtype, place.device)
    common: dict[str, Any] = {"device": device, "dtype": dtype, "has_types": has_types, "pad_id": tokenizer.pad_id}
    int8 = dtype == torch.int8
    on_cpu = _BYTES_BATCH_TOKENS if int8 and not adds_in_16_bits() else _BATCH_TOKENS
    why = "asked for" if place.backend == "torch" else why_not_packed(model, device, dtype)
    if why is None:
        kind = "packed"
        chosen: Backend = PackedBackend(model, **common)
        asked = "int8 was asked for" if int8 else "asked for" if place.backend == "packed" else None
        why = asked or "no padding, and this model allows it"
    else:
        replace(place, dtype=dtype).refuse_if_asked_for(name, why)
        kind = "torch"
        chosen = TorchBackend(model, **common)
    computes_in = str(chosen.dtype).removeprefix("torch.")
    logger.info("%s runs on backend %s in %s on %s: %s.", name, kind, computes_in, chosen.device, why.rstrip("."))
    return chosen, on_cpu if device.type == "cpu" else _GPU_BATCH_TOKENS
