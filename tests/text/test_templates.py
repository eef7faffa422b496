"""What the model reads of a passage, and when two passages are the same."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from biorerank_plugins import Candidate, Passage
from biorerank_plugins.articles.duplicates import check_keys, deduplicate
from biorerank_plugins.text.templates import check_template, passage_text, wellformed


@pytest.mark.parametrize(
    ("title", "text", "read"),
    [
        ("TP53", "It acts.", "TP53. It acts."),
        ("TP53.", "It acts.", "TP53. It acts."),
        ("What is TP53?", "A gene.", "What is TP53? A gene."),
        ("  TP53 ", "It acts.", "TP53. It acts."),
        (None, "It acts.", "It acts."),
        ("", "It acts.", "It acts."),
        ("   ", "It acts.", "It acts."),
        (None, ".5 mg", ".5 mg"),
        ("TP53", "", "TP53"),
        (None, "", ""),
    ],
)
def test_the_default_template(title, text, read):
    assert passage_text(Passage("1", text, title)) == read


@pytest.mark.parametrize(
    ("template", "metadata", "title", "read"),
    [
        ("{title}\n{text}", {}, "T", "T\nx"),
        ("{title} ({journal}, {year}): {text}", {"journal": "J", "year": 0}, "T", "T (J, 0): x"),
        ("{year}: {text}", {}, None, "x"),
        ("{text}. {mesh}", {"mesh": ["a", "b"]}, None, "x. a, b"),
        ("Title: {title}. Abstract: {text}", {}, None, "Abstract: x"),
        ("[{text}]", {}, None, "[x]"),
        ("{text} ({year})", {}, None, "x"),
        ("{title} ({year}). {text}", {}, "T", "T. x"),
        ("{title} ({year}). {text}", {}, None, "x"),
        ("{title} ({year}). {text}", {"year": 0}, None, "(0). x"),
        ("> {text}", {}, None, "> x"),
        ("{{{text}}}", {}, None, "{x}"),
        ("{text} (end)", {}, None, "x (end)"),
    ],
)
def test_other_templates(template, metadata, title, read):
    assert passage_text(Passage("1", "x", title, metadata), check_template(template)) == read


def test_a_function_can_be_the_template():
    assert passage_text(Passage("1", "x"), lambda passage: f"<{passage.text}>") == "<x>"
    with pytest.raises(TypeError, match="must return a string, got int"):
        passage_text(Passage("1", "x"), lambda passage: 1)


@pytest.mark.parametrize(
    "template", ["", "{title}", "{text", "{text} {}", "{text} {a.b}", "{text:>9}", "{text!r}", "{0}{text}"]
)
def test_an_impossible_template_is_refused(template):
    with pytest.raises(ValueError, match="template="):
        check_template(template)


def test_a_template_of_another_type_is_refused():
    with pytest.raises(TypeError, match="template must be a format string or a function, got int"):
        check_template(5)


@given(st.text(alphabet=st.characters(), max_size=20))
def test_wellformed_text_can_be_encoded_and_keeps_its_length(text):
    result = wellformed(text)
    result.encode("utf-8")
    assert len(result) == len(text)
    assert all(a == b or ("\ud800" <= a <= "\udfff" and b == "?") for a, b in zip(text, result, strict=True))


def _candidates(*passages: Passage) -> list[Candidate]:
    return [Candidate(passage) for passage in passages]


@pytest.mark.parametrize(
    ("key", "a", "b", "same"),
    [
        ("id", Passage("1", "x"), Passage("1", "y"), True),
        ("id", Passage("1", "x"), Passage("2", "x"), False),
        ("pmid", Passage("1", "x", metadata={"pmid": 7}), Passage("2", "y", metadata={"pmid": "7"}), True),
        (
            "pmid",
            Passage("1", "x", metadata={"document": "http://www.ncbi.nlm.nih.gov/pubmed/7"}),
            Passage("2", "y", metadata={"pmid": "7"}),
            True,
        ),
        ("pmid", Passage("1", "x"), Passage("2", "y"), False),
        (
            "doi",
            Passage("1", "x", metadata={"doi": "https://doi.org/10.1000/ABC"}),
            Passage("2", "y", metadata={"doi": "10.1000/abc"}),
            True,
        ),
        ("doi", Passage("1", "x", metadata={"doi": "none"}), Passage("2", "y", metadata={"doi": "none"}), False),
        ("text", Passage("1", "TP53  acts."), Passage("2", "tp53 acts"), True),
        ("text", Passage("1", "CD4+ cells"), Passage("2", "CD4- cells"), False),
        ("text", Passage("1", "p < 0.05"), Passage("2", "p > 0.05"), False),
        ("text", Passage("1", ""), Passage("2", ""), False),
        ("text", Passage("1", "..."), Passage("2", "..."), True),
    ],
)
def test_when_passages_are_the_same(key, a, b, same):
    assert deduplicate(_candidates(a, b), key) == (([0], [1]) if same else ([0, 1], []))
    assert deduplicate(_candidates(b, a), key)[1] == ([1] if same else [])


def test_a_passage_is_dropped_only_for_one_that_stays():
    chain = _candidates(Passage("1", "x"), Passage("1", "y"), Passage("2", "y"))
    assert deduplicate(chain, ["id", "text"]) == ([0, 2], [1])


@given(st.lists(st.tuples(st.sampled_from("abc"), st.sampled_from("xyz")), max_size=8))
def test_deduplication_against_a_slow_reference(drawn):
    passages = [Passage(name, text) for name, text in drawn]
    kept, dropped = deduplicate(_candidates(*passages), ("id", "text"))
    assert sorted(kept + dropped) == list(range(len(passages)))

    def agree(a: int, b: int) -> bool:
        return passages[a].id == passages[b].id or passages[a].text == passages[b].text

    assert not any(agree(a, b) for a in kept for b in kept if a < b)
    assert all(any(agree(keeper, one) and keeper < one for keeper in kept) for one in dropped)
    assert deduplicate(_candidates(*passages), None) == (list(range(len(passages))), [])


@pytest.mark.parametrize("keys", ["title", ["id", "pubmed"], "", True, 3])
def test_unknown_keys_are_refused(keys):
    with pytest.raises(ValueError, match="Choose from id, pmid, doi, text"):
        check_keys(keys)
