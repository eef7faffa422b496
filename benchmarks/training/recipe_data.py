"""Build what the embedded models are trained on, and the dev tasks for reach that are kept apart from it.

    python -m benchmarks.training.recipe_data --data "$BIORERANK_DATA" --candidates build/candidates.json \\
        --encoder biorerank_plugins/models/… --out build/data

Writes ``groups.jsonl`` (query, positive, negatives: for the cross-encoder), ``triples.jsonl`` (for the bi-encoder) and
``reach/{claim,phrase,answer}`` (BEIR folders: claim -> abstract, phrase -> abstract, question -> long answer).
Claims and phrases are made of calib and dev questions; questions, evidence and diseases of the reach tasks appear in no
training row.
"""

from __future__ import annotations

import hashlib
import json
import logging
import random
import re
from collections import Counter, defaultdict
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.common import parser_of, read_rows, write_rows
from benchmarks.training.query_forms import claim_from_answer, phrase_from_question
from biorerank_plugins.readers import read_qrels
from biorerank_plugins.training.pairs import NegativeGuard, PairConfig, Question

SEED = 7
HELD_OUT_DISEASES = 0.10  # of MedQuAD's topics
REACH_ANSWERS = 4000  # long answers in the collection of the third task
# Groups of each kind that are kept: about 7 million tokens, an hour on two busy cores.
QUOTAS = {
    "question-snippet": 4200,
    "claim-snippet": 800,
    "phrase-snippet": 700,
    "question-sentence": 1800,
    "question-abstract": 700,
    "claim-abstract": 650,
    "phrase-abstract": 600,
    "cloze-abstract": 250,
    "question-answer": 900,
}
Found = list[tuple[int, float]]


def share(key: str) -> float:
    """A number in [0, 1) that depends on the key alone, so that a split never changes."""
    return int(hashlib.sha256(key.encode()).hexdigest()[:12], 16) / 16**12


def normal(text: str) -> str:
    return "".join(filter(str.isalnum, text.lower()))


class Search:
    """Dense and BM25 search over a small collection."""

    def __init__(self, encoder: Any, texts: list[str], vectors: Any = None) -> None:
        import bm25s
        import Stemmer

        self.encoder, self.texts = encoder, texts
        self.vectors = vectors if vectors is not None else self.embed(texts)
        self.stemmer = Stemmer.Stemmer("english")
        self.bm25 = bm25s.BM25(k1=0.9, b=0.4)
        self.bm25.index(
            bm25s.tokenize(texts, stopwords="en", stemmer=self.stemmer, show_progress=False), show_progress=False
        )

    def embed(self, texts: list[str]) -> Any:
        return self.encoder.encode(texts, normalize_embeddings=True, batch_size=64).astype(np.float32)

    def __call__(self, queries: list[str], k: int) -> list[tuple[Found, Found]]:
        import bm25s

        k = min(k, len(self.texts))
        tokens = bm25s.tokenize(queries, stopwords="en", stemmer=self.stemmer, show_progress=False)
        positions, scores = self.bm25.retrieve(tokens, k=k, show_progress=False)
        similarity = self.embed(queries) @ self.vectors.T
        best = np.argsort(-similarity, axis=1)[:, :k]
        return [
            (
                [(int(p), float(similarity[i, p])) for p in best[i]],
                [(int(p), float(s)) for p, s in zip(positions[i], scores[i], strict=True) if s > 0],
            )
            for i in range(len(queries))
        ]


def merged(dense: Found, lexical: Found) -> list[int]:
    """Positions of both lists, turn by turn."""
    order: dict[int, None] = {}
    for rank in range(max(len(dense), len(lexical))):
        for found in (dense, lexical):
            if rank < len(found):
                order[int(found[rank][0])] = None
    return list(order)


