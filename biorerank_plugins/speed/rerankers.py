"""The rerankers that are compared: sentence-transformers (the baseline, and its fastest settings), and ours."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from biorerank_plugins.speed.compare import prepared
from biorerank_plugins.speed.rounds import NotPossibleError, fastest
from biorerank_plugins.speed.systems import Setting, System

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from sentence_transformers import CrossEncoder

    from biorerank_plugins.passages import Ranking
    from biorerank_plugins.speed.texts import Request

BATCH_SIZES = {"cpu": (8, 32, 128), "cuda": (32, 128, 512)}
_PROBES = 2


def load(setting: Setting, dtype: str) -> CrossEncoder:
    """Load the model in one precision, and make sure: transformers takes the stored one unless it is told."""
    import torch
    from sentence_transformers import CrossEncoder

    wanted = getattr(torch, dtype)
    model: CrossEncoder = CrossEncoder(
        str(setting.folder),
        device=setting.device,
        max_length=setting.max_length,
        local_files_only=True,
        model_kwargs={"dtype": wanted},
    )
    assert_dtype(model, wanted)
    return model


def assert_dtype(model: Any, wanted: Any) -> None:
    """Raise ``RuntimeError`` if a torch module does not compute in the precision that it is said to."""
    found = {parameter.dtype for parameter in model.parameters()}
    if found != {wanted}:
        raise RuntimeError(f"The parameters should be {wanted}, and are {', '.join(sorted(map(str, found)))}.")


def baseline_model(setting: Setting) -> CrossEncoder:
    """Return the fp32 model, which all fp32 systems of sentence-transformers share."""
    if "float32" not in setting.kept:
        setting.kept["float32"] = load(setting, "float32")
    model: CrossEncoder = setting.kept["float32"]
    return model


def pairs_of(request: Request) -> list[tuple[str, str]]:
    """Return the pairs of a request."""
    return [(request.query, text) for text in request.texts]


def predict(setting: Setting) -> System:
    """fp32 ``CrossEncoder.predict`` with its defaults."""
    return by_batch_size(baseline_model(setting), "float32", 32, "fp32")


def by_batch_size(model: CrossEncoder, dtype: str, batch_size: int, how: str) -> System:
    """Return ``predict`` of a model with one batch size; ``how`` is the precision and the runtime, in words."""
    import torch

    def call(pairs: Any) -> Any:
        return model.predict(pairs, batch_size=batch_size, show_progress_bar=False)

    return System(
        way=f"CrossEncoder.predict, {how}, batch_size={batch_size}",
        dtype=dtype,
        prepare=pairs_of,
        call=call,
        values=lambda scores: np.asarray(scores, dtype=np.float64),
        are_logits=isinstance(model.activation_fn, torch.nn.Identity),
    )


def best(setting: Setting) -> System:
    """The fastest of several batch sizes, in the half precisions that the device has, in fp32 if it has none."""
    from biorerank_plugins.runtime.devices import cpu_has_bf16

    on_gpu = setting.device.startswith("cuda")
    dtypes = ["float16", "bfloat16"] if on_gpu else ["bfloat16"] if cpu_has_bf16() else ["float32"]
    candidates: dict[str, System] = {}
    for dtype in dtypes:
        candidates |= batch_sizes(load(setting, dtype), dtype, dtype, setting)
    return pick_batch_size(candidates, setting)


def batch_sizes(model: CrossEncoder, dtype: str, how: str, setting: Setting) -> dict[str, System]:
    """Return ``predict`` of a model with several batch sizes, by their description."""
    sizes: Sequence[int] = BATCH_SIZES.get(setting.device.partition(":")[0], BATCH_SIZES["cpu"])
    systems = [by_batch_size(model, dtype, size, how) for size in sizes]
    return {system.way: system for system in systems}


def pick_batch_size(candidates: Mapping[str, System], setting: Setting) -> System:
    """Return the system that is fastest on the setting's probe; raise ``NotPossibleError`` if none of them runs."""
    for system in candidates.values():  # the first call of a runtime is slower than all others
        system.call(system.prepare(setting.probe))
    rounds = [[setting.probe]] * _PROBES
    times = fastest({name: prepared(system, rounds) for name, system in candidates.items()}, _PROBES)
    if not times.seconds:
        raise NotPossibleError("; ".join(times.failed.values()))
    return candidates[next(iter(times.seconds))]


def ours(setting: Setting, *, backend: str, dtype: str, max_batch_tokens: int | None = None) -> System:
    """Load the reranker with one backend and precision; long passages are cut at the limit, as by all other systems."""
    from biorerank_plugins.reranking.reranker import BioReranker

    reranker = BioReranker(
        setting.folder,
        device=setting.device,
        backend=backend,
        dtype=dtype,
        max_length=setting.max_length,
        max_batch_tokens=max_batch_tokens,
        windows=False,
    )
    reranker.warm_up()
    batch = "" if max_batch_tokens is None else f", max_batch_tokens={max_batch_tokens}"
    return System(
        way=f"BioReranker(backend={backend!r}, dtype={dtype!r}{batch}).rank",
        dtype=dtype,
        prepare=lambda request: request,
        call=lambda request: reranker.rank(request.query, request.texts),
        values=logits_in_order,
        are_logits=True,
        is_shared=True,
        close=reranker.close,
    )


def logits_in_order(ranking: Ranking) -> NDArray[np.floating]:
    """Return the logits of a whole ranking in the order in which its passages were given."""
    logits = np.empty(len(ranking), dtype=np.float64)
    for ranked in ranking:
        logits[ranked.input_index] = ranked.logit
    return logits
