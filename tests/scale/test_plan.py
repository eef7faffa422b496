"""The plan: sizes and hours follow from measured rates, and sizes are those of indexes that were built."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from support.first_stage import WordEncoder, collection

from biorerank_plugins import PassageIndex
from biorerank_plugins.errors import ReaderError
from biorerank_plugins.scale.planning import Rates, lists_for, measure_rates, plan, sample_passages


@pytest.fixture(scope="module")
def rates() -> Rates:
    return measure_rates(collection(300), WordEncoder())


def test_planned_sizes_are_those_of_a_built_index(rates, tmp_path: Path):
    passages = collection(5000)
    for factory in ("Flat", "HNSW32", "HNSW32_SQ8"):
        index = PassageIndex.build(passages, encoder=WordEncoder(), factory=factory)
        index.save(tmp_path / factory)
        version = next((tmp_path / factory).glob("v*"))
        sizes = {path.name: path.stat().st_size for path in version.iterdir()}
        planned = {one.name: one for one in plan(5000, rates).indexes}[factory]
        assert planned.disk_bytes == pytest.approx(sum(sizes.values()), rel=0.1)
        assert rates.bytes_per_vector[factory] * 5000 == pytest.approx(sizes["vectors.faiss"], rel=0.05)
        assert planned.memory_bytes >= sizes["vectors.faiss"]


def test_hours_and_sizes_by_hand():
    rates = Rates(
        dimension=384,
        passages_per_second=100.0,
        staged_per_second=1000.0,
        catalog_bytes=1500.0,
        lexical_bytes=300.0,
        lexical_per_second=500.0,
        distances_per_second=1e9,
        codes_per_second=1e5,
        graph_per_second=500.0,
        bytes_per_vector={
            name: size
            for name, size in (
                ("Flat", 1536.0),
                ("HNSW32", 1800.0),
                ("HNSW32_SQ8", 650.0),
                ("IVF,Flat", 1544.0),
                ("IVF,PQ", 56.0),
                ("IVF,PQ,Refine(SQ8)", 440.0),
            )
        },
    )
    made = plan(1_000_000, rates)
    flat, disk = made.indexes[0], made.indexes[5]
    assert flat.build_hours * 3600 == pytest.approx(1e6 / 1000 + 1e6 / 500)
    assert flat.hours * 3600 == pytest.approx(1e6 / 100 + 1e6 / 1000 + 1e6 / 500)
    assert flat.memory_bytes == 1e6 * (1536 + 9 + 300)
    assert flat.disk_bytes == 1e6 * (1536 + 300 + 1500)
    assert disk.name == "IVF4096,PQ48 (on disk)"
    assert disk.memory_bytes == 4096 * 384 * 4 + 1e6 * (9 + 300)
    assert disk.disk_bytes == 4096 * 384 * 4 + 1e6 * (56 + 300 + 1500)
    training = 10 * 4096 * 64
    more = (training + 1e6) * 4096 / 1e9 + 1e6 / 1e5
    assert disk.build_hours == pytest.approx(flat.build_hours + more / 3600)
    assert json.loads(json.dumps(made.to_dict()))["passages"] == 1_000_000


def test_more_passages_take_more_of_everything(rates):
    small, large = plan(1_000_000, rates), plan(100_000_000, rates)
    for one, other in zip(small.indexes, large.indexes, strict=True):
        assert other.memory_bytes > 50 * one.memory_bytes
        assert other.hours > 99 * one.hours
    flat, _, _, _, coded, on_disk, refined = large.indexes
    assert on_disk.memory_bytes < coded.memory_bytes < refined.memory_bytes < flat.memory_bytes


def test_rates_are_measured(rates):
    measured = rates.to_dict()
    assert measured.pop("dimension") == 16
    assert all(value > 0 for value in measured.pop("bytes_per_vector").values())
    assert all(np.isfinite(value) and value > 0 for value in measured.values())
    assert rates.bytes_per_vector["Flat"] == pytest.approx(64, rel=0.01)


@pytest.mark.parametrize(("count", "lists"), [(1, 16), (55_000, 1024), (1_000_000, 4096), (100_000_000, 32_768)])
def test_lists_grow_with_the_root(count, lists):
    assert lists_for(count) == lists


def test_passages_to_measure_with(tmp_path: Path):
    assert len(sample_passages()) > 200
    (tmp_path / "a.jsonl").write_text('{"_id": "1", "text": "fine"}\n{"_id": "2", "text": "good"}\n')
    assert [one.text for one in sample_passages([tmp_path / "a.jsonl"], 1)] == ["fine"]
    (tmp_path / "b.jsonl").write_text("{}\n")
    with pytest.raises(ReaderError):
        sample_passages([tmp_path / "b.jsonl"])
