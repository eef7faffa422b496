"""What is told to OpenTelemetry: spans, metrics, no text; and nothing at all where it is not installed."""

from __future__ import annotations

import asyncio
import json
import logging
import shutil
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
from support.fresh import run_fresh

from biorerank_plugins._common.versions import install_line

pytest.importorskip("opentelemetry.sdk")

from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import StatusCode
from support.worker import run

from biorerank_plugins import BioReranker, Passage, PassageIndex, TwoStageSearch, telemetry
from biorerank_plugins.errors import ScoringError
from biorerank_plugins.runtime.tokens import EncodedPair
from biorerank_plugins.scoring.worker import BatchWorker

QUERY = "does p53 suppress tumours"
PASSAGES = [
    Passage("1", "aspirin inhibits platelets. it lowers the risk of heart failure.", title="aspirin"),
    Passage("2", "p53 suppresses tumours. the gene is tp53."),
    Passage("3", "insulin lowers glucose."),
]


class Told(NamedTuple):
    """What came out."""

    exporter: InMemorySpanExporter
    reader: InMemoryMetricReader
    tracer_provider: TracerProvider

    def spans(self) -> list[ReadableSpan]:
        return sorted(self.exporter.get_finished_spans(), key=lambda span: span.start_time or 0)

    def tree(self) -> list[tuple[str, str | None]]:
        """Return (name, name of the parent) by time of start."""
        names = {span.context.span_id: span.name for span in self.spans()}
        return [(span.name, names[span.parent.span_id] if span.parent else None) for span in self.spans()]

    def points(self, metric: str) -> list[Any]:
        data = self.reader.get_metrics_data()
        every = [m for r in data.resource_metrics for s in r.scope_metrics for m in s.metrics] if data else []
        return [point for one in every if one.name == f"biorerank.{metric}" for point in one.data.data_points]

    def counts(self, metric: str) -> dict[tuple[Any, ...], int]:
        """Return a counter's values by the values of its attributes, in the order of their names."""
        return {tuple(v for _, v in sorted(p.attributes.items())): p.value for p in self.points(metric)}


@pytest.fixture
def told() -> Iterator[Told]:
    tracing, reader = TracerProvider(), InMemoryMetricReader()
    exporter = InMemorySpanExporter()
    tracing.add_span_processor(SimpleSpanProcessor(exporter))
    metering = MeterProvider([reader])
    telemetry.configure(tracing, metering)
    yield Told(exporter, reader, tracing)
    telemetry.configure()
    tracing.shutdown()
    metering.shutdown()


@pytest.fixture
def reranker(tiny_cross_encoder_dir: Path) -> Iterator[BioReranker]:
    with BioReranker(tiny_cross_encoder_dir, device="cpu", dtype="float32", cache_bytes=1_000_000) as made:
        made.warm_up()
        yield made


def test_a_search_is_a_tree_of_spans(told: Told, reranker: BioReranker, tiny_encoder_dir: Path) -> None:
    from biorerank_plugins import BiEncoder

    with PassageIndex.build(PASSAGES, encoder=BiEncoder(tiny_encoder_dir, device="cpu")) as index:
        told.exporter.clear()
        TwoStageSearch(index, reranker).search(QUERY, candidates=2, evidence=1)
    assert told.tree() == [
        ("biorerank.search", None),
        ("biorerank.first_stage", "biorerank.search"),
        ("biorerank.rank", "biorerank.search"),
        ("biorerank.windows", "biorerank.rank"),
        ("biorerank.tokenise", "biorerank.rank"),
        ("biorerank.score", "biorerank.rank"),
        ("biorerank.evidence", "biorerank.rank"),
        ("biorerank.tokenise", "biorerank.evidence"),
        ("biorerank.score", "biorerank.evidence"),
    ]
    spans = {span.name: dict(span.attributes or {}) for span in told.spans()}
    assert spans["biorerank.search"] == {
        "biorerank.queries": 1,
        "biorerank.candidates": 2,
        "biorerank.filtered": False,
    }
    assert spans["biorerank.first_stage"] == {"biorerank.kind": "hybrid", "biorerank.found": 2}
    assert spans["biorerank.rank"] == {
        "biorerank.queries": 1,
        "biorerank.passages": 2,
        "biorerank.model": reranker.model_name,
        "biorerank.truncated": 0,
    }