class Builder:
    def __init__(self, data: Path, candidates: Path | None, encoder: Any) -> None:
        self.data, self.encoder = data, encoder
        self.draw = random.Random(SEED)
        bioasq = data / "bioasq"
        corpus = read_rows(bioasq / "corpus.jsonl.gz")
        self.texts = [row["text"] for row in corpus]
        self.documents = [row["document"] for row in corpus]
        position = {row["id"]: n for n, row in enumerate(corpus)}
        gold = {q: frozenset(position[p] for p in g) for q, g in read_qrels(bioasq / "qrels.train.tsv").items()}
        self.records = {row["id"]: row for row in read_rows(bioasq / "train.jsonl.gz")}
        self.questions = {
            q: Question(q, row["question"], gold.get(q, frozenset()), frozenset(row["documents"] or ()))
            for q, row in self.records.items()
        }
        for split in ("calib", "dev"):  # for the reach tasks only
            self.records |= {row["id"]: row for row in read_rows(bioasq / f"{split}.jsonl.gz")}
        self.mined: dict[str, Any] = {} if candidates is None else json.loads(candidates.read_text())
        self.split_abstracts()
        self.groups: list[dict[str, Any]] = []
        self.triples: list[dict[str, Any]] = []

    def split_abstracts(self) -> None:
        """All known abstracts are the collection of two reach tasks, whose queries come from calib and dev."""
        rows = [
            (s, row) for s in ("train", "calib", "dev") for row in read_rows(self.data / f"bioasq/indoc.{s}.jsonl.gz")
        ]
        by_text: dict[str, int] = {}
        self.abstracts: list[str] = []
        self.evidence: dict[str, set[int]] = defaultdict(set)  # question -> abstracts with evidence
        self.sentences: dict[str, list[list[dict[str, Any]]]] = defaultdict(list)
        of_split: dict[str, set[int]] = defaultdict(set)
        self.held_out: set[str] = set()
        for split, row in rows:
            text = " ".join(s["text"] for s in row["sentences"])
            number = by_text.setdefault(normal(text), len(self.abstracts))
            if number == len(self.abstracts):
                self.abstracts.append(text)
            of_split[split].add(number)
            if any(s["label"] for s in row["sentences"]):
                self.evidence[row["qid"]].add(number)
                self.sentences[row["qid"]].append(row["sentences"])
                if split != "train":
                    self.held_out.add(row["qid"])
        # A held-out question whose abstract a training question shares was seen in training: it measures nothing.
        self.held_out = {q for q in self.held_out if not self.evidence[q] & of_split["train"]}
        self.open = list(self.questions.values())
        self.trainable = sorted({a for q in self.open for a in self.evidence.get(q.id, ())})

    def claim(self, question_id: str) -> str | None:
        for answer in self.records[question_id].get("ideal_answer") or ():
            claim = claim_from_answer(answer)
            if claim:
                return claim
        return None

    def negatives(self, ranked: list[int], n_hard: int, n_deep: int, hard: int, deep: int) -> list[int]:
        first, rest = ranked[:hard], ranked[hard:deep]
        chosen = self.draw.sample(first, min(n_hard, len(first)))
        return chosen + self.draw.sample(rest, min(n_deep + n_hard - len(chosen), len(rest)))

    def add(self, source: str, query: str, positive: str, negatives: list[str]) -> None:
        if negatives:
            self.groups.append({"source": source, "query": query, "positive": positive, "negatives": negatives})

    def snippet_groups(self, per_question: int) -> None:
        """Question -> snippet, with passages of other questions that both first stages find."""
        guard = NegativeGuard(self.texts, self.documents, PairConfig())
        for question in self.open:
            found = self.mined[question.id]
            scores = dict(map(tuple, found["dense"]))
            ranked = [p for p in merged(found["dense"], found["bm25"]) if guard.admits(question, p, scores)]
            gold = sorted(question.gold)
            self.draw.shuffle(gold)
            claim, phrase = self.claim(question.id), phrase_from_question(question.text)
            forms = [("question-snippet", question.text)] * per_question
            forms += [("claim-snippet", claim)] if claim else []
            forms += [("phrase-snippet", phrase)] if phrase and self.draw.random() < 0.5 else []
            for number, (source, query) in enumerate(forms):
                if not gold or (source == "question-snippet" and number >= len(gold)):
                    continue
                positive = gold[number % len(gold)]
                negatives = self.negatives(ranked, 4, 2, 40, 200)
                self.add(source, query, self.texts[positive], [self.texts[p] for p in negatives])
            for positive in gold[:8]:
                hard = self.draw.choice(ranked[5:60]) if len(ranked) > 5 else self.draw.randrange(len(self.texts))
                form = claim if claim and self.draw.random() < 0.15 else question.text
                form = phrase if phrase and self.draw.random() < 0.1 else form
                self.triples.append(
                    {
                        "topic": question.id,
                        "query": form,
                        "positive": self.texts[positive],
                        "negative": self.texts[hard],
                    }
                )

    def sentence_groups(self) -> None:
        """Question -> sentence that is evidence, against the other sentences of the same abstract."""
        for question in self.open:
            for abstract in self.sentences.get(question.id, ()):
                positives = [s["text"] for s in abstract if s["label"]]
                negatives = [s["text"] for s in abstract if not s["label"]]
                if positives and negatives:
                    chosen = self.draw.sample(negatives, min(6, len(negatives)))
                    self.add("question-sentence", question.text, self.draw.choice(positives), chosen)

    def abstract_groups(self) -> None:
        """Question, claim and phrase -> whole abstract."""
        texts = [self.abstracts[a] for a in self.trainable]
        search = Search(self.encoder, texts)
        forms = []
        for question in self.open:
            own = sorted(self.evidence.get(question.id, set()) & set(self.trainable))
            if not own:
                continue
            made = {
                "question": question.text,
                "claim": self.claim(question.id),
                "phrase": phrase_from_question(question.text),
            }
            forms += [(form, text, own, question) for form, text in made.items() if text]
        for (form, text, own, question), (dense, lexical) in zip(forms, search([f[1] for f in forms], 60), strict=True):
            ranked = [p for p in merged(dense, lexical) if self.trainable[p] not in own]
            for positive in self.draw.sample(own, min(len(own), 2)):
                negatives = self.negatives(ranked, 3, 1, 12, 60)
                self.add(f"{form}-abstract", text, self.abstracts[positive], [texts[p] for p in negatives])
                hard = texts[self.draw.choice(ranked[2:30])]
                self.triples.append(
                    {"topic": question.id, "query": text, "positive": self.abstracts[positive], "negative": hard}
                )
        # Inverse cloze (Lee et al. 2019): a sentence is a claim that the rest of its abstract speaks of.
        cloze = []
        for a in self.draw.sample(self.trainable, min(700, len(self.trainable))):
            parts = re.split(r"(?<=[.!?])\s+(?=[A-Z])", self.abstracts[a])
            if len(parts) >= 5:
                at = self.draw.randrange(1, len(parts))
                cloze.append((a, parts[at], " ".join(parts[:at] + parts[at + 1 :])))
        for (a, sentence, rest), (dense, lexical) in zip(cloze, search([c[1] for c in cloze], 60), strict=True):
            ranked = [p for p in merged(dense, lexical) if self.trainable[p] != a]
            self.add("cloze-abstract", sentence, rest, [texts[p] for p in self.negatives(ranked, 3, 1, 12, 60)])

    def medquad(self) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
        """MedQuAD's pairs of the diseases held out, and those to train on.

        LiveQA's answers come from the same pages and are in neither.
        """
        judged = {normal(row["text"]) for row in read_rows(self.data / "liveqa_medquad/corpus.jsonl.gz")}
        pairs = [row for row in read_rows(self.data / "medquad/pairs.jsonl.gz") if len(row["answer"]) >= 60]
        dev = [row for row in pairs if share(normal(row["focus"] or "")) < HELD_OUT_DISEASES]
        train = [
            r
            for r in pairs
            if share(normal(r["focus"] or "")) >= HELD_OUT_DISEASES and normal(r["answer"]) not in judged
        ]
        closed = {normal(r["answer"]) for r in dev} | {normal(r["question"]) for r in dev}
        return dev, [r for r in train if not {normal(r["answer"]), normal(r["question"])} & closed]

    def answers(self, out: Path, n_groups: int) -> None:
        """MedQuAD: question -> long answer."""
        dev, train = self.medquad()
        texts = list(dict.fromkeys(row["answer"] for row in train))
        number = {text: n for n, text in enumerate(texts)}
        own: dict[str, set[int]] = defaultdict(set)
        for row in train:
            own[normal(row["question"])].add(number[row["answer"]])
        search = Search(self.encoder, texts, self.embed_cut(texts))
        chosen = self.draw.sample(train, min(n_groups, len(train)))
        for row, (dense, lexical) in zip(chosen, search([r["question"] for r in chosen], 60), strict=True):
            key = normal(row["question"])
            ranked = [p for p in merged(dense, lexical) if p not in own[key]]
            negatives = [texts[p] for p in self.negatives(ranked, 3, 1, 10, 60)]
            # Some answers begin with their question: a shortcut that no user's passages have.
            head = row["question"].rstrip(" ?")
            positive = row["answer"]
            if positive.lower().startswith(head.lower()[:40]) and "?" in positive[:300]:
                positive = positive.split("?", 1)[1].strip() or positive
            self.add("question-answer", row["question"], positive, negatives)
            hard = texts[self.draw.choice(ranked[1:30])]
            self.triples.append({"topic": key, "query": row["question"], "positive": positive, "negative": hard})
        self.reach_answers(out, dev, train)

    def keep_quotas(self) -> None:
        kept = []
        for source, quota in QUOTAS.items():
            groups = [group for group in self.groups if group["source"] == source]
            kept += self.draw.sample(groups, min(quota, len(groups)))
        self.groups = kept

    def embed_cut(self, texts: list[str]) -> Any:
        return self.encoder.encode([t[:800] for t in texts], normalize_embeddings=True, batch_size=64).astype(
            np.float32
        )

    def reach_answers(self, out: Path, dev: list[dict[str, Any]], train: list[dict[str, Any]]) -> None:
        draw = random.Random(SEED)
        others = draw.sample(train, min(len(train), max(0, REACH_ANSWERS - len(dev))))
        texts = list(dict.fromkeys(row["answer"] for row in dev + others))
        qrels: dict[str, dict[int, int]] = defaultdict(dict)
        place = {text: n for n, text in enumerate(texts)}
        for row in dev:
            qrels[row["question"]][place[row["answer"]]] = 1
        asked = draw.sample(sorted(qrels), min(400, len(qrels)))
        write_beir(out / "answer", texts, asked, [qrels[q] for q in asked])

    def reach_abstracts(self, out: Path) -> None:
        for name in ("claim", "phrase"):
            asked, grades = [], []
            for q in sorted(self.held_out):
                text = self.claim(q) if name == "claim" else phrase_from_question(self.records[q]["question"])
                if text:
                    asked.append(text)
                    grades.append(dict.fromkeys(self.evidence[q], 1))
            write_beir(out / name, self.abstracts, asked, grades)


