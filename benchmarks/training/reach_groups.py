"""Build the groups of the cross-encoder's reach stage: every form of question the data has, negatives of three first
stages.

    python -m benchmarks.training.reach_groups --data "$BIORERANK_DATA" --out build/groups-reach.jsonl

Kinds: what BioASQ gives (question, claim, phrase; snippet, sentence, abstract), and beside it title, title question and
claim -> abstract or section of it, citing sentence -> cited title, trial prompts, keywords and results -> abstract,
consumer question -> answer, disease name -> definition, long -> short question, and a share of the general domain.
Never read: ``trec_covid_part``, ``cystic_fibrosis``, ``check_covid``, and whatever the dev tasks hold back.
"""

from __future__ import annotations

import hashlib
import json
import logging
import random
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from benchmarks.common import parser_of, read_rows, write_rows
from benchmarks.training.query_forms import phrase_from_question
from benchmarks.training.recipe_data import normal
from benchmarks.training.recipe_groups import GroupBuilder
from biorerank_plugins.first_stage import BiEncoder
from biorerank_plugins.text.sentences import split_sentences

SEED = 23
STAGES = ("hybrid", "lexical", "dense")  # negatives come from one of them, turn by turn
DEPTH = 60
RANKS = ((0, 6, 2), (6, 20, 2), (20, DEPTH, 1))
SHORT_RANKS = ((0, 6, 3), (6, 20, 2), (20, DEPTH, 2))
DEV_DIGIT = "0"  # first hex digit of sha1(id): one sixteenth is kept apart
QUOTAS = {
    "question-snippet": 3000,
    "claim-snippet": 700,
    "phrase-snippet": 800,
    "question-sentence": 900,
    "question-abstract": 350,
    "claim-abstract": 350,
    "phrase-abstract": 350,
    "cloze-abstract": 200,
    "question-answer": 300,
    "consumer-answer": 300,
}


def kept_for_dev(key: str) -> bool:
    return hashlib.sha1(key.encode(), usedforsecurity=False).hexdigest()[0] == DEV_DIGIT


