"""``biorerank index``: builds, adds, replaces; keeps the old index whatever happens."""

from __future__ import annotations

import gzip
import io
import json
import os
import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import Result

from biorerank_plugins import PassageIndex
from biorerank_plugins.cli import app
from biorerank_plugins.readers import FORMATS

Run = Callable[..., Result]
ErrorLine = Callable[..., str]


def _ids(folder: Path) -> list[str]:
    with PassageIndex.load(folder) as index:
        return [passage.id for passage in index.passages()]


def _jsonl(path: Path, *ids: str) -> Path:
    path.write_text("".join(json.dumps({"id": id_, "text": f"aspirin {id_}"}) + "\n" for id_ in ids), encoding="utf-8")
    return path


def test_an_index_is_built(biorerank: Run, collection: Path, tmp_path: Path) -> None:
    result = biorerank("index", collection, "--out", tmp_path / "new")
    assert result.exit_code == 0
    assert "6 passages (6 new)" in result.stdout
    assert _ids(tmp_path / "new") == ["p1", "p2", "p3", "p4", "p5", "p6"]


def test_an_index_in_int8_answers_as_one_in_fp32(biorerank: Run, collection: Path, tmp_path: Path) -> None:
    for dtype in ("int8", "float32"):
        assert biorerank("index", collection, "--out", tmp_path / dtype, "--dtype", dtype).exit_code == 0
    with PassageIndex.load(tmp_path / "int8") as ours, PassageIndex.load(tmp_path / "float32") as exact:
        found, expected = (index.search("what lowers glucose?", 6, first_stage="dense") for index in (ours, exact))
    scores = {one.passage.id: one.score for one in expected}
    assert [one.score for one in found] == pytest.approx([scores[one.passage.id] for one in found], abs=0.02)
    assert [one.score for one in found] != [scores[one.passage.id] for one in found]


def test_several_inputs_and_stdin_become_one_index(biorerank: Run, tmp_path: Path) -> None:
    first = _jsonl(tmp_path / "a.jsonl", "a")
    second = tmp_path / "b.tsv.gz"
    second.write_bytes(gzip.compress(b"b\tmetformin lowers glucose\n"))
    result = biorerank(
        "index", first, second, "-", "--out", tmp_path / "new", input=b'{"id": "c", "text": "insulin"}\n'
    )
    assert result.exit_code == 0, result.output
    assert _ids(tmp_path / "new") == ["a", "b", "c"]


def test_lines_of_text_are_passages_if_asked_for(biorerank: Run, tmp_path: Path) -> None:
    result = biorerank("index", "-", "--format", "lines", "--out", tmp_path / "new", input="first\n\nsecond\n")
    assert result.exit_code == 0, result.output
    assert _ids(tmp_path / "new") == ["1", "2"]


def test_json_is_all_there_is_on_stdout(biorerank: Run, collection: Path, tmp_path: Path) -> None:
    document = json.loads(biorerank("index", collection, "--out", tmp_path / "new", "--json").stdout)
    assert (document["passages"], document["added"], document["folder"]) == (6, 6, str(tmp_path / "new"))
    assert document["seconds"] > 0


def test_quiet_says_nothing_but_the_result(biorerank: Run, collection: Path, tmp_path: Path) -> None:
    result = biorerank("index", collection, "--out", tmp_path / "new", "--quiet")
    assert result.stderr == ""
    assert len(result.stdout.splitlines()) == 1


def test_an_existing_index_is_only_replaced_on_request(
    biorerank: Run, error_line: ErrorLine, collection: Path, tmp_path: Path
) -> None:
    folder, other = tmp_path / "index", _jsonl(tmp_path / "a.jsonl", "a")
    biorerank("index", collection, "--out", folder)
    assert "--overwrite to replace it, --add to add to it" in error_line(biorerank("index", other, "--out", folder))
    assert len(_ids(folder)) == 6
    assert biorerank("index", other, "--out", folder, "--overwrite").exit_code == 0
    assert _ids(folder) == ["a"]


def test_passages_are_added(biorerank: Run, run: Run, error_line: ErrorLine, collection: Path, tmp_path: Path) -> None:
    folder, other = tmp_path / "index", _jsonl(tmp_path / "a.jsonl", "p1", "a")
    biorerank("index", collection, "--out", folder)
    assert "p1" in error_line(run("index", other, "--out", folder, "--add"))
    assert len(_ids(folder)) == 6
    result = run("index", other, "--out", folder, "--add", "--on-duplicate", "skip", "--json")
    assert json.loads(result.stdout)["added"] == 1
    assert _ids(folder)[-1] == "a"


def test_malformed_lines_stop_or_are_counted(biorerank: Run, error_line: ErrorLine, tmp_path: Path) -> None:
    corpus = _jsonl(tmp_path / "a.jsonl", "a")
    corpus.write_text(corpus.read_text() + "not json\n" + '{"id": "b"}\n' + '{"id": "c", "text": "insulin"}\n')
    folder = tmp_path / "index"
    assert "a.jsonl:2: Not valid JSON" in error_line(biorerank("index", corpus, "--out", folder))
    assert not folder.exists()
    result = biorerank("index", corpus, "--out", folder, "--skip-bad")
    assert result.exit_code == 0
    assert "2 malformed lines or files were left out" in result.stderr
    assert "a.jsonl:2: Not valid JSON" in result.stderr
    assert "a.jsonl:3: No 'text'" in result.stderr
    assert _ids(folder) == ["a", "c"]