def write_beir(folder: Path, texts: list[str], queries: list[str], grades: list[dict[int, int]]) -> None:
    (folder / "qrels").mkdir(parents=True, exist_ok=True)
    write_rows(folder / "corpus.jsonl", [{"_id": f"d{n}", "title": "", "text": text} for n, text in enumerate(texts)])
    write_rows(folder / "queries.jsonl", [{"_id": f"q{n}", "text": text} for n, text in enumerate(queries)])
    rows = [f"q{n}\td{d}\t{g}" for n, judged in enumerate(grades) for d, g in judged.items()]
    (folder / "qrels/test.tsv").write_text("query-id\tcorpus-id\tscore\n" + "\n".join(rows) + "\n", encoding="utf-8")
    logging.info("%s: %d queries, %d passages, %d judgements", folder.name, len(queries), len(texts), len(rows))


def main() -> None:
    parser = parser_of(__doc__)
    parser.add_argument("--data", type=Path, required=True, help="folder with bioasq/, medquad/, liveqa_medquad/")
    parser.add_argument(
        "--candidates", type=Path, required=True, help="first-stage candidates of the training questions"
    )
    parser.add_argument("--encoder", type=Path, required=True, help="bi-encoder that finds negatives")
    parser.add_argument("--answers", type=int, default=2500, help="groups made of long answers")
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    from sentence_transformers import SentenceTransformer

    encoder = SentenceTransformer(str(args.encoder), device="cpu", model_kwargs={"dtype": "bfloat16"})
    args.out.mkdir(parents=True, exist_ok=True)
    builder = Builder(args.data, args.candidates, encoder)
    builder.reach_abstracts(args.out / "reach")
    builder.snippet_groups(per_question=4)
    builder.sentence_groups()
    builder.abstract_groups()
    builder.answers(args.out / "reach", n_groups=args.answers)
    builder.keep_quotas()
    held_out = {normal(r["question"]) for s in ("calib", "dev") for r in read_rows(args.data / f"bioasq/{s}.jsonl.gz")}
    for rows in (builder.groups, builder.triples):
        leaked = [row["query"] for row in rows if normal(row["query"]) in held_out]
        if leaked:
            raise SystemExit(f"{len(leaked)} training queries are in calib or dev, for example {leaked[0]!r}.")
    for name, rows in (("groups", builder.groups), ("triples", builder.triples)):
        write_rows(args.out / f"{name}.jsonl", rows)
    by_source = Counter(row["source"] for row in builder.groups)
    statistics = {
        "groups": dict(by_source),
        "triples": len(builder.triples),
        "held_out_questions": len(builder.held_out),
    }
    (args.out / "statistics.json").write_text(json.dumps(statistics, indent=1), encoding="utf-8")
    logging.info("%s", statistics)


if __name__ == "__main__":
    main()
