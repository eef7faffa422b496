"""Every family of cross-encoders gives what sentence-transformers gives, on the backend that the docs name."""

from __future__ import annotations

import json
import logging
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from conftest import WORDS

from biorerank_plugins import BioReranker
from biorerank_plugins.runtime.devices import cpu_has_bf16

LONG = "insulin lowers glucose in the cells of the heart "
PAIRS = [
    ("is p53 a tumour suppressor", "p53 suppresses tumours"),
    ("what lowers glucose", LONG * 12),  # longer than any of the models takes
    (LONG, LONG * 12),
    ("p53", ""),
    ("?", "a text"),
    (".", " \n\t"),
    ("β-catenin und Ärzte?", "Å 50 % µg 🧬 日本 ‘quoted’ naïve"),
    ("Does ASPIRIN inhibit platelets?", "[SEP] <s> </s> [CLS] <pad>"),
]
LENGTH = 64
LETTERS = "abcdefghijklmnopqrstuvwxyz0123456789.,;:?!()-%"
SIZES = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 64,
    "max_position_embeddings": LENGTH + 2,
    "initializer_range": 0.3,  # large enough that different pairs get clearly different scores
    "num_labels": 1,
}
PAGE = Path(__file__).resolve().parents[2] / "docs" / "migration" / "sentence_transformers.md"


def wordpieces(tokenizer: Any, *special: str) -> Any:
    """WordPiece, as BERT's family has it."""
    pieces = [*special, *LETTERS, *(f"##{letter}" for letter in LETTERS), *WORDS]
    return tokenizer(vocab={piece: number for number, piece in enumerate(dict.fromkeys(pieces))})


def unigrams(tokenizer: Any, *special: str) -> Any:
    """SentencePiece's unigrams: a word is likelier than its letters."""
    pieces = dict.fromkeys(special, 0.0) | {"▁": -4.0} | dict.fromkeys(LETTERS, -5.0)
    return tokenizer(vocab=list((pieces | {f"▁{word}": -2.0 for word in WORDS}).items()))


def bytes_of(*special: str) -> tuple[dict[str, int], list[tuple[str, str]]]:
    """Byte-level BPE, learnt from the words of the tests."""
    from tokenizers import Tokenizer, models, pre_tokenizers, trainers

    learnt = Tokenizer(models.BPE())
    learnt.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    letters = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=500, special_tokens=list(special), initial_alphabet=letters, show_progress=False
    )
    learnt.train_from_iterator([f" {word}" for word in WORDS] * 3, trainer)
    model = json.loads(learnt.to_str())["model"]
    return model["vocab"], [tuple(pair) for pair in model["merges"]]


def roberta() -> Any:
    vocabulary, merges = bytes_of("<s>", "<pad>", "</s>", "<unk>", "<mask>")
    return transformers.RobertaTokenizer(vocab=vocabulary, merges=merges)


def modernbert() -> Any:
    from tokenizers import Tokenizer, models, pre_tokenizers, processors

    special = {"unk": "[UNK]", "cls": "[CLS]", "sep": "[SEP]", "pad": "[PAD]", "mask": "[MASK]"}
    vocabulary, merges = bytes_of(*special.values())
    tokenizer = Tokenizer(models.BPE(vocabulary, merges))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B [SEP]", special_tokens=[("[CLS]", 1), ("[SEP]", 2)]
    )
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        model_input_names=["input_ids", "attention_mask"],
        **{f"{name}_token": piece for name, piece in special.items()},
    )


