"""JSON Lines in BEIR's form and ours."""

from __future__ import annotations

import io
import json

from hypothesis import given
from hypothesis import strategies as st

from biorerank_plugins.errors import ReaderError
from biorerank_plugins.passages import Passage
from biorerank_plugins.readers import FORMATS, ReadReport, read_passages, read_qrels, read_queries

# Whatever a passage may hold: no lone surrogates, no NUL, not blank.
TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0")).filter(str.strip)


def read(*records: object) -> list[Passage]:
    data = "\n".join(json.dumps(record) for record in records).encode()
    return list(read_passages(io.BytesIO(data), format="jsonl"))


def test_beir_form() -> None:
    [passage] = read({"_id": "d1", "title": "Gout", "text": "Urate.", "metadata": {"year": 2001, "ok": False}})
    assert passage == Passage("d1", "Urate.", "Gout", {"year": 2001, "ok": False})


def test_bioasq_corpus_form_gives_the_pmid() -> None:
    old, new, none = read(
        {"id": "p1", "text": "a", "document": "http://www.ncbi.nlm.nih.gov/pubmed/27870723"},
        {"id": "p2", "text": "b", "document": "https://pubmed.ncbi.nlm.nih.gov/123/"},
        {"id": "p3", "text": "c", "document": None},
    )
    assert old.metadata == {"document": "http://www.ncbi.nlm.nih.gov/pubmed/27870723", "pmid": "27870723"}
    assert new.metadata["pmid"] == "123"
    assert none.metadata == {"document": None}


def test_extra_keys_and_numbers_as_ids() -> None:
    zero, real = read(
        {"_id": 0, "id": "other", "title": " ", "text": "a", "cord_uid": "x", "metadata": None},
        {"id": 1.5, "text": "b", "pmid": "9", "document": "http://www.ncbi.nlm.nih.gov/pubmed/1"},
    )
    assert zero == Passage("0", "a", None, {"id": "other", "cord_uid": "x"})
    assert real.id == "1.5"
    assert real.metadata["pmid"] == "9"


@given(TEXT, TEXT, TEXT, st.booleans())
def test_any_text_comes_back_as_it_was(id_: str, text: str, title: str, escape: bool) -> None:
    line = json.dumps({"id": id_, "title": title, "text": text, "note": text}, ensure_ascii=escape)
    [passage] = read_passages(io.BytesIO(line.encode()))
    assert passage == Passage(id_, text, title, {"note": text})


@given(
    st.binary(max_size=200)
    | st.builds(
        lambda start, rest: start + rest, st.sampled_from([b"{", b'{"id":', b"<a", b"\x1f\x8b\x08"]), st.binary()
    ),
    st.sampled_from(["auto", *FORMATS]),
    st.sampled_from(["error", "skip"]),
)
def test_random_bytes_never_raise_anything_but_a_reader_error(data: bytes, format_: str, bad_lines: str) -> None:
    report = ReadReport()
    for readable in (
        lambda: list(read_passages(io.BytesIO(data), format=format_, bad_lines=bad_lines, report=report)),  # type: ignore[arg-type]
        lambda: read_queries(io.BytesIO(data)),
        lambda: read_qrels(io.BytesIO(data)),
    ):
        try:
            readable()
        except ReaderError as error:
            assert str(error)
    assert report.n_skipped == len(report.skipped)


def test_a_title_without_a_text_is_the_text() -> None:
    data = b'{"_id": "7", "title": "Stress", "text": "", "metadata": {}}'
    assert list(read_passages(io.BytesIO(data), format="jsonl")) == [Passage("7", "Stress")]