@pytest.mark.parametrize("id_", ["a", 1])
def test_a_duplicate_id_is_an_error_unless_skipped(
    biorerank: Run, error_line: ErrorLine, tmp_path: Path, id_: object
) -> None:
    corpus = tmp_path / "a.jsonl"
    corpus.write_text(2 * (json.dumps({"id": id_, "text": "aspirin"}) + "\n"))
    said = error_line(biorerank("index", corpus, "--out", tmp_path / "index"))
    assert f"Passage id '{id_}'" in said
    assert said.endswith("Ids must be unique; --on-duplicate skip keeps the first.")
    assert not (tmp_path / "index").exists()
    assert biorerank("index", corpus, "--out", tmp_path / "index", "--on-duplicate", "skip").exit_code == 0


def test_bad_input_is_one_line_and_leaves_nothing(
    run: Run, biorerank: Run, error_line: ErrorLine, collection: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    (tmp_path / "empty.jsonl").touch()
    (tmp_path / "blank.jsonl").write_text('{"id": "a", "text": "  "}\n')
    (tmp_path / "image.jsonl").write_bytes(b"\x89PNG\r\n")
    (tmp_path / "nothing").mkdir()
    assert "empty" in error_line(biorerank("index", tmp_path / "empty.jsonl", "--out", out))
    assert "The text is empty" in error_line(biorerank("index", tmp_path / "blank.jsonl", "--out", out))
    assert "a PNG image" in error_line(biorerank("index", tmp_path / "image.jsonl", "--out", out))
    assert "no file to read" in error_line(biorerank("index", tmp_path / "nothing", "--out", out))
    assert "no such file" in error_line(biorerank("index", tmp_path / "absent.jsonl", "--out", out))
    assert "biorerank-encoder-minilm-l6" in error_line(run("index", collection, "--out", out, "--encoder", "unknown"))
    assert "nothing" in error_line(run("index", collection, "--out", out, "--encoder", tmp_path / "nothing"))
    assert not out.exists()


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["--factory", "Tree"], 2, "--factory 'Tree' is not offered. Choose one of: Flat, HNSW"),
        (["--factory", ""], 2, "--factory '' is not offered"),
        (["--format", "pptx"], 2, "--format 'pptx' is unknown. Choose one of: auto, jsonl"),
        (["absent.jsonl"], 1, "absent.jsonl: There is no such file"),
        (["absent.jsonl", "--format", "lines"], 1, "absent.jsonl: There is no such file"),
        ([""], 2, "the path is empty"),
    ],
)
def test_what_is_cheap_is_checked_before_the_model_is_loaded(
    run: Run, error_line: ErrorLine, collection: Path, tmp_path: Path, arguments: list[str], code: int, said: str
) -> None:
    """The model is none, and that is not what the error is about."""
    result = run("index", collection, *arguments, "--out", tmp_path / "out", "--encoder", "unknown")
    assert said in error_line(result, code=code)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("content", "options", "said"),
    [
        ("", [], "The file is empty."),
        ("not json\n", [], "a.jsonl:1: Not valid JSON"),
        ("not json\n", ["--skip-bad"], "There are no passages to index in the input."),
        ("", ["--format", "lines"], "There are no passages to index in the input."),
    ],
)
def test_the_first_passage_is_read_before_the_model_is_loaded(
    run: Run, error_line: ErrorLine, tmp_path: Path, content: str, options: list[str], said: str
) -> None:
    (tmp_path / "a.jsonl").write_text(content)
    result = run("index", tmp_path / "a.jsonl", "--out", tmp_path / "out", "--encoder", "unknown", *options)
    assert said in error_line(result)
    assert "Embedding" not in result.stderr
    assert not (tmp_path / "out").exists()


def test_an_empty_out_is_not_the_current_folder(biorerank: Run, error_line: ErrorLine, collection: Path) -> None:
    assert "'--out' / '-o': the path is empty" in error_line(biorerank("index", collection, "--out", ""), code=2)


@pytest.mark.parametrize("given", ["", " \n\n"])
def test_an_empty_stdin_is_called_so(run: Run, error_line: ErrorLine, tmp_path: Path, given: str) -> None:
    result = run("index", "-", "--out", tmp_path / "out", "--encoder", "unknown", input=given)
    assert error_line(result).startswith("Error: stdin is empty")


def test_a_closed_stdin_is_called_so(index_folder: Path, tmp_path: Path) -> None:
    """As after ``<&-``, where Python has no ``sys.stdin``."""
    environment = {**os.environ, "HF_HUB_OFFLINE": "1"}
    for arguments in (["index", "-", "--out", str(tmp_path / "out")], ["search", str(index_folder), "-"]):
        line = shlex.join([sys.executable, "-m", "biorerank_plugins.cli", *arguments])
        done = subprocess.run(["sh", "-c", f"{line} <&-"], capture_output=True, text=True, env=environment, timeout=60)
        assert (done.returncode, done.stdout) == (1, "")
        assert done.stderr == "Error: stdin is closed, so nothing can be read from it.\n"


