"""``biorerank calibrate``: what it stores is what the library fits, and the model then uses it."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import Result

from biorerank_plugins import BiEncoder, BioReranker, PassageIndex, TwoStageSearch
from biorerank_plugins.evaluation.calibrate import calibrate, judge
from biorerank_plugins.readers import read_passages, read_qrels, read_queries

Run = Callable[..., Result]


@pytest.fixture
def model(tiny_cross_encoder_dir: Path, tmp_path: Path) -> Path:
    """A model whose logits are turned round where that ranks the relevant passages first."""
    folder = tmp_path / "model"
    shutil.copytree(tiny_cross_encoder_dir, folder)
    (folder / "biorerank.json").write_text('{"fusion": {"lexical": 2.0}}', encoding="utf-8")
    return folder


@pytest.fixture
def judged_collection(model: Path, tiny_encoder_dir: Path, collection: Path, tmp_path: Path) -> Path:
    """The collection, with judgements that agree with the model more often than not."""
    folder = tmp_path / "judged"
    shutil.copytree(collection, folder)
    reranker = BioReranker(model, device="cpu", dtype="float32")
    passages = list(read_passages(folder / "corpus.jsonl"))
    lines = ["query-id\tcorpus-id\tscore"]
    for number, query in enumerate(read_queries(folder / "queries.jsonl")):
        ranking = reranker.rank(query.text, passages, fusion=None)
        lines += [f"{query.id}\t{ranking[place].passage.id}\t1" for place in (number, 3)]
    (folder / "qrels/test.tsv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return folder


def test_what_is_stored_is_what_the_library_fits(
    run: Run, model: Path, tiny_encoder_dir: Path, judged_collection: Path, tmp_path: Path
):
    options = ("--beir", judged_collection, "--encoder", tiny_encoder_dir, "--dtype", "float32", "--device", "cpu")
    result = run("calibrate", model, *options, "--depth", 6, "--json", "--plot", tmp_path / "plot.png")
    assert result.exit_code == 0, result.output
    document = json.loads(result.stdout)
    encoder = BiEncoder(tiny_encoder_dir, device="cpu", dtype="float32")
    index = PassageIndex.build(read_passages(judged_collection / "corpus.jsonl"), encoder=encoder)
    search = TwoStageSearch(index, BioReranker(model, device="cpu", dtype="float32"))
    queries, qrels = read_queries(judged_collection / "queries.jsonl"), read_qrels(judged_collection / "qrels/test.tsv")
    fitted = calibrate(judge(search, queries, qrels), depth=6)
    stored = json.loads((model / "biorerank.json").read_text(encoding="utf-8"))
    assert stored["fusion"] == {"lexical": 2.0}
    for name, value in fitted.to_dict().items():
        assert stored["calibration"][name] == pytest.approx(value, rel=1e-3)
    assert document["calibration"] == stored["calibration"]
    assert (tmp_path / "plot.png").read_bytes()[:4] == b"\x89PNG"
    assert BioReranker(model).calibration.slope == stored["calibration"]["slope"]


def test_a_dry_run_writes_nothing(run: Run, model: Path, tiny_encoder_dir: Path, judged_collection: Path):
    before = (model / "biorerank.json").read_bytes()
    result = run(
        "calibrate", model, "--beir", judged_collection, "--encoder", tiny_encoder_dir, "--depth", 6, "--dry-run"
    )
    assert result.exit_code == 0, result.output
    assert "Brier" in result.stdout
    assert (model / "biorerank.json").read_bytes() == before


@pytest.mark.parametrize("name", ["biorerank-minilm-l6", "no-such-folder"])
def test_only_a_folder_of_ones_own_is_written_to(run: Run, judged_collection: Path, name: str):
    result = run("calibrate", name, "--beir", judged_collection)
    assert result.exit_code == 2
    assert "--dry-run" in result.stderr
