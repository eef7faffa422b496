"""What a passage index asks of an encoder."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np

from biorerank_plugins.passages import Passage

__all__ = ["Encoder"]

FloatArray = np.ndarray[Any, np.dtype[np.float32]]


class Encoder(Protocol):
    """What a passage index needs; any object that has it can be the encoder."""

    @property
    def dimension(self) -> int:
        """Length of a vector."""
        ...

    @property
    def model_id(self) -> str:
        """Name for messages and manifests."""
        ...

    @property
    def content_hash(self) -> str:
        """Changes whenever the same text would get another vector."""
        ...

    def encode_queries(self, queries: Sequence[str]) -> FloatArray:
        """Return ``[len(queries), dimension]`` vectors."""
        ...

    def encode_passages(self, passages: Sequence[Passage]) -> FloatArray:
        """Return ``[len(passages), dimension]`` vectors."""
        ...

    def config(self) -> dict[str, Any]:
        """Return what is needed to make the encoder again, as JSON types."""
        ...