def test_stage_durations_agree_with_the_spans(told: Told, reranker: BioReranker) -> None:
    reranker.rank_many([(QUERY, PASSAGES), ("what lowers glucose", PASSAGES)], evidence=2)
    seconds: Counter[str] = Counter()
    for span in told.spans():
        assert span.start_time and span.end_time
        seconds[span.name.removeprefix("biorerank.")] += (span.end_time - span.start_time) / 1e9
    measured = {point.attributes["biorerank.stage"]: point for point in told.points("stage.duration")}
    for name in ("windows", "tokenise", "score", "evidence", "rank"):
        assert measured[name].count == sum(span.name == f"biorerank.{name}" for span in told.spans())
        assert measured[name].sum == pytest.approx(seconds[name], abs=0.02)
    assert "error.type" not in measured["rank"].attributes


def test_batches_and_the_wait_for_them_are_measured(told: Told, tiny_cross_encoder_dir: Path) -> None:
    """What the tokenizer itself says is what the batches held; without padding each token is counted once."""
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(tiny_cross_encoder_dir)
    texts = [passage.text for passage in PASSAGES]
    expected = sum(len(tokenizer(QUERY, text)["input_ids"]) for text in texts)
    with BioReranker(
        tiny_cross_encoder_dir, device="cpu", dtype="float32", backend="packed", max_batch_tokens=40
    ) as reranker:
        reranker.score(QUERY, texts)
    (tokens,) = told.points("batch.tokens")
    assert tokens.sum == expected
    assert tokens.count >= 2
    assert tokens.max <= 40
    (waited,) = told.points("queue.duration")
    assert waited.count == 1  # one call, whatever the number of its batches
    (scored,) = (p for p in told.points("stage.duration") if p.attributes["biorerank.stage"] == "score")
    assert 0 <= waited.sum <= scored.sum + 0.05


def test_truncations_are_those_of_the_ranking(told: Told, tiny_cross_encoder_dir: Path) -> None:
    long = "heart failure in patients " * 60
    with BioReranker(tiny_cross_encoder_dir, device="cpu", windows=False, query_max_length=4) as reranker:
        ranking = reranker.rank("p53 is a tumour suppressor of cells", [long, "short", f"the {long}"])
    assert sum(line.truncated for line in ranking) == 2
    # The short text leaves room for the whole query.
    assert told.counts("truncations") == {("passage",): 2, ("query",): 2}


def test_lookups_are_those_that_the_cache_counts(told: Told, reranker: BioReranker, tiny_encoder_dir: Path) -> None:
    from biorerank_plugins import BiEncoder

    with PassageIndex.build(PASSAGES, encoder=BiEncoder(tiny_encoder_dir, device="cpu")) as index:
        search = TwoStageSearch(index, reranker)
        for query in (QUERY, "what lowers glucose", QUERY):
            search.search(query)
    info = reranker.cache_info()
    assert (info.hits, info.misses) == (3, 6)
    counts = told.counts("cache.lookups")
    assert counts == {("scores", True): 3, ("scores", False): 6}
    assert told.counts("fallbacks") == told.counts("memory.halvings") == {}


def test_a_batch_computed_again_in_fp32_is_counted(told: Told, tiny_cross_encoder_dir: Path, tmp_path: Path) -> None:
    """3.4e38 is a number in fp32, and infinite once it is rounded to bf16."""
    from safetensors.torch import load_file, save_file

    folder = Path(shutil.copytree(tiny_cross_encoder_dir, tmp_path / "model"))
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"hidden_act": "relu"}))
    weights = load_file(folder / "model.safetensors")
    weights["bert.encoder.layer.1.intermediate.dense.bias"].fill_(3.4e38)
    weights["bert.encoder.layer.1.output.dense.weight"] *= 1e-38
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    with BioReranker(folder, device="cpu", dtype="bfloat16", backend="packed") as half:
        assert np.isfinite(half.score(QUERY, ["p53", "cells and genes"])).all()
    (batches,) = told.points("batch.tokens")
    assert told.counts("fallbacks") == {(): batches.count}


def test_each_halving_is_counted(told: Told) -> None:
    refused = []

    def forward(pairs: list[EncodedPair]) -> Any:
        if len(pairs) > 2:
            refused.append(len(pairs))
            raise MemoryError("no room")
        return np.zeros(len(pairs), np.float32)

    ids = np.arange(5, dtype=np.int32)
    worker = BatchWorker(forward, 40)
    run(worker, [EncodedPair(ids, ids * 0, False, False)] * 8, lambda done: None)
    worker.close()
    assert refused == [8, 4, 4]
    assert told.counts("memory.halvings") == {(): 3}


class Quoting:
    """A model that fails, and says at what."""

    def logits(self, query: str, texts: list[str]) -> list[float]:
        if query.startswith("fail"):
            raise LookupError(f"cannot read {query}: {texts}")
        return [float("nan") if text.startswith("secret") else 0.0 for text in texts]


