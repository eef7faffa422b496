"""Training on groups: the loss against a hand computation, and real runs on the tiny model."""

from __future__ import annotations

import gzip
import json
import math
from pathlib import Path

import pytest
import torch

from biorerank_plugins import BioReranker
from biorerank_plugins.errors import ReaderError
from biorerank_plugins.training import listwise
from biorerank_plugins.training.groups import RankingGroup, check_groups, groups_from_pairs, read_groups
from biorerank_plugins.training.listwise import GROUPS, group_loss
from biorerank_plugins.training.rows import TrainingPair, write_rows
from biorerank_plugins.training.tasks import TrainConfig
from biorerank_plugins.training.trainer import train

GROUPS_OF_ASPIRIN = [
    RankingGroup(
        f"does aspirin work {n}", "aspirin inhibits platelets", ("insulin lowers glucose", "cells divide")[: 1 + n % 2]
    )
    for n in range(24)
]
CONFIG = TrainConfig(
    epochs=6, batch_size=4, learning_rate=3e-3, bf16=False, save_steps=12, log_steps=6, train_length=64
)


def test_the_loss_is_that_of_a_hand_computation():
    logits = torch.tensor([2.0, 1.0, -1.0, 0.5, 0.0])
    contrast = [
        -math.log(math.exp(2) / (math.exp(2) + math.exp(1) + math.exp(-1))),
        -math.log(math.exp(0.5) / (math.exp(0.5) + math.exp(0.0))),
    ]
    pair = [
        0.5 * math.log1p(math.exp(-2)) + 0.5 * (math.log1p(math.exp(1)) + math.log1p(math.exp(-1))) / 2,
        0.5 * math.log1p(math.exp(-0.5)) + 0.5 * math.log1p(math.exp(0)),
    ]
    assert group_loss(logits, [3, 2], pair_weight=0.0).item() == pytest.approx(sum(contrast) / 2, abs=1e-6)
    expected = sum(c + 0.2 * p for c, p in zip(contrast, pair, strict=True)) / 2
    assert group_loss(logits, [3, 2], pair_weight=0.2).item() == pytest.approx(expected, abs=1e-6)


def test_the_loss_asks_for_the_positive_at_the_top():
    logits = torch.zeros(4, requires_grad=True)
    group_loss(logits, [4]).backward()
    assert logits.grad is not None
    assert logits.grad[0] < 0
    assert (logits.grad[1:] > 0).all()


def test_a_run_learns_and_saves_a_model_that_any_loader_takes(tiny_encoder_dir: Path, tmp_path: Path):
    train(tiny_encoder_dir, GROUPS_OF_ASPIRIN, tmp_path, CONFIG, task=GROUPS, show_progress=False)
    ranker = BioReranker(tmp_path / "model", device="cpu", dtype="float32")
    texts = ["insulin lowers glucose", "aspirin inhibits platelets", "cells divide"]
    assert ranker.rank("does aspirin work", texts)[0].input_index == 1
    log = json.loads((tmp_path / "training.json").read_text())["log"]
    losses = [entry["loss"] for entry in log if "loss" in entry]
    assert losses[-1] < losses[0]


def test_forward_passes_of_any_size_give_the_same_loss(tiny_cross_encoder_dir: Path, monkeypatch: pytest.MonkeyPatch):
    from sentence_transformers import CrossEncoder

    model = CrossEncoder(str(tiny_cross_encoder_dir), device="cpu")
    model.eval()
    columns = list(GROUPS.columns(GROUPS_OF_ASPIRIN[:5]).values())
    losses = []
    for tokens_at_once in (4096, 24):
        monkeypatch.setattr(listwise, "TOKENS_AT_ONCE", tokens_at_once)
        with torch.no_grad():
            losses.append(GROUPS.loss(model, CONFIG)(columns[:2], columns[2]).item())
    logits = [
        model.predict([(g.query, text) for text in (g.positive, *g.negatives)], activation_fn=torch.nn.Identity())
        for g in GROUPS_OF_ASPIRIN[:5]
    ]
    flat = torch.cat([torch.as_tensor(part) for part in logits])
    expected = group_loss(flat, [len(part) for part in logits]).item()
    assert losses == pytest.approx([expected, expected], abs=1e-5)


