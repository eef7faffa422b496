"""Token ids from a cache are those of the tokenizer, whatever the texts, and a bad cache is never believed."""

from __future__ import annotations

import gc
import logging
import os
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.scorers import length

from biorerank_plugins import BioReranker, Passage
from biorerank_plugins.runtime.text_ids import TextIds
from biorerank_plugins.runtime.token_cache import CacheInfo, TokenIdCache, TokenIdWriter, text_keys
from biorerank_plugins.runtime.tokens import EncodedPair, PairTokenizer

WORDS = "aspirin inhibits platelets in patients with heart failure; TP53 (p53) 50% ﬁ İ e\u0301 中 😀 [SEP]".split()
TEXTS = st.lists(st.one_of(st.sampled_from(WORDS), st.text(max_size=5)), max_size=40).map(" ".join)


@pytest.fixture(scope="module")
def tokenizer(tiny_cross_encoder_dir: Path):
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(tiny_cross_encoder_dir)


def cache_of(texts: Sequence[str], ids: TextIds, *, max_tokens: int = 30, told: Sequence[str] | None = None):
    """Token ids of texts; ``told`` are the texts that they are really those of."""
    with tempfile.TemporaryFile() as file:
        writer = TokenIdWriter(file, ids.cache_info(max_tokens))
        for start in range(0, len(texts), 3):
            writer.add(texts[start : start + 3], ids.tokenise((told or texts)[start : start + 3]))
        writer.finish()
        return TokenIdCache.of(file)


def same(ours: list[EncodedPair], theirs: list[EncodedPair]) -> bool:
    return all(
        np.array_equal(a.ids, b.ids)
        and np.array_equal(a.types, b.types)
        and (a.ids.dtype, a.types.dtype) == (b.ids.dtype, b.types.dtype)
        and (a.truncated, a.query_truncated) == (b.truncated, b.query_truncated)
        for a, b in zip(ours, theirs, strict=True)
    )


@settings(max_examples=60)
@given(st.lists(TEXTS, max_size=8), st.lists(TEXTS, max_size=4), st.lists(TEXTS, min_size=1, max_size=3))
def test_pairs_are_the_same_with_a_cache(tokenizer, known: list[str], unknown: list[str], queries: list[str]):
    plain = PairTokenizer(tokenizer, max_length=24, query_max_length=8)
    with_cache = PairTokenizer(tokenizer, max_length=24, query_max_length=8)
    cache = cache_of(known, with_cache.texts)
    with_cache.texts.use(cache)
    pairs = [(query, text) for query in queries for text in [*known, *unknown]]
    assert same(with_cache.encode(pairs), plain.encode(pairs))


def test_what_is_in_the_cache_is_not_tokenised(tokenizer):
    """The cache says of two texts what is true of two others: whoever believes it has not looked at the text."""
    pairs = PairTokenizer(tokenizer, max_length=40, query_max_length=8)
    cache = cache_of(["aspirin", "insulin binds"], pairs.texts, told=["platelets", "glucose in the liver"])
    expected = pairs.encode([("a", "platelets"), ("a", "glucose in the liver"), ("a", "heart")])
    pairs.texts.use(cache)
    assert same(pairs.encode([("a", "aspirin"), ("a", "insulin binds"), ("a", "heart")]), expected)


def test_an_edited_text_is_not_found(tokenizer):
    texts = ["aspirin inhibits platelets", "", "insulin"]
    cache = cache_of(texts, TextIds(tokenizer))
    asked = ["insulin", "aspirin inhibits platelets.", "Insulin", "insulin ", "", "\ud800"]
    assert (cache.find(text_keys(asked)) >= 0).tolist() == [True, False, False, False, True, False]
    assert len(cache) == 3


def test_half_a_hash_in_common_is_not_enough():
    nothing = np.zeros(1, np.int64)
    table = {"high": np.array([7], "<u8"), "low": np.array([1], "<u8"), "starts": nothing, "counts": nothing}
    cache = TokenIdCache(CacheInfo("x", 10, 5), np.empty(0, "<u2"), table)
    assert cache.find(np.array([[7, 1], [7, 2], [6, 1], [8, 1]], np.uint64)).tolist() == [0, -1, -1, -1]


