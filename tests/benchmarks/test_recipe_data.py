"""The script that builds the training data of the embedded models, run on a small collection made here."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pytest
from support.scripts import run_script

TOPICS = [f"gene{chr(97 + n)}{chr(98 + n)}x" for n in range(20)]


def _write(path: Path, rows: list[dict[str, Any]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with gzip.open(path, "wt", encoding="utf-8") as file:
        file.writelines(json.dumps(row) + "\n" for row in rows)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Twenty questions with two gold snippets and one abstract each; the last eight are for calib and dev."""
    root = tmp_path / "data"
    questions, corpus, abstracts, qrels = [], [], [], []
    for n, topic in enumerate(TOPICS):
        document = f"doc{n}"
        for s in range(2):
            corpus.append(
                {"id": f"p{n}{s}", "text": f"{topic} regulates process{n}x{s} within tissue{n}.", "document": document}
            )
            qrels.append(f"q{n}\tp{n}{s}\t1")
        answer = f"The protein {topic} regulates several processes of the cell."
        question = f"What is the role of {topic} in cells?"
        questions.append({"id": f"q{n}", "question": question, "documents": [document], "ideal_answer": [answer]})
        words = [f"{topic} regulates process{n}x0 within tissue{n}.", f"Background on {topic} is sparse."]
        words += [f"We measured sample {k} of {topic}." for k in range(4)]
        sentences = [{"text": text, "label": int(k == 0)} for k, text in enumerate(words)]
        abstracts.append({"qid": f"q{n}", "doc": document, "sentences": sentences})
    _write(root / "bioasq/corpus.jsonl.gz", corpus)
    # The last dev abstract is a training question's too: its question must not be in a reach task.
    abstracts[19] = {**abstracts[0], "qid": "q19"}
    for split, rows in {"train": slice(0, 12), "calib": slice(12, 16), "dev": slice(16, 20)}.items():
        _write(root / f"bioasq/{split}.jsonl.gz", questions[rows])
        _write(root / f"bioasq/indoc.{split}.jsonl.gz", abstracts[rows])
    (root / "bioasq/qrels.train.tsv").write_text("\n".join(qrels[:24]) + "\n")
    pairs = [
        {"question": f"What is {topic} disease?", "answer": f"{topic} disease is rare. " * 5, "focus": topic}
        for topic in TOPICS
    ]
    _write(root / "medquad/pairs.jsonl.gz", pairs)
    _write(root / "liveqa_medquad/corpus.jsonl.gz", [{"id": "1", "text": pairs[3]["answer"]}])
    return root


def test_reach_tasks_and_training_rows_share_nothing(
    data: Path, tiny_encoder_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    everything = [[p, 0.5 - p / 100] for p in range(40)]
    candidates = tmp_path / "candidates.json"
    candidates.write_text(json.dumps({f"q{n}": {"dense": everything, "bm25": everything} for n in range(20)}))
    out = tmp_path / "out"
    arguments = ["--data", data, "--candidates", candidates, "--encoder", tiny_encoder_dir, "--out", out]
    run_script("training.recipe_data", monkeypatch, *arguments, "--answers", "10")

    groups = [json.loads(line) for line in (out / "groups.jsonl").read_text().splitlines()]
    triples = [json.loads(line) for line in (out / "triples.jsonl").read_text().splitlines()]
    assert {group["source"] for group in groups} >= {
        "question-snippet",
        "claim-snippet",
        "question-sentence",
        "question-abstract",
        "claim-abstract",
        "question-answer",
    }
    held_out = [json.loads(line)["text"] for line in (out / "reach/phrase/queries.jsonl").read_text().splitlines()]
    diseases = [json.loads(line)["text"] for line in (out / "reach/answer/queries.jsonl").read_text().splitlines()]
    assert [phrase.split()[0] for phrase in held_out] == TOPICS[12:19]
    assert diseases
    trained = " ".join(group["query"] + group["positive"] for group in groups)
    trained += " ".join(triple["query"] + triple["positive"] for triple in triples)
    for topic in TOPICS[12:]:
        assert f"{topic} in cells" not in trained
        assert f"protein {topic}" not in trained
    assert not any(disease in trained for disease in diseases)
    assert f"{TOPICS[3]} disease is rare" not in trained  # an answer that LiveQA judges
    for group in groups:
        assert group["positive"] not in group["negatives"]
