"""Memory, disk and hours for a number of passages, from what was measured on this machine."""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass
from importlib import resources
from typing import Any

from biorerank_plugins._common.checks import whole_number
from biorerank_plugins.first_stage.factory import parse_factory
from biorerank_plugins.scale.rates import HNSW_MEASURED, KINDS, Rates, code_bytes_for, measure_rates, sample_passages

__all__ = ["Plan", "PlannedIndex", "Rates", "lists_for", "measure_rates", "plan", "sample_passages"]

_ROW_BYTES = 9  # of a vector store: its row number, and whether it is alive
_KMEANS_ROUNDS = 10  # of FAISS for the lists of an IVF
_FEWEST_LISTS = 16
_ON_DISK = {"IVF,Flat": (True,), "IVF,PQ": (False, True)}  # whether the lists stay on disk; else they do not


@dataclass(frozen=True)
class PlannedIndex:
    """What an index of one type would take.

    :param name: index type; ``(on disk)`` where the lists stay on disk.
    :param factory: FAISS factory string.
    :param memory_bytes: while it is searched: vectors, and words (the passages stay on disk).
    :param disk_bytes: of the saved index.
    :param work_bytes: of the work folder while it is built, to be added to ``disk_bytes``.
    :param hours: all in all, with one encoder as fast as the measured one.
    :param build_hours: those of them that are not embedding.
    :param recall_real: measured recall@200 against exact search on real passages; ``None`` if it was not measured.
    :param recall_synthetic: measured recall@200 on synthetic vectors.
    """

    name: str
    factory: str
    memory_bytes: float
    disk_bytes: float
    work_bytes: float
    hours: float
    build_hours: float
    recall_real: float | None
    recall_synthetic: float | None


@dataclass(frozen=True)
class Plan:
    """What indexes of a number of passages would take.

    :param count: number of passages.
    :param rates: what it was computed from.
    :param indexes: one line a type.
    :param lexical_bytes: share of the lexical part in memory and on disk.
    :param recall_source: what recall was measured on.
    """

    count: int
    rates: Rates
    indexes: tuple[PlannedIndex, ...]
    lexical_bytes: float
    recall_source: str

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON types."""
        fields = asdict(self)
        return {"passages": fields.pop("count"), **fields, "indexes": list(fields["indexes"])}


def lists_for(count: int) -> int:
    """Return how many lists suit a collection: a power of two near four times its square root.

    >>> lists_for(1_000_000)
    4096
    """
    return max(_FEWEST_LISTS, 1 << round(math.log2(4 * math.sqrt(count))))


def plan(count: int, rates: Rates) -> Plan:
    """Compute what each index type would take for ``count`` passages.

    Sizes and rates are those measured; an HNSW graph is taken to get slower with the logarithm of its size.

    :param count: number of passages.
    :param rates: what :func:`measure_rates` returned.

    >>> plan(38_000_000, measure_rates(sample_passages(), BiEncoder())).indexes[0].name     # doctest: +SKIP
    'Flat'
    """
    count = whole_number("count", count)
    lists, code = lists_for(count), code_bytes_for(rates.dimension)
    # The figures that benchmarks/speed/scale.py measured.
    recall = json.loads((resources.files("biorerank_plugins.scale") / "measured.json").read_text(encoding="utf-8"))
    lexical = count * rates.lexical_bytes
    indexes = tuple(
        _planned(count, rates, kind, factory.format(lists=lists, code=code), on_disk, recall)
        for kind, factory in KINDS.items()
        for on_disk in _ON_DISK.get(kind, (False,))
    )
    return Plan(count, rates, indexes, lexical, recall["source"])


def _planned(count: int, rates: Rates, kind: str, factory: str, on_disk: bool, recall: dict[str, Any]) -> PlannedIndex:
    parsed = parse_factory(factory)
    centroids = parsed.lists * rates.dimension * 4
    vectors = count * rates.bytes_per_vector[kind] + centroids
    words = count * rates.lexical_bytes
    building = count / rates.staged_per_second + count / rates.lexical_per_second
    if parsed.links:
        slower = max(1.0, math.log(max(2, count)) / math.log(HNSW_MEASURED))
        building += count * slower / rates.graph_per_second
    if parsed.lists:
        trained_on = min(count, parsed.training_size)
        building += (_KMEANS_ROUNDS * trained_on + count) * parsed.lists / rates.distances_per_second
    if parsed.code_bytes:
        building += count / rates.codes_per_second
    in_parts = vectors if parsed.labelled else 0.0
    measured = recall["recall"].get(kind, {})
    return PlannedIndex(
        name=f"{factory} (on disk)" if on_disk else factory,
        factory=factory,
        memory_bytes=(centroids if on_disk else vectors) + count * _ROW_BYTES + words,
        disk_bytes=vectors + words + count * rates.catalog_bytes,
        work_bytes=count * (rates.catalog_bytes + rates.dimension * 4) + in_parts * (2 if on_disk else 1),
        hours=(count / rates.passages_per_second + building) / 3600,
        build_hours=building / 3600,
        recall_real=measured.get("real"),
        recall_synthetic=measured.get("synthetic"),
    )