def test_long_texts_are_counted_and_not_stored(tokenizer):
    ids = TextIds(tokenizer)
    texts = ["aspirin " * 30, "aspirin " * 31, "aspirin"]
    cache = cache_of(texts, ids, max_tokens=30)
    places = cache.find(text_keys(texts))
    assert cache.counts(places) == [30, 31, 1]
    assert [len(own) for own in cache.ids(places)] == [30, 0, 1]
    ids.use(cache)
    assert [own.tolist() for own in ids.of(texts)] == [own.tolist() for own in ids.tokenise(texts)]


@pytest.mark.parametrize(("vocabulary", "size"), [(100, 2), (65536, 2), (65537, 4), (250_000, 4)])
def test_an_id_takes_as_many_bytes_as_the_vocabulary_needs(vocabulary: int, size: int, tmp_path: Path):
    own = np.array([0, 1, vocabulary - 1], np.int32)
    with (tmp_path / "ids").open("wb") as file:
        writer = TokenIdWriter(file, CacheInfo("x", vocabulary, 10, {"note": [1]}))
        writer.add(["a"], [own])
        writer.finish()
    cache = TokenIdCache.read(tmp_path / "ids")
    [found] = cache.ids(cache.find(text_keys(["a"])))
    assert (found.tolist(), found.dtype) == (own.tolist(), np.int32)
    assert (cache.info.dtype.itemsize, cache.info.notes) == (size, {"note": [1]})
    cache.check()


def test_a_text_that_comes_twice_is_kept_once_and_caches_are_joined(tokenizer):
    ids = TextIds(tokenizer)
    first = cache_of(["a b", "c", "heart", "a b", "c"], ids)
    assert len(first) == 3
    with tempfile.TemporaryFile() as file:
        writer = TokenIdWriter(file, first.info)
        writer.copy(first, keep=text_keys(["heart", "a b", "nowhere", "heart"]))
        writer.add(["c d", "heart"], ids.tokenise(["c d", "heart"]))
        writer.finish()
        joined = TokenIdCache.of(file)
    texts = ["a b", "heart", "c d"]
    assert len(joined) == 3
    assert (joined.find(text_keys(["c"]))).tolist() == [-1]
    assert [own.tolist() for own in joined.ids(joined.find(text_keys(texts)))] == [
        own.tolist() for own in ids.tokenise(texts)
    ]


@pytest.mark.parametrize("texts", [[], [""]])
def test_a_cache_of_nothing(texts: list[str], tokenizer):
    ids = TextIds(tokenizer)
    cache = cache_of(texts, ids)
    ids.use(cache)
    assert [own.tolist() for own in ids.of(["", "a"])] == [[], ids.tokenise(["a"])[0].tolist()]


# Whose ids they are


def test_the_same_tokenizer_has_the_same_fingerprint_wherever_it_comes_from(tiny_cross_encoder_dir: Path, tmp_path):
    from transformers import AutoTokenizer

    here = AutoTokenizer.from_pretrained(tiny_cross_encoder_dir)
    here.save_pretrained(tmp_path)
    copy = AutoTokenizer.from_pretrained(tmp_path)
    copy.backend_tokenizer.enable_truncation(5)
    copy.backend_tokenizer.enable_padding(length=9)
    code = (
        "import sys; from transformers import AutoTokenizer; from biorerank_plugins.runtime.text_ids import TextIds;"
        f"sys.stdout.write(TextIds(AutoTokenizer.from_pretrained({str(tmp_path)!r})).fingerprint)"
    )
    elsewhere = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert {TextIds(here).fingerprint, TextIds(copy).fingerprint, elsewhere.stdout} == {TextIds(here).fingerprint}


def test_the_ids_of_another_tokenizer_are_not_used_and_that_is_said_once(
    tokenizer, tmp_path: Path, make_tokenizer: Callable[..., None], caplog: pytest.LogCaptureFixture
):
    from transformers import AutoTokenizer

    make_tokenizer(tmp_path, lowercase=False)
    pairs = PairTokenizer(AutoTokenizer.from_pretrained(tmp_path), max_length=40, query_max_length=8)
    cache = cache_of(["Aspirin", "TP53"], TextIds(tokenizer))
    asked = [("a", "Aspirin"), ("a", "TP53")]
    expected = pairs.encode(asked)
    with caplog.at_level(logging.INFO, logger="biorerank_plugins"):
        for _ in range(3):
            pairs.texts.use(cache)
            assert same(pairs.encode(asked), expected)
    assert caplog.text.count("they are of another tokenizer") == 1


