"""Scales with which the linear layers of BERT are computed in int8, fitted on real pairs.

Activations of a transformer hold a few channels that are far larger than the others. One scale a batch, which is what
dynamic quantisation takes, spends its 256 steps on them, and changes with whatever else is in the batch. Here each
layer gets

* a factor a channel, which moves a part of that spread into the weights (SmoothQuant, arXiv 2211.10438), in the
  strength that leaves the smallest error of the layer's output,
* one fixed range of its input, cut off where that leaves a smaller error,

so an int8 logit does not depend on the passages beside it. A layer whose error stays large is left in fp32.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray

if TYPE_CHECKING:
    from biorerank_plugins.runtime.tokens import EncodedPair

logger = logging.getLogger(__name__)

_STRENGTHS = (0.0, 0.3, 0.5, 0.6, 0.7, 0.8, 0.9)
_CUTS = (1.0, 0.9, 0.8, 0.7)
_ROWS = 2_000  # tokens a layer is fitted on
_SEED = 20_261_123
MOST_STEPS, SAFE_STEPS = 127, 64
"""Steps of a weight on each side of 0: all of 8 bits, or as many as two products of bytes can be added with in 16 bits
(2 · 255 · 64 < 32,768), which is how x86 CPUs without VNNI do it."""
FIT_VERSION = 1
"""Raised whenever the same pairs give other scales."""
LARGEST_ERROR = 0.1
"""A layer whose output is off by more than this share of its spread stays in fp32."""

Floats = NDArray[np.float32]


@dataclass(frozen=True, slots=True, eq=False)
class IntegerProduct:
    """A linear layer as ``MatMulIntegerToFloat`` takes it.

    :param input_factor: what the input is multiplied by first, a channel [in].
    :param input_scale: size of a step of the input, fp32 [].
    :param input_zero: the step that stands for 0, uint8 [].
    :param weight: int8 [in, out].
    :param weight_scale: size of a step of the weight, an output [out].
    """

    input_factor: Floats
    input_scale: Floats
    input_zero: NDArray[np.uint8]
    weight: NDArray[np.int8]
    weight_scale: Floats


@dataclass(frozen=True, slots=True, eq=False)
class QuantizedLinear:
    """How the input of a linear layer is brought to 256 steps.

    :param factors: spread of each channel that is moved into the weight [in].
    :param low: smallest value of the input after division by the factors, at most 0.
    :param high: largest value, above ``low``.
    :param error: root mean square error of the output as a share of its standard deviation.
    :param steps: of the weight, on each side of 0.
    """

    factors: Floats
    low: float
    high: float
    error: float
    steps: int = MOST_STEPS

    def apply(self, weight: Floats) -> IntegerProduct:
        """Return the layer in integers.

        :param weight: [out, in].
        """
        scale = np.float32((self.high - self.low) / 255)
        integers, steps = _integers(weight.T * self.factors[:, None], self.steps)
        return IntegerProduct(
            input_factor=(1 / self.factors).astype(np.float32),
            input_scale=np.array(scale),
            input_zero=np.array(np.clip(round(-self.low / float(scale)), 0, 255), dtype=np.uint8),
            weight=integers.astype(np.int8),
            weight_scale=steps,
        )


def fit_linear(rows: Floats, low: Floats, high: Floats, weight: Floats, steps: int = MOST_STEPS) -> QuantizedLinear:
    """Return the scales that leave the smallest error of a layer's output.

    :param rows: inputs of the layer [n, in].
    :param low: the smallest value that a channel takes [in].
    :param high: the largest [in].
    :param weight: [out, in].
    :param steps: of the weight, on each side of 0: :data:`SAFE_STEPS` for a CPU that adds products in 16 bits.

    >>> rows = np.array([[1.0, 100.0], [-1.0, 50.0], [0.5, -100.0]], np.float32)
    >>> fitted = fit_linear(rows, rows.min(0), rows.max(0), np.array([[1.0, 0.01]], np.float32))
    >>> bool(fitted.factors[1] > 10 * fitted.factors[0]), fitted.error < 0.01
    (True, True)
    """
    kernel = weight.T
    expected = rows @ kernel
    spread = np.maximum(np.maximum(np.abs(low), np.abs(high)), 1e-5)
    strongest = np.maximum(np.abs(kernel).max(axis=1), 1e-5)
    best: QuantizedLinear | None = None
    for strength in _STRENGTHS:
        factors = spread**strength / strongest ** (1 - strength) if strength else np.ones_like(spread)
        factors = (factors / np.exp(np.log(factors).mean())).astype(np.float32)
        integers, sizes = _integers(kernel * factors[:, None], steps)
        rounded = integers * sizes
        lowest, highest = min(0.0, float((low / factors).min())), max(1e-6, float((high / factors).max()))
        for cut in _CUTS:
            off = _rounded(rows / factors, cut * lowest, cut * highest) @ rounded - expected
            error = float(np.sqrt(np.mean(off**2)) / max(float(expected.std()), 1e-12))
            if best is None or error < best.error:
                best = QuantizedLinear(factors, cut * lowest, cut * highest, error, steps)
    assert best is not None
    return best


def fit_quantization(
    layers: Sequence[Any],
    pairs: Sequence[EncodedPair],
    forward: Callable[[Sequence[EncodedPair]], object],
    largest_error: float = LARGEST_ERROR,
    steps: int = MOST_STEPS,
) -> dict[str, QuantizedLinear]:
    """Return the scales of all linear layers that int8 is good enough for, by ``"{layer}.{qkv|out|up|down}"``.

    :param layers: encoder layers of a transformers model of BERT's kind.
    :param pairs: pairs to fit on.
    :param forward: runs the model on a batch of pairs of one length.
    :param largest_error: see :data:`LARGEST_ERROR`.
    :param steps: as :func:`fit_linear` takes it.
    """
    fitted = {}
    with _inputs(layers) as seen:
        for batch in _equally_long(pairs):
            forward(batch)
    for name, weight in _weights(layers).items():
        rows = np.concatenate(seen[name].rows)
        chosen = np.random.default_rng(_SEED).permutation(len(rows))[:_ROWS]
        scales = fit_linear(rows[chosen], seen[name].low, seen[name].high, weight, steps)
        if scales.error <= largest_error:
            fitted[name] = scales
        else:
            logger.info("%s stays in fp32: int8 would be off by %.0f %%.", name, 100 * scales.error)
    return fitted


class _Seen:
    def __init__(self) -> None:
        self.rows: list[Floats] = []
        self.low: Floats = np.array(np.inf, np.float32)
        self.high: Floats = np.array(-np.inf, np.float32)

    def __call__(self, _: Any, inputs: tuple[Any, ...]) -> None:
        values: Floats = inputs[0].detach().float().reshape(-1, inputs[0].shape[-1]).cpu().numpy()
        self.low, self.high = np.minimum(self.low, values.min(0)), np.maximum(self.high, values.max(0))
        # Evenly spaced rows hold first tokens and last ones, whose activations differ from the others.
        self.rows.append(values[:: max(1, len(values) // 200)].copy())


@contextmanager
def _inputs(layers: Sequence[Any]) -> Iterator[Mapping[str, _Seen]]:
    seen: dict[str, _Seen] = {}
    hooks = []
    for number, layer in enumerate(layers):
        for name, module in _linears(layer).items():
            seen[f"{number}.{name}"] = watcher = _Seen()
            hooks.append(module[0].register_forward_pre_hook(watcher))
    try:
        yield seen
    finally:
        for hook in hooks:
            hook.remove()


def _linears(layer: Any) -> dict[str, tuple[Any, ...]]:
    own = layer.attention.self
    return {
        "qkv": (own.query, own.key, own.value),
        "out": (layer.attention.output.dense,),
        "up": (layer.intermediate.dense,),
        "down": (layer.output.dense,),
    }


def _weights(layers: Sequence[Any]) -> dict[str, Floats]:
    return {
        f"{number}.{name}": torch.cat([module.weight.detach().float().cpu() for module in modules]).numpy()
        for number, layer in enumerate(layers)
        for name, modules in _linears(layer).items()
    }


def _equally_long(pairs: Sequence[EncodedPair]) -> Iterator[list[EncodedPair]]:
    """Yield batches without padding: what a padding token gives must not widen a range."""
    by_length: dict[int, list[EncodedPair]] = {}
    for pair in pairs:
        by_length.setdefault(len(pair.ids), []).append(pair)
    for alike in by_length.values():
        for start in range(0, len(alike), 32):
            yield alike[start : start + 32]


def _integers(kernel: Floats, steps: int) -> tuple[Floats, Floats]:
    sizes = np.maximum(np.abs(kernel).max(axis=0) / steps, 1e-12).astype(np.float32)
    return np.clip(np.round(kernel / sizes), -steps, steps), sizes


def _rounded(values: Floats, low: float, high: float) -> Floats:
    scale = (high - low) / 255
    zero = np.clip(round(-low / scale), 0, 255)
    rounded: Floats = ((np.clip(np.round(values / scale) + zero, 0, 255) - zero) * scale).astype(np.float32)
    return rounded
