"""Single texts as token ids: each text is tokenised once a request, and read as a whole where it fits."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors

from biorerank_plugins import BioReranker, Passage
from biorerank_plugins.runtime.text_ids import TextIds
from biorerank_plugins.runtime.tokens import PairTokenizer
from biorerank_plugins.text.windows import WindowedText, Windows

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

SENTENCE = "insulin lowers glucose in the liver. "


@pytest.fixture(scope="module")
def tokenizer(tiny_cross_encoder_dir: Path):
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(tiny_cross_encoder_dir)


def test_measured_texts_that_fit_are_handed_over_once(tokenizer):
    ids = TextIds(tokenizer)
    texts = ["a b c", "a b c d", "", "e"]
    found = ids.measure(texts, [3, 3, 0, 5])
    assert [None if own is None else own.tolist() for own in found] == [
        None,
        [[0, 1], [2, 3], [4, 5], [6, 7]],
        None,
        None,
    ]
    first, again = ids.of(texts), ids.of(texts)
    assert [own.tolist() for own in first] == [own.tolist() for own in ids.tokenise(texts)]
    assert [own.tolist() for own in again] == [own.tolist() for own in first]
    # The same array, once: it was not tokenised a second time.
    ids.measure(["heart"], [5])
    assert ids.of(["heart"])[0] is not ids.of(["heart"])[0]


def _parts(head: str, body: str) -> WindowedText:
    return WindowedText(head + body, lambda: (head, body, ""))


@pytest.mark.parametrize("head", ["", "the heart. "])
def test_a_passage_that_just_fits_is_read_as_a_whole(tokenizer, head: str):
    pairs = PairTokenizer(tokenizer, max_length=40, query_max_length=8)
    room = 40 - 3 - 2 - len(head.replace(".", " .").split())
    windows = Windows("max", 8, None)
    assert pairs.spans([("a b", _parts(head, "c " * room))], windows) == [[]]
    [spans] = pairs.spans([("a b", _parts(head, "c " * (room + 1)))], windows)
    assert len(spans) > 1
    assert (spans[0][0], spans[-1][1]) == (0, 2 * room + 1)


def test_one_passage_may_fit_beside_one_query_and_not_beside_another(tokenizer):
    pairs = PairTokenizer(tokenizer, max_length=20, query_max_length=8)
    text = _parts("", "c " * 15)
    short, long = pairs.spans([("a", text), ("a b d e", text)], Windows("max", 8, None))
    assert short == []
    assert len(long) > 1


def test_lone_surrogates_in_a_long_passage_are_read_as_question_marks(tiny_cross_encoder_dir: Path):
    reranker = BioReranker(tiny_cross_encoder_dir, device="cpu", dtype="float32", max_length=48, query_max_length=16)
    broken = "insulin \ud800 lowers. " + SENTENCE * 20
    [ranked] = reranker.rank("what lowers glucose?", [Passage("1", broken, "the heart")])
    [plain] = reranker.rank("what lowers glucose?", [Passage("1", broken.replace("\ud800", "?"), "the heart")])
    assert ranked.n_windows > 1
    assert (ranked.logit, ranked.window) == (plain.logit, plain.window)


def _byte_level() -> PreTrainedTokenizerFast:
    """A tokenizer that puts the space before a word into its token, as RoBERTa's does."""
    from transformers import PreTrainedTokenizerFast

    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {piece: n for n, piece in enumerate(["<s>", "<pad>", "</s>", *letters, "Ġc", "Ġi"])}
    tokenizer = Tokenizer(models.BPE(vocabulary, [("Ġ", "c"), ("Ġ", "i")]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.post_processor = processors.RobertaProcessing(
        ("</s>", 2), ("<s>", 0), trim_offsets=True, add_prefix_space=False
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token="<s>",
        eos_token="</s>",
        pad_token="<pad>",
        cls_token="<s>",
        sep_token="</s>",
    )


def test_windows_of_a_byte_level_tokenizer_cover_the_body():
    pairs = PairTokenizer(_byte_level(), max_length=64, query_max_length=16)
    body = SENTENCE * 8
    [spans] = pairs.spans([("what?", _parts("The title. ", body))], Windows("max", 30, 20))
    covered = {place for start, end in spans for place in range(start, end)}
    assert len(spans) > 4
    assert {place for place, letter in enumerate(body) if not letter.isspace()} <= covered
    assert all(0 <= start < end <= len(body) for start, end in spans)


def test_what_stands_behind_the_passage_may_have_another_segment_id(tmp_path: Path, make_tokenizer):
    from transformers import AutoTokenizer

    make_tokenizer(tmp_path)
    tokenizer = AutoTokenizer.from_pretrained(tmp_path)
    cls, sep = tokenizer.cls_token_id, tokenizer.sep_token_id
    tokenizer.backend_tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:0", special_tokens=[("[CLS]", cls), ("[SEP]", sep)]
    )
    for query, text in (("a b", "c d e"), ("", "c"), ("a", "")):
        [ours] = PairTokenizer(tokenizer, max_length=40, query_max_length=8).encode([(query, text)])
        theirs = tokenizer([(query, text)])
        assert ours.ids.tolist() == theirs["input_ids"][0]
        assert ours.types.tolist() == theirs["token_type_ids"][0]