@pytest.mark.parametrize(
    ("groups", "message"),
    [
        ([], "no training groups"),
        ([RankingGroup(" ", "p", ("n",))], "empty query"),
        ([RankingGroup("q", "", ("n",))], "empty positive"),
        ([RankingGroup("q", "p", ())], "at least one negative"),
        ([RankingGroup("q", "p", ("n", " "))], "none empty"),
    ],
)
def test_impossible_groups_are_refused(groups: list[RankingGroup], message: str):
    with pytest.raises(ValueError, match=message):
        check_groups(groups)


def test_groups_are_read_from_json_lines(tmp_path: Path):
    path = tmp_path / "groups.jsonl"
    path.write_text('{"query": "q", "positive": "p", "negatives": ["n"], "source": "s"}\n', encoding="utf-8")
    assert read_groups(path) == [RankingGroup("q", "p", ("n",), "s")]
    path.write_text('{"query": "q", "positive": "p", "negatives": ["n"]}\n{"query": "q"}\n', encoding="utf-8")
    with pytest.raises(ReaderError, match=":2"):
        read_groups(path)


def test_rows_of_pairs_are_grouped_by_question(tmp_path: Path):
    rows = [
        TrainingPair("q1", "good", 1.0, "gold"),
        TrainingPair("q2", "alone", 1.0, "gold"),  # no negative of its own
        *(TrainingPair("q1", f"bad {n}", 0.0, "mined") for n in range(9)),
    ]
    (group,) = groups_from_pairs(rows, negatives=4)
    assert (group.query, group.positive, group.source) == ("q1", "good", "gold")
    assert len(set(group.negatives)) == 4
    assert groups_from_pairs(rows, negatives=4) == [group]  # seeded
    write_rows(rows, tmp_path / "pairs.jsonl.gz")
    assert read_groups(tmp_path / "pairs.jsonl.gz") == groups_from_pairs(rows)
    with gzip.open(tmp_path / "groups.jsonl.gz", "wt") as file:
        file.write('{"query": "q", "positive": "p", "negatives": ["n"]}\n')
    assert read_groups(tmp_path / "groups.jsonl.gz") == [RankingGroup("q", "p", ("n",))]


def test_several_positives_and_a_prior_against_plain_arithmetic():
    logits, prior = torch.tensor([1.0, 0.5, 0.2, -0.3]), torch.tensor([2.0, 0.0, 1.5, 0.5])
    z, s = logits.tolist(), (logits + prior).tolist()

    def contrast(v: list[float]) -> float:  # the two first are positives, each alone against both negatives
        return sum(math.log(1 + (math.exp(v[2]) + math.exp(v[3])) / math.exp(p)) for p in v[:2]) / 2

    def softmax(v: list[float]) -> list[float]:
        return [math.exp(x) / sum(map(math.exp, v)) for x in v]

    divergence = sum(p * math.log(p / q) for p, q in zip(softmax(prior.tolist()[2:]), softmax(z[2:]), strict=True))
    pair = sum(math.log1p(math.exp(-x)) for x in z[:2]) / 4 + sum(math.log1p(math.exp(x)) for x in z[2:]) / 4
    known = group_loss(logits, [4], 0.2, positives=[2], prior=prior).item()
    assert known == pytest.approx(0.5 * contrast(z) + 0.5 * contrast(s) + 0.25 * divergence + 0.2 * pair, abs=1e-6)
    unknown = group_loss(logits, [4], 0.2, positives=[2], prior=torch.full((4,), math.nan)).item()
    assert unknown == pytest.approx(contrast(z) + 0.2 * pair, abs=1e-6)


