"""A second reader: the bi-encoder's opinion of candidates that another first stage found.

A bi-encoder and a cross-encoder err in different places, and the sum of both orders better than either, most of all on
questions unlike those that they were trained on. Behind a first stage of ours the sum is at hand. Behind any other the
candidates can be embedded here, which takes as long again as scoring them: ``fusion="second-reader"``
(``benchmarks/quality/second_reader.py`` measures it).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING
from weakref import WeakValueDictionary

import numpy as np

from biorerank_plugins import telemetry
from biorerank_plugins._common.forks import Lock
from biorerank_plugins.reranking.request import RankRequest
from biorerank_plugins.runtime.calls import Call
from biorerank_plugins.text.templates import wellformed

if TYPE_CHECKING:
    from biorerank_plugins.first_stage.encoder import BiEncoder
    from biorerank_plugins.scoring.load_options import LoadOptions

_AT_ONCE = 128
"""Passages embedded before it is asked again whether anybody waits."""

_SHARED: WeakValueDictionary[tuple[str, ...], BiEncoder] = WeakValueDictionary()
_LOADING = Lock()


class SecondReader:
    """A bi-encoder that is loaded when it is first needed; rerankers of one process share it.

    :param options: how the reranker's model is run; the bi-encoder is run likewise.
    """

    def __init__(self, options: LoadOptions) -> None:
        self._options = options
        self._encoder: BiEncoder | None = None

    @telemetry.staged("second_reader")
    def cosines(self, encoder: str, requests: Sequence[RankRequest], call: Call) -> list[list[float]]:
        """Return the inner product of each request's query with each of its candidates that are scored.

        Passages that come in several requests are embedded once.

        :param encoder: name or folder of the bi-encoder.
        :param call: is asked between two batches.
        :raises ModelError: if the bi-encoder cannot be found or loaded.
        """
        model = self._open(encoder, call)
        every = {(one.passage.title, one.passage.text): one.passage for request in requests for one in request.scored()}
        place = {key: n for n, key in enumerate(every)}
        passages = list(every.values())
        parts = []
        for start in range(0, len(passages), _AT_ONCE):
            call.check(f"{start} of {len(passages)} passages were embedded")
            parts.append(model.encode_passages(passages[start : start + _AT_ONCE]))
        vectors = np.concatenate(parts)
        queries = model.encode_queries([wellformed(request.query) for request in requests])
        found = []
        for query, request in zip(queries, requests, strict=True):
            rows = [place[one.passage.title, one.passage.text] for one in request.scored()]
            found.append([float(product) for product in vectors[rows] @ query])
        return found

    def close(self) -> None:
        """Forget the bi-encoder."""
        self._encoder = None

    def _open(self, name: str, call: Call) -> BiEncoder:
        call.wait_for(_LOADING)
        try:
            if self._encoder is None:
                self._encoder = _shared(name, self._options)
            return self._encoder
        finally:
            _LOADING.release()


def _shared(name: str, options: LoadOptions) -> BiEncoder:
    from biorerank_plugins.first_stage.encoder import BiEncoder  # torch is loaded here, not with the package

    dtype = "auto" if options.dtype is None or str(options.dtype).removeprefix("torch.") == "int8" else options.dtype
    key = (name, str(options.device), str(dtype))
    encoder = _SHARED.get(key)
    if encoder is None:
        encoder = _SHARED[key] = BiEncoder(
            name,
            device=options.device,
            dtype=dtype,
            cache_folder=options.cache_folder,
            local_files_only=options.local_files_only,
        )
    return encoder
