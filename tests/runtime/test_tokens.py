"""Pairs of token ids against what transformers builds, and against counting."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from biorerank_plugins.runtime.text_ids import UnsupportedTokenizerError
from biorerank_plugins.runtime.tokens import PairTokenizer, tokens_of
from biorerank_plugins.text.windows import WindowedText, Windows

NASTY = [
    "",
    " ",
    "tp53",
    "A Title, with (brackets) & 50% of p53\u2003cells\n",
    "\x00\x07\u200b\u202e control",
    "😀 emoji 👩‍🔬",
    "האם אספירין? هل الأسبرين",
    "[SEP] [CLS] <s> </s>",
    "ﬁ Å å ß İ",
    "x" * 300,
]


@pytest.fixture(scope="module")
def tokenizer(tiny_cross_encoder_dir: Path):
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(tiny_cross_encoder_dir)


@pytest.mark.parametrize("query", NASTY)
def test_pairs_are_those_of_transformers(tokenizer, query):
    pairs = [(query, text) for text in NASTY]
    for pair, ours in zip(
        pairs, PairTokenizer(tokenizer, max_length=4000, query_max_length=1000).encode(pairs), strict=True
    ):
        theirs = tokenizer([pair], truncation=False)
        assert ours.ids.tolist() == theirs["input_ids"][0]
        assert ours.types.tolist() == theirs["token_type_ids"][0]
        assert not ours.truncated
        assert not ours.query_truncated


@pytest.mark.parametrize("n_query", [0, 1, 7, 8, 9, 30])
@pytest.mark.parametrize("n_passage", [0, 1, 10, 20, 21, 22, 28, 29, 30, 5000])
def test_only_the_passage_is_cut_and_the_flags_say_so(tokenizer, n_query, n_passage):
    [pair] = PairTokenizer(tokenizer, max_length=32, query_max_length=8).encode([("a " * n_query, "b " * n_passage)])
    a, b = tokenizer.convert_tokens_to_ids(["a", "b"])
    read = n_query if n_query + n_passage <= 32 - 3 and n_query < 32 - 3 else min(n_query, 8)
    room = 32 - 3 - read
    assert pair.ids.tolist().count(a) == read
    assert pair.ids.tolist().count(b) == min(n_passage, room)
    assert pair.query_truncated == (read < n_query)
    assert pair.truncated == (n_passage > room)
    assert len(pair.ids) == len(pair.types) <= 32
    assert (pair.ids[0], pair.ids[-1]) == (tokenizer.cls_token_id, tokenizer.sep_token_id)


def test_the_callers_tokenizer_is_left_alone(tokenizer):
    backend = tokenizer.backend_tokenizer
    backend.enable_truncation(5)
    try:
        PairTokenizer(tokenizer, max_length=64, query_max_length=8).encode([("a", "b " * 60)])
        assert backend.truncation["max_length"] == 5
    finally:
        backend.no_truncation()


def test_lengths_that_leave_no_room_are_refused(tokenizer):
    assert PairTokenizer(tokenizer, max_length=12, query_max_length=8).max_length == 12
    with pytest.raises(ValueError, match=r"max_length=11 leaves no room.*it must be at least 12"):
        PairTokenizer(tokenizer, max_length=11, query_max_length=8)


@pytest.mark.parametrize("side", ["padding_side", "truncation_side"])
def test_a_tokenizer_that_works_on_the_left_is_not_for_us(tiny_cross_encoder_dir: Path, side):
    from transformers import AutoTokenizer

    left = AutoTokenizer.from_pretrained(tiny_cross_encoder_dir, **{side: "left"})
    with pytest.raises(UnsupportedTokenizerError, match="on the left"):
        PairTokenizer(left, max_length=64, query_max_length=8)


def test_a_slow_tokenizer_is_not_for_us():
    with pytest.raises(UnsupportedTokenizerError, match="no fast tokenizer"):
        PairTokenizer(object(), max_length=64, query_max_length=8)


def test_a_tokenizer_that_gives_other_segments_is_not_for_us(tiny_cross_encoder_dir: Path):
    """The ids are those that we would build, the segments not: a model would read both halves as the query."""
    from transformers import BertTokenizerFast

    class OneSegment(BertTokenizerFast):
        def __call__(self, *args, **options):
            found = super().__call__(*args, **options)
            found["token_type_ids"] = [0] * len(found["input_ids"])
            return found

    with pytest.raises(UnsupportedTokenizerError, match="OneSegment builds pairs in its own way"):
        PairTokenizer(OneSegment.from_pretrained(tiny_cross_encoder_dir), max_length=64, query_max_length=8)


def test_windows_beside_an_endless_title_still_hold_a_quarter_of_the_room(tokenizer):
    """Of 67 tokens the query and what stands around the halves take 4: 63, a quarter of which is 15."""
    title, body = "c " * 80, "a " * 40
    text = WindowedText(title + body, lambda: (title, body, ""))
    pairs = PairTokenizer(tokenizer, max_length=67, query_max_length=8)
    [spans] = pairs.spans([("a", text)], Windows("max", None, None))
    assert spans == [(0, 29), (22, 51), (44, 73), (66, 79)]  # 15 tokens of two characters, 11 apart


def test_windows_leave_room_for_what_stands_around_the_text(tokenizer):
    """Of 63 tokens the title takes 10, what follows 5, and words that are cut may take 4 more: windows of 44."""
    title, body, end = "c " * 10, "a " * 120, "b " * 5
    text = WindowedText(title + body + end, lambda: (title, body, end))
    pairs = PairTokenizer(tokenizer, max_length=67, query_max_length=8)
    [spans] = pairs.spans([("a", text)], Windows("max", None, None))
    assert spans == [(0, 87), (66, 153), (132, 219), (198, 239)]


def test_the_least_room_is_what_the_longest_query_leaves(tokenizer):
    assert PairTokenizer(tokenizer, max_length=64, query_max_length=8).least_room == 64 - 8 - 3


def test_tokens_of_a_batch(tokenizer):
    pairs = PairTokenizer(tokenizer, max_length=64, query_max_length=8).encode([("a", "b"), ("a", "b c d"), ("a", "")])
    assert tokens_of(pairs, padded=False) == (4 + 1) + (4 + 3) + 4
    assert tokens_of(pairs, padded=True) == 3 * 7


def _with_vocabulary(folder: Path, pieces: list[str], *, lowercase: bool) -> object:
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
    from transformers import AutoTokenizer, BertTokenizerFast

    vocabulary = {piece: n for n, piece in enumerate(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *pieces])}
    tokenizer = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=lowercase)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    BertTokenizerFast(tokenizer_object=tokenizer, do_lower_case=lowercase).save_pretrained(folder)
    return AutoTokenizer.from_pretrained(folder)


@pytest.mark.parametrize(
    ("capitals", "lowercase", "warned"), [(True, True, True), (True, False, False), (False, True, False)]
)
def test_a_cased_vocabulary_that_is_lowered_is_warned_about(tmp_path, caplog, capitals, lowercase, warned):
    words = ["protein", "gene", "is", "a", "b", "c", "d", "e"]
    pieces = words + [word.title() + "x" for word in words] * capitals
    tokenizer = _with_vocabulary(tmp_path, pieces, lowercase=lowercase)
    with caplog.at_level(logging.WARNING, logger="biorerank_plugins"):
        PairTokenizer(tokenizer, max_length=64, query_max_length=8)
    assert ("lower-cases text but its vocabulary is cased" in caplog.text) == warned


def test_a_byte_level_vocabulary_is_not_taken_for_a_cased_one(tmp_path, caplog):
    tokenizer = _with_vocabulary(tmp_path, ["a", "b", "Ġgene", "Ġprotein", "Ġis"], lowercase=True)
    with caplog.at_level(logging.WARNING, logger="biorerank_plugins"):
        PairTokenizer(tokenizer, max_length=64, query_max_length=8)
    assert not caplog.text