BERT = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
OF_ALBERT = ("<pad>", "<unk>", "[CLS]", "[SEP]", "[MASK]")
OF_DEBERTA = ("[PAD]", "[CLS]", "[SEP]", "[UNK]", "[MASK]")
XLM = ("<s>", "<pad>", "</s>", "<unk>", "<mask>")
OF_MPNET = ("<s>", "<pad>", "</s>", "[UNK]", "<mask>")
DISTIL = {"dim": 32, "n_layers": 2, "n_heads": 4, "hidden_dim": 64, "max_position_embeddings": LENGTH}
RELATIVE = {"relative_attention": True, "pos_att_type": ["p2c", "c2p"], "position_buckets": 16, "type_vocab_size": 0}
FAMILIES = {
    "BERT": ("packed", "Bert", {}, lambda: wordpieces(transformers.BertTokenizer, *BERT)),
    "ELECTRA": ("packed", "Electra", {"embedding_size": 16}, lambda: wordpieces(transformers.BertTokenizer, *BERT)),
    "RoBERTa": ("packed", "Roberta", {"type_vocab_size": 1}, roberta),
    "XLM-RoBERTa": (
        "packed", "XLMRoberta", {"type_vocab_size": 1}, lambda: unigrams(transformers.XLMRobertaTokenizer, *XLM)
    ),
    "MPNet": ("packed", "MPNet", {}, lambda: wordpieces(transformers.MPNetTokenizer, *OF_MPNET)),
    "DistilBERT": ("torch", "DistilBert", DISTIL, lambda: wordpieces(transformers.DistilBertTokenizer, *BERT)),
    "ALBERT": (
        "torch", "Albert", {"embedding_size": 16}, lambda: unigrams(transformers.AlbertTokenizer, *OF_ALBERT)
    ),
    "DeBERTa-v2/v3": (
        "torch", "DebertaV2", RELATIVE, lambda: unigrams(transformers.DebertaV2Tokenizer, *OF_DEBERTA)
    ),
    "ModernBERT": ("torch", "ModernBert", {"cls_token_id": 1, "sep_token_id": 2, "bos_token_id": 1,
                                           "eos_token_id": 2, "local_attention": 8}, modernbert),
}  # fmt: skip
"""The backend that each takes on a CPU, its name in transformers, how it differs, and its tokenizer."""


@pytest.fixture(scope="module", params=FAMILIES)
def family(request, tmp_path_factory) -> tuple[str, Path, Any]:
    """A family's name, a small random cross-encoder of it in a folder, and sentence-transformers' own."""
    from sentence_transformers import CrossEncoder

    _, name, own, make_tokenizer = FAMILIES[request.param]
    raw, folder = tmp_path_factory.mktemp("raw"), tmp_path_factory.mktemp("model")
    tokenizer = make_tokenizer()
    tokenizer.model_max_length = LENGTH
    tokenizer.save_pretrained(raw)
    sizes = {"vocab_size": len(tokenizer), "pad_token_id": tokenizer.pad_token_id}
    config = getattr(transformers, f"{name}Config")(**{**SIZES, **sizes, **own})
    torch.manual_seed(0)
    getattr(transformers, f"{name}ForSequenceClassification")(config).save_pretrained(raw)
    CrossEncoder(str(raw), device="cpu").save_pretrained(str(folder))
    return request.param, folder, CrossEncoder(str(folder), device="cpu")


def test_scores_are_those_of_sentence_transformers(family, caplog):
    name, folder, theirs = family
    expected = theirs.predict(PAIRS)
    assert np.ptp(expected) > 0.01  # a model that gave the same to all would prove nothing
    with (
        caplog.at_level(logging.INFO, "biorerank_plugins"),
        BioReranker(folder, device="cpu", dtype="float32") as ours,
    ):
        assert ours.predict(PAIRS) == pytest.approx(expected, abs=1e-5)
        assert [ours.predict(pair) for pair in PAIRS] == pytest.approx(expected, abs=1e-5)
        many = [PAIRS[number % len(PAIRS)] for number in range(300)]
        assert ours.predict(many) == pytest.approx(np.resize(expected, 300), abs=1e-5)
    assert f"runs on backend {FAMILIES[name][0]} in float32 on cpu" in caplog.text


@pytest.mark.skipif(not cpu_has_bf16(), reason="this CPU computes nothing in bf16")
def test_scores_in_bf16_are_near(family):
    _, folder, theirs = family
    expected = theirs.predict(PAIRS)
    with BioReranker(folder, device="cpu", dtype="bfloat16") as ours:
        assert ours.predict(PAIRS) == pytest.approx(expected, abs=0.1)


def test_the_docs_name_each_family_and_its_backend():
    """The table of the page from CrossEncoder, against the table of these tests."""
    rows = re.findall(r"^\| (\S+) \| `(packed|torch)` \|", PAGE.read_text(encoding="utf-8"), flags=re.MULTILINE)
    assert dict(rows) == {name: backend for name, (backend, *_) in FAMILIES.items()}
