"""First step of the embedded cross-encoder: mine pairs from the BioASQ training questions, fine-tune, save as fp16.

    python -m benchmarks.training.train_embedded --data "$BIORERANK_DATA/bioasq" --out build/minilm \\
        --base all-MiniLM-L6-v2-folder

Takes about an hour on two cores. Every step is kept in ``--out`` and reused when the script is started again.
"""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

from benchmarks.common import parser_of, read_rows
from benchmarks.training.export import export_fp16
from biorerank_plugins.readers import read_qrels
from biorerank_plugins.training.pairs import Abstract, PairConfig, Question, abstract_pairs, mined_pairs
from biorerank_plugins.training.rows import describe
from biorerank_plugins.training.trainer import TrainConfig, train

DEPTH = 200


def read_questions(data: Path, split: str, position: dict[str, int]) -> list[Question]:
    gold = {
        question_id: {position[passage_id] for passage_id in grades}
        for question_id, grades in read_qrels(data / f"qrels.{split}.tsv").items()
    }
    return [
        Question(row["id"], row["question"], frozenset(gold.get(row["id"], ())), frozenset(row["documents"] or ()))
        for row in read_rows(data / f"{split}.jsonl.gz")
    ]


def mine(questions: list[Question], texts: list[str], base: Path, cache: Path) -> dict[str, dict[str, list[Any]]]:
    """First-stage candidates of both kinds for each question: {id: {"dense": [(position, score)], "bm25": […]}}."""
    if cache.exists():
        mined: dict[str, dict[str, list[Any]]] = json.loads(cache.read_text())
        return mined
    import bm25s
    import Stemmer
    from sentence_transformers import SentenceTransformer

    encoder = SentenceTransformer(str(base), device="cpu").bfloat16()
    passages = encoder.encode(texts, normalize_embeddings=True, convert_to_tensor=True, show_progress_bar=True).float()
    queries = encoder.encode([q.text for q in questions], normalize_embeddings=True, convert_to_tensor=True).float()
    stemmer = Stemmer.Stemmer("english")
    bm25 = bm25s.BM25(k1=0.9, b=0.4)
    bm25.index(bm25s.tokenize(texts, stopwords="en", stemmer=stemmer))
    found, lexical = bm25.retrieve(
        bm25s.tokenize([q.text for q in questions], stopwords="en", stemmer=stemmer), k=DEPTH
    )
    mined = {}
    for i, question in enumerate(questions):
        dense = (passages @ queries[i]).topk(DEPTH)
        mined[question.id] = {
            "dense": [(int(p), float(s)) for s, p in zip(*dense, strict=True)],
            "bm25": [(int(p), float(s)) for p, s in zip(found[i], lexical[i], strict=True)],
        }
    cache.write_text(json.dumps(mined))
    return mined


def similar_questions(questions: list[Question], mined: dict[str, dict[str, list[Any]]]) -> dict[str, list[str]]:
    """For each question, others whose gold passages it retrieves, most first; none that shares a document."""
    owner: dict[int, list[Question]] = {}
    for question in questions:
        for gold in question.gold:
            owner.setdefault(gold, []).append(question)
    similar = {}
    for question in questions:
        votes: dict[str, int] = {}
        for found, _ in mined[question.id]["dense"]:
            for other in owner.get(found, []):
                if other.id != question.id and not other.documents & question.documents:
                    votes[other.id] = votes.get(other.id, 0) + 1
        similar[question.id] = sorted(votes, key=lambda other: -votes[other])
    return similar


def main() -> None:
    parser = parser_of(__doc__)
    parser.add_argument("--data", type=Path, required=True, help="folder with train.jsonl.gz, corpus.jsonl.gz, …")
    parser.add_argument("--base", type=Path, required=True, help="folder of the weights to start from")
    parser.add_argument("--out", type=Path, required=True, help="working folder; a run that was stopped resumes")
    args = parser.parse_args()
    logging.basicConfig(level=logging.INFO)
    args.out.mkdir(parents=True, exist_ok=True)

    corpus = read_rows(args.data / "corpus.jsonl.gz")
    texts = [row["text"] for row in corpus]
    position = {row["id"]: number for number, row in enumerate(corpus)}
    questions = read_questions(args.data, "train", position)
    mined = mine(questions, texts, args.base, args.out / "candidates.json")
    abstracts = [
        Abstract(row["qid"], tuple(s["text"] for s in row["sentences"]), tuple(s["label"] for s in row["sentences"]))
        for row in read_rows(args.data / "indoc.train.jsonl.gz")
    ]
    config = PairConfig()
    rows = mined_pairs(
        questions,
        texts,
        [row["document"] for row in corpus],
        {q.id: mined[q.id]["dense"] for q in questions},
        {q.id: mined[q.id]["bm25"] for q in questions},
        config,
    ) + abstract_pairs(questions, abstracts, similar_questions(questions, mined), config)
    # Normalised text: a question of the held-out splits must not be among the training questions.
    held_out = {
        "".join(filter(str.isalnum, r["question"].lower()))
        for s in ("calib", "dev")
        for r in read_rows(args.data / f"{s}.jsonl.gz")
    }
    leaked = {row.question for row in rows if "".join(filter(str.isalnum, row.question.lower())) in held_out}
    if leaked:
        raise SystemExit(f"{len(leaked)} training questions are in calib or dev: {sorted(leaked)[:3]}")
    statistics = describe(rows)
    (args.out / "pairs.json").write_text(json.dumps(statistics, indent=1))
    logging.info("Rows: %s", statistics)
    train(args.base, rows, args.out, TrainConfig())
    export_fp16(args.out / "model", args.out / "embedded")


if __name__ == "__main__":
    main()