@pytest.mark.parametrize(
    ("query", "kind"), [("a secret question", "ScoringError"), ("fail at a secret question", "LookupError")]
)
def test_an_error_is_told_by_its_type_and_nothing_else(told: Told, query: str, kind: str) -> None:
    passages = ["a title. secret sentence of somebody", "another"]
    with BioReranker(Quoting()) as reranker, pytest.raises((ScoringError, LookupError), match="secret"):
        reranker.rank(query, passages, evidence=1)
    rank = next(span for span in told.spans() if span.name == "biorerank.rank")
    assert rank.status.status_code is StatusCode.ERROR
    assert (rank.attributes or {})["error.type"] == kind
    everything = "".join(span.to_json() for span in told.spans()) + told.reader.get_metrics_data().to_json()
    assert "secret" not in everything
    assert "another" not in everything


def test_no_text_is_told_when_all_is_well(told: Told, reranker: BioReranker) -> None:
    reranker.rank(QUERY, PASSAGES, evidence=2, min_score=0.1, deduplicate="text")
    everything = "".join(span.to_json() for span in told.spans()) + told.reader.get_metrics_data().to_json()
    words = {word.strip(".") for text in (QUERY, *(p.text for p in PASSAGES)) for word in text.split()}
    assert "biorerank.rank" in everything
    assert not [word for word in words if len(word) > 5 and word in everything]


def test_spans_of_tasks_stand_below_what_awaits_them(told: Told, reranker: BioReranker) -> None:
    tracer = told.tracer_provider.get_tracer("host")

    async def ask(name: str) -> None:
        with tracer.start_as_current_span(name):
            await reranker.arank(QUERY, PASSAGES)

    async def both() -> None:
        await asyncio.gather(ask("one"), ask("two"))

    asyncio.run(both())
    parents = [parent for name, parent in told.tree() if name == "biorerank.rank"]
    assert sorted(map(str, parents)) == ["one", "two"]


def test_providers_that_the_host_sets_later_are_used(tiny_cross_encoder_dir: Path) -> None:
    program = f"""
from biorerank_plugins import BioReranker
reranker = BioReranker({str(tiny_cross_encoder_dir)!r}, device="cpu")
reranker.rank("q", ["one"])
from opentelemetry import metrics, trace
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
provider, exporter, reader = TracerProvider(), InMemorySpanExporter(), InMemoryMetricReader()
provider.add_span_processor(SimpleSpanProcessor(exporter))
trace.set_tracer_provider(provider)
metrics.set_meter_provider(MeterProvider([reader]))
reranker.rank("q", ["two"])
names = [span.name for span in exporter.get_finished_spans()]
print(names.count("biorerank.rank"), "biorerank.stage.duration" in reader.get_metrics_data().to_json())
"""
    assert _printed(program) == "1 True"


HIDDEN = """
import importlib.abc, sys
class Hidden(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] == "opentelemetry":
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
sys.meta_path.insert(0, Hidden())
"""


def test_without_opentelemetry_everything_works_and_costs_next_to_nothing(tiny_cross_encoder_dir: Path) -> None:
    """What one call spends on it: some fifteen looks at a global, a millionth of a second each at most."""
    program = f"""{HIDDEN}
import timeit
from biorerank_plugins import BioReranker, telemetry
from biorerank_plugins.errors import MissingExtraError
with BioReranker({str(tiny_cross_encoder_dir)!r}, device="cpu", cache_bytes=1000) as reranker:
    print(len(reranker.rank("q", ["one", "two"], evidence=1)))
print(telemetry.enabled())
def hooks():
    with telemetry.stage("rank", passages=3):
        telemetry.note(passages=3)
    telemetry.count("fallbacks")
    telemetry.record("batch.tokens", 3)
print(min(timeit.repeat(hooks, number=1000, repeat=5)) < 0.02)  # 20 µs: far above what it is on any machine
try:
    telemetry.configure()
except MissingExtraError as error:
    print(error)
"""
    assert _printed(program).splitlines() == [
        "2",
        "False",
        "True",
        f"This needs the package 'opentelemetry', which is not installed. Install it with: {install_line('otel')}",
    ]


def test_the_package_is_imported_without_opentelemetry() -> None:
    program = (
        "import sys; from biorerank_plugins import BioReranker, TwoStageSearch; print('opentelemetry' in sys.modules)"
    )
    assert _printed(program) == "False"


def test_nothing_is_logged_by_telling(told: Told, reranker: BioReranker, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        reranker.rank(QUERY, PASSAGES, evidence=1)
        reranker.rank(QUERY, PASSAGES, evidence=1)
    assert caplog.records == []


def _printed(program: str) -> str:
    done = run_fresh(program)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()
