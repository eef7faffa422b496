"""The scripts of ``benchmarks/`` on tiny models and data."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest
from support.scripts import run_script

from biorerank_plugins import BiEncoder, Passage, PassageIndex

TEXTS = {
    "p1": "p53 suppresses tumours.",
    "p2": "aspirin inhibits platelets in heart failure.",
    "p3": "metformin lowers glucose.",
    "p4": "insulin binds the receptor of the cells.",
    "p5": "brca1 mutation raises cancer risk in patients.",
}
QUESTIONS = {"q1": "does p53 suppress tumours?", "q2": "what lowers glucose?", "q3": "which drug inhibits platelets?"}


def _write(path, rows):
    with gzip.open(path, "wt", encoding="utf-8") as file:
        file.writelines(json.dumps(row) + "\n" for row in rows)


@pytest.fixture
def data(tmp_path):
    folder = tmp_path / "bioasq"
    folder.mkdir()
    _write(folder / "corpus.jsonl.gz", [{"id": id_, "text": text} for id_, text in TEXTS.items()])
    _write(folder / "dev.jsonl.gz", [{"id": id_, "question": text} for id_, text in QUESTIONS.items()])
    (folder / "qrels.dev.tsv").write_text("q1\tp1\t1\nq2\tp3\t1\nq3\tp2\t1\n")
    return tmp_path


def _index(folder, encoder):
    index = PassageIndex.build([Passage(id_, text) for id_, text in TEXTS.items()], encoder=encoder)
    index.save(folder)
    index.close()
    return folder


@pytest.fixture
def gate(data, tmp_path, tiny_encoder_dir, tiny_cross_encoder_dir, monkeypatch):
    index = _index(tmp_path / "index", BiEncoder(tiny_encoder_dir, device="cpu"))
    out = tmp_path / "gate.json"

    def run(*arguments):
        given = ("--data", data, "--index", index, "--model", tiny_cross_encoder_dir, "--device", "cpu", "--out", out)
        code = run_script("quality.quality_gate", monkeypatch, *given, *arguments)
        return code, json.loads(out.read_text())

    return run


def test_the_gate_holds_for_fp32(gate, tmp_path, capsys):
    code, found = gate("--path", "ours-torch-float32", "--runs", tmp_path / "runs")
    assert code == 0
    assert (found["questions"], found["reference"]["pairs"]) == (3, 15)
    path = found["paths"]["ours-torch-float32"]
    assert path["passed"] and path["delta"] == 0 and path["largest"] < 1e-4
    assert path["neighbours"]["pairs"] == 15
    assert "held (0.002)" in capsys.readouterr().out
    assert (tmp_path / "runs" / "ours-torch-float32.trec").is_file()


def test_the_gate_fails_where_no_path_is_possible(gate):
    code, found = gate("--path", "ours-torch-float16")
    assert code == 1
    assert "float16" in found["not_possible"]["ours-torch-float16"]


def test_both_stages_are_timed(data, tmp_path, monkeypatch, capsys):
    index, out = _index(tmp_path / "index", BiEncoder(device="cpu")), tmp_path / "two.json"
    given = ("--data", data, "--index", index, "--questions", 2, "--candidates", 3, "--out", out)
    run_script("speed.two_stage", monkeypatch, *given, "--system", "torch-float32")
    found = json.loads(out.read_text())
    assert found["questions"] == 2 and found["failed"] == {} and found["not_possible"] == {}
    names = ["sentence-transformers + FAISS", "ours, dense, torch float32", "ours, hybrid, torch float32"]
    assert list(found["systems"]) == names
    assert found["systems"][names[1]]["same_top_10_first_question"] == 3
    assert "p50 / theirs" in capsys.readouterr().out


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="memory is read from Linux's /proc")
def test_memory_is_measured_in_a_process_of_its_own(tiny_cross_encoder_dir, tmp_path, monkeypatch):
    out = tmp_path / "memory.json"
    given = ("--pairs", 300, "--questions", 5, "--model", tiny_cross_encoder_dir, "--out", out)
    code = run_script("speed.memory", monkeypatch, *given, "--system", "torch-float32", "--system", "torch-float16")
    found, refused = json.loads(out.read_text())
    assert found["different_texts"] == 300
    assert found["passed"] and 0 <= found["over_model_bytes"] < 300e6 < found["with_model_bytes"]
    assert "float16" in refused["not_possible"] and code == 1


def test_the_tables_of_the_readme(tmp_path, monkeypatch, capsys):
    system = {"ratio": 4.0, "pairs_per_second": 1234.5}
    comparison = {
        "mix": "bioasq",
        "candidates": 100,
        "rounds": 5,
        "tokens_a_pair": {"mean": 66.6},
        "systems": {"predict": {"ratio": 1.0, "pairs_per_second": 308.6}, "ours-packed-int8": system},
    }
    part = {
        "machine": {"cpu": "a CPU", "threads": 2, "device": "cpu"},
        "model": {"name": "bert-base", "random_weights": True},
        "comparisons": [comparison],
    }
    (tmp_path / "speed.json").write_text(json.dumps({"bert-base-bioasq-100": part}))
    run_script("speed.speed", monkeypatch, "--table", tmp_path / "speed.json")
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].endswith("(a CPU, threads: 2, device: cpu; medians, rounds: 5)")
    assert lines[2] == "|  | bert-base, bioasq (67 tokens), 100 |"
    assert "| **ours**, packed int8 | 4.00x |" in lines
    assert "| **ours**, packed int8 | 1,234 |" in lines