def test_errors_on_stdin_name_it_and_the_line(biorerank: Run, error_line: ErrorLine, tmp_path: Path) -> None:
    given = '\n{"id": "a", "text": "b"}\nnot json\n'
    result = biorerank("index", "-", "--out", tmp_path / "out", input=given)
    assert "stdin:3: Not valid JSON" in error_line(result)


def test_a_long_or_zipped_stdin_is_read_whole(biorerank: Run, tmp_path: Path) -> None:
    lines = "".join(f'{{"id": {n}, "text": "{"aspirin " * 10}"}}\n' for n in range(1000)).encode()
    for name, given in (("plain", b"\n" + lines), ("zipped", gzip.compress(lines))):
        result = biorerank("index", "-", "--out", tmp_path / name, "--json", input=given)
        assert json.loads(result.stdout)["passages"] == 1000


def test_an_unknown_format_names_the_option(run: Run, error_line: ErrorLine, tmp_path: Path) -> None:
    (tmp_path / "notes").write_text("aspirin\n")
    said = error_line(run("index", tmp_path / "notes", "--out", tmp_path / "out"))
    assert said.endswith("Cannot tell the format from the name or content. Say which: "
                         f"{', '.join(FORMATS)}. Use --format.")  # fmt: skip


def test_help_says_what_duplicates_are_a_matter_of(run: Run) -> None:
    shown = " ".join(run("index", "--help").stdout.replace("│", " ").split())
    assert "duplicates are a matter of --on-duplicate" in shown


def test_one_passage_is_no_plural(biorerank: Run, tmp_path: Path) -> None:
    assert "1 passage (1 new)" in biorerank("index", _jsonl(tmp_path / "a.jsonl", "a"), "--out", tmp_path / "o").stdout


def test_the_folder_must_be_free_or_an_index(
    biorerank: Run, error_line: ErrorLine, collection: Path, tmp_path: Path
) -> None:
    """It is looked at before anything is embedded."""
    foreign = tmp_path / "foreign"
    foreign.mkdir()
    (foreign / "thesis.doc").touch()
    for options in ([], ["--overwrite"]):
        assert "no passage index" in error_line(biorerank("index", collection, "--out", foreign, *options))
    assert "There is no passage index" in error_line(biorerank("index", collection, "--out", foreign, "--add"))
    assert "is a file" in error_line(biorerank("index", collection, "--out", foreign / "thesis.doc"))
    assert [path.name for path in foreign.iterdir()] == ["thesis.doc"]


def test_options_that_contradict_each_other_are_wrong_usage(
    biorerank: Run, error_line: ErrorLine, collection: Path, index_folder: Path
) -> None:
    both = biorerank("index", collection, "--out", index_folder, "--add", "--overwrite")
    assert "exclude each other" in error_line(both, code=2)
    factory = biorerank("index", collection, "--out", index_folder, "--add", "--factory", "Flat")
    assert "--factory belongs to a new index" in error_line(factory, code=2)
    words = biorerank("index", collection, "--out", index_folder, "--add", "--no-lexical")
    assert "--no-lexical belongs to a new index" in error_line(words, code=2)


def test_adding_with_another_model_is_refused(
    run: Run, error_line: ErrorLine, collection: Path, index_folder: Path, other_encoder_dir: Path
) -> None:
    result = run("index", collection, "--out", index_folder, "--add", "--encoder", other_encoder_dir)
    assert "built with another encoder" in error_line(result)
    assert len(_ids(index_folder)) == 6


class Interrupted(io.RawIOBase):
    """A stream that gives one passage and then Ctrl-C."""

    def __init__(self) -> None:
        self.given = False

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: bytearray) -> int:
        if self.given:
            raise KeyboardInterrupt
        self.given = True
        line = b'{"id": "new", "text": "aspirin"}\n'
        buffer[: len(line)] = line
        return len(line)


@pytest.mark.parametrize("options", [["--overwrite"], ["--add"], []])
def test_ctrl_c_leaves_the_old_index_as_it_was(
    biorerank: Run,
    collection: Path,
    tiny_encoder_dir: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    options: list[str],
) -> None:
    folder = tmp_path / "index"
    if options:
        assert biorerank("index", collection, "--out", folder).exit_code == 0
    before = sorted(folder.rglob("*"))
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BufferedReader(Interrupted())))
    with pytest.raises(SystemExit, match="130"):
        app(["index", "-", "--format", "jsonl", "--out", str(folder), "--encoder", str(tiny_encoder_dir), *options])
    shown = capsys.readouterr()
    assert shown.out == ""
    assert shown.err.splitlines()[-1] == "Interrupted."
    assert sorted(folder.rglob("*")) == before
    if options:
        assert len(_ids(folder)) == 6