def test_several_caches_serve_one_tokenizer_and_none_is_kept_alive(tokenizer):
    pairs = PairTokenizer(tokenizer, max_length=40, query_max_length=8)
    first = cache_of(["aspirin"], pairs.texts, told=["platelets"])
    second = cache_of(["insulin"], pairs.texts, told=["glucose"])
    asked = [("a", "aspirin"), ("a", "insulin")]
    as_told = pairs.encode([("a", "platelets"), ("a", "glucose")])
    as_they_are = pairs.encode(asked)
    pairs.texts.use(first)
    pairs.texts.use(second)
    assert same(pairs.encode(asked), as_told)
    del first
    gc.collect()
    assert same(pairs.encode(asked), [as_they_are[0], as_told[1]])


def test_caches_may_come_and_go_while_others_encode(tokenizer):
    pairs = PairTokenizer(tokenizer, max_length=40, query_max_length=8)
    texts = [f"aspirin {number} inhibits" for number in range(60)]
    asked = [("a b", text) for text in texts]
    expected = pairs.encode(asked)
    wrong: list[object] = []
    stop = threading.Event()

    def encode() -> None:
        while not stop.is_set():
            if not same(pairs.encode(asked), expected):
                wrong.append("other pairs")

    threads = [threading.Thread(target=encode) for _ in range(3)]
    for thread in threads:
        thread.start()
    for number in range(20):
        pairs.texts.use(cache_of(texts[number : number + 30], pairs.texts))
    stop.set()
    for thread in threads:
        thread.join()
    assert wrong == []


# Damage


def damaged(path: Path, tokenizer, change: Callable[[bytes], bytes]) -> Path:
    with path.open("wb") as file:
        cache_of(["aspirin inhibits", "platelets", "a b c"], TextIds(tokenizer)).write(file)
    path.write_bytes(change(path.read_bytes()))
    return path


def replaced(old: bytes, new: bytes) -> Callable[[bytes], bytes]:
    def change(raw: bytes) -> bytes:
        assert raw.count(old) == 1
        changed = raw.replace(old, new)
        about = changed[changed.index(b'{"format"') : -16]
        return changed[:-16] + len(about).to_bytes(8, "little") + changed[-8:]

    return change


def at(position: int, value: bytes) -> Callable[[bytes], bytes]:
    return lambda raw: raw[:position] + value + raw[position + len(value) :]