def test_a_teachers_order_is_learned_instead_of_the_labels():
    logits, teacher = torch.tensor([1.0, 0.2, -0.3]), torch.tensor([0.0, 2.0, -1.0])

    def softmax(values: torch.Tensor) -> list[float]:
        return [math.exp(x) / sum(map(math.exp, values.tolist())) for x in values.tolist()]

    divergence = sum(p * math.log(p / q) for p, q in zip(softmax(teacher), softmax(logits), strict=True))
    pair = math.log1p(math.exp(-1.0)) / 2 + (math.log1p(math.exp(0.2)) + math.log1p(math.exp(-0.3))) / 4
    assert group_loss(logits, [3], 0.2, teacher=teacher).item() == pytest.approx(divergence + 0.2 * pair, abs=1e-6)
    assert group_loss(teacher, [3], 0.0, teacher=teacher).item() == pytest.approx(0.0, abs=1e-6)


def test_groups_with_and_without_a_prior_or_a_teacher_share_a_batch(tiny_cross_encoder_dir: Path):
    from sentence_transformers import CrossEncoder

    model = CrossEncoder(str(tiny_cross_encoder_dir), device="cpu").eval()
    plain = RankingGroup("does aspirin work", "aspirin inhibits platelets", ("cells divide", "insulin lowers glucose"))
    rich = RankingGroup("the heart", "a", ("b", "c"), more_positives=("the heart",), prior=(1.0, 2.0, 3.0, 4.0))
    taught = RankingGroup("insulin", "cells divide", ("insulin lowers glucose",), teacher=(1.0, 2.0))

    def loss(groups: list[RankingGroup]) -> float:
        columns = list(GROUPS.columns(groups).values())
        with torch.no_grad():
            return GROUPS.loss(model, CONFIG)(columns[:2], columns[2]).item()

    apart = (loss([plain]) + loss([rich]) + loss([taught])) / 3
    assert loss([plain, rich, taught]) == pytest.approx(apart, abs=1e-5)


@pytest.mark.parametrize(
    ("group", "message"),
    [
        (RankingGroup("q", "p", ("n",), prior=(1.0,)), "finite prior"),
        (RankingGroup("q", "p", ("n",), prior=(1.0, math.nan)), "finite prior"),
        (RankingGroup("q", "p", ("n",), teacher=(1.0, 2.0, 3.0)), "finite score of a teacher"),
        (RankingGroup("q", "p", ("n",), teacher=(math.inf, 0.0)), "finite score of a teacher"),
        (RankingGroup("q", "p", ("n",), more_positives=(" ",)), "empty positive"),
    ],
)
def test_scores_or_a_positive_that_cannot_be_used_are_refused(group: RankingGroup, message: str):
    with pytest.raises(ValueError, match=message):
        check_groups([group])


def test_a_file_may_hold_several_positives_a_prior_and_a_teachers_scores(tmp_path: Path):
    path = tmp_path / "groups.jsonl"
    path.write_text(
        '{"query": "q", "positive": ["a", "b"], "negatives": ["n"], "prior": [1, 2.5, 0], "teacher": [3, 1, 0]}\n'
    )
    assert read_groups(path) == [RankingGroup("q", "a", ("n",), "", ("b",), (1.0, 2.5, 0.0), (3.0, 1.0, 0.0))]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('{"query": "q", "positive": [], "negatives": ["n"]}', "empty list"),
        ('{"query": "q", "positive": "a", "negatives": ["n"], "prior": "high"}', "no list of numbers"),
        ('{"query": "q", "positive": "a", "negatives": ["n"], "prior": [true, 1]}', "no list of numbers"),
        (
            '{"query": "q", "positive": "a", "negatives": ["n"], "teacher": [null, 1]}',
            "'teacher' is no list of numbers",
        ),
        ('{"query": "q", "positive": "a", "negatives": ["n"], "prior": 0}', "no list of numbers"),
        ('{"query": "q", "positive": "a", "negatives": ["n"], "prior": [1e38, 0]}', "no log-odds"),
        ('{"query": "q", "positive": "a", "negatives": ["n"], "prior": [1' + "0" * 400 + ", 1]}", "no log-odds"),
    ],
)
def test_a_line_with_an_impossible_group_is_named(tmp_path: Path, line: str, message: str):
    path = tmp_path / "groups.jsonl"
    path.write_text(line + "\n")
    with pytest.raises(ReaderError, match=message):
        read_groups(path)