class ReachBuilder(GroupBuilder):
    def __init__(self, data: Path, encoder: BiEncoder) -> None:
        super().__init__(data, encoder)
        self.draw = random.Random(SEED)

    def add(self, source: str, query: str, texts: Sequence[str], positives: Any, negatives: Any) -> None:
        super().add(source, query, texts, positives, negatives)
        if self.groups:
            self.groups[-1].pop("prior", None)

    def rows(self, name: str) -> list[dict[str, Any]]:
        rows = [row for row in read_rows(self.data / f"{name}.jsonl.gz") if str(row.get("positive", "-")).strip()]
        return [row for row in rows if not kept_for_dev(str(row.get("doc") or row.get("id") or row.get("qid")))]

    def mine(
        self, source: str, texts: Sequence[str], forms: Sequence[tuple[str, set[int]]], short: bool = False
    ) -> None:
        """Put the texts that answer a query beside what one of the first stages finds for it."""
        texts = list(texts)
        index = self.index(texts)
        for stage_number, stage in enumerate(STAGES):
            own_forms = [form for n, form in enumerate(forms) if n % len(STAGES) == stage_number]
            lists = index.search_many([query for query, _ in own_forms], min(DEPTH, len(texts)), first_stage=stage)
            for (query, own), found in zip(own_forms, lists, strict=True):
                ranked = [(int(c.passage.id), 0.0) for c in found if int(c.passage.id) not in own]
                positives = [(p, 0.0) for p in self.draw.sample(sorted(own), min(3, len(own)))]
                self.add(source, query, texts, positives, self.negatives(ranked, SHORT_RANKS if short else RANKS))
        logging.info("%s: %d groups so far", source, len(self.groups))

    def titles(self) -> None:
        """Title -> abstract, and -> sections of it; titles that ask first (the form of PubMedQA)."""
        taken = {normal(row["question"]) for row in read_rows(self.data / "pubmedqa/queries.jsonl.gz")}
        rows = [
            row
            for row in self.rows("abstracts/abstracts")
            if row["source"] != "covid-cord19" and normal(row["title"]) not in taken and len(row["text"]) > 400
        ]
        asking = [row for row in rows if row["title"].rstrip(" .").endswith("?")]
        others = self.draw.sample(rows, 5200)
        whole = others[:2200]
        forms = [(row["title"].rstrip("."), {n}) for n, row in enumerate(whole[:1200])]
        forms += [
            ("; ".join(row["keywords"][:4]), {n}) for n, row in enumerate(whole) if n >= 1200 and row.get("keywords")
        ]
        self.mine("title-abstract", [row["text"] for row in whole], forms)
        texts: list[str] = []
        forms = []
        for row in asking[:900] + others[2200:4600]:
            own = set(range(len(texts), len(texts) + len(sections := list(self.sections(row["text"])))))
            texts += sections
            if own and len(forms) < 2600:
                forms.append((row["title"].rstrip("."), own))
        self.mine("title-section", texts, forms)

    def sections(self, text: str) -> Iterator[str]:
        """Cut an abstract into three or four parts at borders of sentences; its last part is its conclusion."""
        spans = split_sentences(text)
        step = max(2, -(-len(spans) // 4))
        for start in range(0, max(len(spans) - 1, 1), step):
            part = spans[start : start + step]
            yield text[part[0][0] : part[-1][1]]

    def claims(self) -> None:
        rows = [r for r in self.rows("abstracts/claims")]
        abstracts = {r["id"]: r["source"] for r in read_rows(self.data / "abstracts/abstracts.jsonl.gz")}
        rows = [r for r in rows if abstracts.get(r["id"]) != "covid-cord19"]
        chosen = self.draw.sample(rows, 2000)
        texts = [r["title"] + " " + r["positive"] if n % 2 else r["positive"] for n, r in enumerate(chosen)]
        self.mine("conclusion-abstract", texts, [(r["question"], {n}) for n, r in enumerate(chosen[:1500])])

    def citances(self) -> None:
        rows = self.rows("citances/pairs")
        own: dict[str, set[int]] = defaultdict(set)
        texts = list(dict.fromkeys(r["positive"] for r in rows))
        place = {t: n for n, t in enumerate(texts)}
        for r in rows:
            own[r["question"]].add(place[r["positive"]])
        single = [r for r in rows if r["cited"] == 1]
        self.mine(
            "citance-title",
            texts,
            [(q, own[q]) for q in dict.fromkeys(r["question"] for r in self.draw.sample(single, 1500))],
            short=True,
        )

    def trials(self) -> None:
        corpus = [r for r in read_rows(self.data / "evidence_inference/corpus.jsonl.gz") if not kept_for_dev(r["id"])]
        place = {r["id"]: n for n, r in enumerate(corpus)}
        forms = []
        seen: Counter[str] = Counter()
        queries = [r for r in read_rows(self.data / "evidence_inference/queries.jsonl.gz") if r["doc"] in place]
        self.draw.shuffle(queries)
        for r in queries:
            seen[r["doc"]] += 1
            if seen[r["doc"]] <= 1:
                form = self.draw.choice(["question", "question", "keywords", "claim"])
                forms.append((r.get(form) or r["question"], {place[r["doc"]]}))
        texts = [f"{r['title']} {r['text']}" if n % 2 else r["text"] for n, r in enumerate(corpus)]
        self.mine("trial-abstract", texts, forms[:1100])

    def consumers(self) -> None:
        """WikiDoc: consumer question -> answer. MeQSum: what a consumer wrote -> the question in it."""
        rows = [r for r in self.rows("wikidoc_patient/pairs") if 60 <= len(r["positive"])]
        texts = list(dict.fromkeys(r["positive"] for r in rows))
        place = {t: n for n, t in enumerate(texts)}
        chosen = self.draw.sample(rows, 1400)
        forms = []
        for r in chosen:
            query = r["question"]
            if self.draw.random() < 0.15:
                query = phrase_from_question(query) or query
            forms.append((query, {place[r["positive"]]}))
        self.mine("wikidoc-answer", texts, forms)
        rows = self.rows("meqsum/pairs")
        self.mine(
            "long-question",
            [r["positive"] for r in rows],
            [(r["question"], {n}) for n, r in enumerate(rows)][:350],
            short=True,
        )

    def names(self) -> None:
        rows = self.rows("disease_ontology/pairs")
        forms = []
        for n, r in enumerate(rows):
            forms.append((self.draw.choice([r["question"], *r["synonyms"]]), {n}))
        self.draw.shuffle(forms)
        self.mine("name-definition", [r["positive"] for r in rows], forms[:1000], short=True)

    def general(self) -> None:
        rows = self.rows("fever_dev/pairs")
        texts = list(dict.fromkeys(r["positive"] for r in rows))
        place = {t: n for n, t in enumerate(texts)}
        own: dict[str, set[int]] = defaultdict(set)
        for r in rows:
            own[r["question"]].add(place[r["positive"]])
        self.mine("fever", texts, [(q, own[q]) for q in self.draw.sample(sorted(own), 600)], short=True)
        rows = self.rows("boolq/pairs")
        texts = list(dict.fromkeys(r["positive"] for r in rows))
        place = {t: n for n, t in enumerate(texts)}
        self.mine("boolq", texts, [(r["question"], {place[r["positive"]]}) for r in self.draw.sample(rows, 500)])
        for row in self.draw.sample(self.rows("selqa/indoc"), 600):
            sentences = [s for s in row["sentences"] if s["text"].strip()]
            positives = [s["text"] for s in sentences if s["label"]]
            negatives = [s["text"] for s in sentences if not s["label"]]
            if positives and negatives:
                self.groups.append(
                    {
                        "source": "selqa-sentence",
                        "query": row["question"],
                        "positive": positives[:3],
                        "negatives": self.draw.sample(negatives, min(7, len(negatives))),
                    }
                )


def main() -> None:
    parser = parser_of(__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--encoder", help="bi-encoder of the first stages; default: the embedded one")
    parser.add_argument("--index", type=Path, help="folder of the BioASQ index; built if not there")
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    builder = ReachBuilder(args.data, BiEncoder(args.encoder))
    for step in ("names", "citances", "general", "trials", "claims", "consumers", "titles"):
        getattr(builder, step)()
    reach, builder.groups = builder.groups, []
    builder.snippet_groups(builder.snippet_index(args.index))
    builder.sentence_groups()
    builder.abstract_groups()
    builder.answer_groups()
    builder.keep_quotas(QUOTAS)
    builder.groups += reach
    held_out = {normal(r["question"]) for s in ("calib", "dev") for r in read_rows(args.data / f"bioasq/{s}.jsonl.gz")}
    for name in ("pubmedqa", "liveqa_medquad", "covidqa_lit", "trec_covid_part", "cystic_fibrosis", "check_covid"):
        held_out |= {normal(r["question"]) for r in read_rows(args.data / name / "queries.jsonl.gz")}
    leaked = [group for group in builder.groups if normal(group["query"]) in held_out]
    logging.info("%d groups left out: their query is one that is measured.", len(leaked))
    groups = [group for group in builder.groups if normal(group["query"]) not in held_out]
    random.Random(SEED).shuffle(groups)
    args.out.parent.mkdir(parents=True, exist_ok=True)
    write_rows(args.out, groups)
    statistics = {
        "groups": dict(Counter(group["source"] for group in groups)),
        "pairs": sum(len(group["positive"]) + len(group["negatives"]) for group in groups),
        "positives": sum(len(group["positive"]) for group in groups),
    }
    args.out.with_suffix(".statistics.json").write_text(json.dumps(statistics, indent=1), encoding="utf-8")
    logging.info("%s", json.dumps(statistics, indent=1))


if __name__ == "__main__":
    main()
