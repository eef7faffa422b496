"""Abbreviations as texts define them, and the other forms of a question's words."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from biorerank_plugins.text.abbreviations import Abbreviations, definitions_in

DEFINED = [
    ("Patients with neuromyelitis optica (NMO) relapse.", [("NMO", "neuromyelitis optica")]),
    ("Tumour necrosis factor-α (TNF-α) binds.", [("TNF-α", "Tumour necrosis factor-α")]),
    ("Non-small cell lung cancer (NSCLC; stage III).", [("NSCLC", "Non-small cell lung cancer")]),
    ("Heat shock protein 90 (HSP90), heat.", [("HSP90", "Heat shock protein 90")]),
    ("CRM (cis-regulatory modules) are defined.", [("CRM", "cis-regulatory modules")]),
    ("Of CRM (see Figure 2) nothing.", []),
    ("Doxorubicin (DOX) is cardiotoxic.", [("DOX", "Doxorubicin")]),
    ("the retinoid orphan receptor (ROR)", [("ROR", "retinoid orphan receptor")]),  # "receptor" has all letters
    (
        "Proton pump inhibitors (PPIs) or a proton-pump inhibitor (PPI)",
        [
            ("PPIs", "Proton pump inhibitors"),
            ("PPI", "proton-pump inhibitor"),
        ],
    ),
    ("In idiopathic intracranial hypertension (IIH)", [("IIH", "idiopathic intracranial hypertension")]),
    ("MM (multiple myeloma) and AD dementia (AD)", [("MM", "multiple myeloma")]),
    ("a receptor (ROR)", []),  # one word that has the letters by chance
    ("It fell (p < 0.05), (see Methods), (n = 20) and (3).", []),
    ("It was safe. The (EMA) agreed.", []),  # nothing before it in its sentence
    ("in rats (and mice) and (Rattus norvegicus)", []),
    ("", []),
]


@pytest.mark.parametrize(("text", "expected"), DEFINED)
def test_what_a_text_defines(text: str, expected: list[tuple[str, str]]) -> None:
    assert list(definitions_in(text)) == expected


@given(st.text(alphabet="aAbBnN (-).;5\n", max_size=80))
def test_a_long_form_stands_in_the_text_and_has_the_letters_of_the_short_one(text: str) -> None:
    for short, long_form in definitions_in(text):
        assert short in text
        assert " ".join(long_form.split()) in " ".join(text.split())
        rest = iter(long_form.lower())
        assert all(letter in rest for letter in short.lower() if letter.isalnum())


def test_what_most_definitions_say_counts_and_what_no_half_agrees_on_does_not() -> None:
    known = Abbreviations(
        [("MS", "multiple sclerosis")] * 3
        + [("MS", "mass spectrometry")]
        + [("PD", "Parkinson disease"), ("PD", "panic disorder"), ("PD", "peritoneal dialysis")]
    )
    assert len(known) == 1
    assert known.other_forms("Is MS hereditary?") == "multiple sclerosis"
    assert known.other_forms("Is PD hereditary?") == ""


def test_both_directions_once_each_and_only_forms_that_are_not_there() -> None:
    known = Abbreviations(
        [("NMO", "neuromyelitis optica"), ("NMOs", "neuromyelitis optica"), ("IL-6", "interleukin-6")]
    )
    assert known.other_forms("How is NMO treated? NMO.") == "neuromyelitis optica"
    assert known.other_forms("How is Neuromyelitis  Optica treated?") == "NMO"
    assert known.other_forms("neuromyelitis optica (NMO)") == ""
    assert known.other_forms("interleukin 6 and IL-6") == ""
    assert known.other_forms("Does IL-6 act in NMO?") == "interleukin 6 neuromyelitis optica"
    assert known.other_forms("nmo il") == ""  # a short form is written as it was defined
    assert Abbreviations([]).other_forms("NMO") == ""


def test_the_order_in_which_texts_came_changes_nothing() -> None:
    pairs = [("PAR2", "protease activated receptor 2"), ("PAR2", "pseudoautosomal region 2")]
    first, second = Abbreviations(pairs), Abbreviations(pairs[::-1])
    assert first.other_forms("PAR2") == second.other_forms("PAR2") == "protease activated receptor 2"