# 6 ids of 2 bytes, filled up to 16; then 3 times 8 bytes each of high, low and starts, and 3 times 4 of counts.
DAMAGES: dict[str, tuple[Callable[[bytes], bytes], str]] = {
    "nothing": (lambda raw: b"", "empty|no token ids"),
    "few bytes": (lambda raw: raw[-12:], "no token ids"),
    "another file": (lambda raw: b"x" * 200, "no token ids"),
    "cut off": (lambda raw: raw[:-1], "no token ids"),
    "ids are missing": (lambda raw: raw[2:], "bytes of token ids"),
    "too long about": (lambda raw: raw[:-16] + b"\xff" * 8 + raw[-8:], "too long"),
    "no JSON": (replaced(b'"format": ', b'"format"; '), "delimiter"),
    "another format": (replaced(b'"format": 1', b'"format": 2'), "has the format 2, this release reads 1"),
    "no number": (replaced(b'"entries": 3', b'"entries": "3"'), "is no size"),
    "a negative number": (replaced(b'"entries": 3', b'"entries": -3'), "is no size"),
    "a huge number": (replaced(b'"ids": 6', b'"ids": 9000000000'), "bytes of token ids"),
    "fewer texts": (replaced(b'"entries": 3', b'"entries": 2'), "bytes of token ids"),
    "no vocabulary": (replaced(b'"vocabulary"', b'"vocabulari"'), "damaged"),
    "notes that are none": (replaced(b'"notes": {}', b'"notes": []'), "damaged"),
    "not sorted": (at(16, b"\xff" * 8), "not sorted"),
    "start before the beginning": (at(16 + 48, b"\xff" * 8), "lie outside"),
    "start behind the end": (at(16 + 48, (6).to_bytes(8, "little")), "lie outside"),
    "count beyond the end": (at(16 + 72, (20).to_bytes(4, "little")), "lie outside"),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_file_is_refused(damage: str, tokenizer, tmp_path: Path):
    change, reason = DAMAGES[damage]
    with pytest.raises(ValueError, match=reason):
        TokenIdCache.read(damaged(tmp_path / "ids", tokenizer, change))


@settings(max_examples=200)
@given(st.data())
def test_no_change_of_a_byte_crashes(tokenizer, data: st.DataObject):
    with tempfile.TemporaryDirectory() as folder:
        path = damaged(Path(folder) / "ids", tokenizer, lambda raw: raw)
        size = os.path.getsize(path)
        position = data.draw(st.integers(0, size - 1))
        path.write_bytes(at(position, bytes([data.draw(st.integers(0, 255))]))(path.read_bytes()))
        try:
            cache = TokenIdCache.read(path)
            cache.ids(np.arange(len(cache)))
        except ValueError:
            pass


def test_an_id_that_no_model_knows_is_never_handed_out(tokenizer, tmp_path: Path, caplog: pytest.LogCaptureFixture):
    path = damaged(tmp_path / "ids", tokenizer, at(0, b"\xff\xff"))
    cache = TokenIdCache.read(path)
    with pytest.raises(ValueError, match="holds the token id 65535, the vocabulary has"):
        cache.check()
    pairs = PairTokenizer(tokenizer, max_length=40, query_max_length=8)
    asked = [("a", text) for text in ("aspirin inhibits", "platelets", "heart")]
    expected = pairs.encode(asked)
    pairs.texts.use(cache)
    for _ in range(2):
        assert same(pairs.encode(asked), expected)
    assert caplog.text.count("are damaged: it holds the token id 65535") == 1


# Through the reranker


def passages() -> list[Passage]:
    filler = "the study of cells in patients with a disease. "
    lengths = [0, 1, 2, 3, 4, 5, 8, 12]
    return [Passage(str(n), f"aspirin {n}. " + filler * n, "the heart" if n % 2 else None) for n in lengths]


@pytest.mark.parametrize("windows", [True, False])
@pytest.mark.parametrize("window_length", [8, None])
def test_a_ranking_is_the_same_bit_by_bit(tiny_cross_encoder_dir: Path, windows: bool, window_length: int | None):
    def make() -> BioReranker:
        return BioReranker(
            tiny_cross_encoder_dir,
            device="cpu",
            dtype="float32",
            max_length=48,
            query_max_length=16,
            windows=windows,
            window_length=window_length,
            document_prefix="passage: ",
        )

    plain, reranker = make(), make()
    tokens = reranker.passage_tokens()
    cache = cache_of([tokens.text(passage) for passage in passages()], tokens.ids)
    reranker.use_token_cache(cache)
    expected = plain.rank("does aspirin inhibit platelets?", passages(), evidence=2)
    found = reranker.rank("does aspirin inhibit platelets?", passages(), evidence=2)
    assert found.passages == expected.passages
    assert {ranked.n_windows > 1 for ranked in found} == ({True, False} if windows else {False})


def test_a_cache_may_be_given_before_the_model_is_loaded(tiny_cross_encoder_dir: Path):
    told = BioReranker(tiny_cross_encoder_dir, device="cpu", dtype="float32")
    cache = cache_of(["aspirin"], told.passage_tokens().ids, told=["platelets"])
    reranker = BioReranker(tiny_cross_encoder_dir, device="cpu", dtype="float32")
    reranker.use_token_cache(cache)
    assert reranker.rank("a", ["aspirin"])[0].logit == told.rank("a", ["platelets"])[0].logit


def test_a_model_without_tokens_takes_a_cache_and_does_nothing_with_it(tokenizer):
    cache = cache_of(["aspirin"], TextIds(tokenizer))
    reranker = BioReranker(length())
    reranker.use_token_cache(cache)
    reranker.warm_up()
    reranker.use_token_cache(cache)
    assert reranker.rank("a", ["aspirin"])[0].logit == 7.0


def test_the_module_loads_nothing_heavy():
    code = (
        "import sys, biorerank_plugins.runtime.token_cache\n"
        "heavy = {'faiss', 'torch', 'transformers', 'llama_index', 'haystack', 'langchain_core'}\n"
        "sys.exit(' '.join(heavy & set(sys.modules)) or 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
