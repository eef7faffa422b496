"""``biorerank bench`` on a tiny model, one round."""

from __future__ import annotations

import json

import pytest

QUICK = ("--rounds", "1", "--candidates", "5", "--system", "ours-torch-float32")


@pytest.fixture
def bench(run, tiny_cross_encoder_dir):
    return lambda *arguments: run("bench", "--model", tiny_cross_encoder_dir, *arguments)


def test_a_table_with_the_baseline_and_ours(bench):
    result = bench(*QUICK)
    assert result.exit_code == 0, result.output
    heading, *lines = [line.split("\t") for line in result.stdout.splitlines()]
    assert heading[:4] == ["mix", "candidates", "system", "dtype"]
    found = {line[2]: dict(zip(heading, line, strict=True)) for line in lines}
    assert set(found) == {"predict", "ours-torch-float32"}
    assert found["predict"]["ratio"] == "1.00x"
    assert float(found["ours-torch-float32"]["Δ score"]) < 1e-5
    assert "Rounds: 1." in result.stderr


def test_json_on_stdout_and_in_a_file(bench, tmp_path):
    result = bench(*QUICK, "--json", "--quiet", "--json-out", tmp_path / "speed.json")
    assert result.exit_code == 0, result.output
    document = json.loads(result.stdout)
    assert document == json.loads((tmp_path / "speed.json").read_text())
    assert document["model"]["name"] == "tiny-cross-encoder"
    assert document["model"]["max_length"] == 128  # what the model has positions for
    (comparison,) = document["comparisons"]
    assert comparison["rounds"] == 1
    assert comparison["candidates"] == 5
    assert comparison["systems"]["ours-torch-float32"]["largest_difference_of_score"] < 1e-5
    assert result.stderr == ""


def test_several_mixes_and_numbers_of_candidates(bench):
    result = bench(*QUICK, "--candidates", "3", "--mix", "20", "--mix", "bioasq", "--concurrency", "2", "--json")
    assert result.exit_code == 0, result.output
    shown = [(one["mix"], one["candidates"]) for one in json.loads(result.stdout)["comparisons"]]
    assert shown == [("20", 5), ("20", 3), ("bioasq", 5), ("bioasq", 3)]


def test_what_is_not_possible_here_is_said(bench):
    result = bench(*QUICK, "--system", "ours-torch-float16", "--device", "cpu")
    assert result.exit_code == 0, result.output
    assert "Not possible here: ours-torch-float16" in result.stderr


def test_threads_are_given_back(bench):
    import torch

    before = torch.get_num_threads()
    result = bench(*QUICK, "--threads", "1", "--json")
    assert json.loads(result.stdout)["machine"]["threads"] == 1
    assert torch.get_num_threads() == before


@pytest.mark.parametrize(
    ("arguments", "said", "code"),
    [
        (("--system", "nothing"), "no system 'nothing'. Choose from: predict", 2),
        (("--mix", "short"), "The mix 'short' is unknown", 2),
        (("--rounds", "0"), "Invalid value for '--rounds'", 2),
        (("--candidates", "none"), "Invalid value for '--candidates'", 2),
        (("--device", "tpu"), "is no device", 1),
        (("--data", "missing-folder"), "No corpus.jsonl.gz", 1),
        (("--json-out", "missing-folder/out.json"), "there is no folder", 1),
    ],
)
def test_wrong_options_are_one_line(bench, error_line, arguments, said, code):
    assert said in error_line(bench("--quiet", *arguments), code=code)


def test_an_unknown_model_is_one_line(run, error_line):
    assert "There is no model 'nothing'" in error_line(run("bench", "--quiet", "--model", "nothing"))
