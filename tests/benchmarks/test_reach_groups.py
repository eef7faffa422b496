"""Groups in every form of question: what is kept apart, and how abstracts are cut into sections."""

from __future__ import annotations

import hashlib

from benchmarks.training.reach_groups import ReachBuilder, kept_for_dev


def test_one_in_sixteen_is_kept_for_dev_by_its_id_alone():
    ids = [f"d{n}" for n in range(2_000)]
    kept = [i for i in ids if kept_for_dev(i)]
    assert kept == [i for i in ids if hashlib.sha1(i.encode()).hexdigest().startswith("0")]
    assert 80 < len(kept) < 170


def test_sections_are_cut_between_sentences_and_leave_out_the_last_one():
    sentences = [f"Sentence number {n} says a thing." for n in range(9)]
    text = " ".join(sentences)
    sections = list(ReachBuilder.sections(None, text))  # type: ignore[arg-type]  # it needs nothing of a builder
    assert len(sections) == 3
    assert all(section in text and section.endswith(".") for section in sections)
    assert [s for s in sentences[:8] if not any(s in section for section in sections)] == []
