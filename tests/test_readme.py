"""Every block of the README is executed: a reader who copies one must get what is promised."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```(\w+)\n(.*?)^```", README, re.MULTILINE | re.DOTALL)
PYTHON = [code for language, code in BLOCKS if language == "python"]
SHELL = [code for language, code in BLOCKS if language == "bash"]
SET_UP = [code for code in SHELL if "-m venv" in code]
ON_DATA = [code for code in SHELL if "$BIORERANK_DATA" in code]
COMMANDS = [code for code in SHELL if code not in SET_UP and code not in ON_DATA]


def _run(code: str, folder: Path, **environment: str) -> str:
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", code],
        cwd=folder,
        env={**os.environ, "PATH": path, **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_every_block_is_of_a_kind_that_is_executed() -> None:
    assert {language for language, _ in BLOCKS} == {"python", "bash"}
    assert len(PYTHON) >= 3 and len(SET_UP) == 2 and len(COMMANDS) >= 1 and len(ON_DATA) == 1


@pytest.mark.parametrize("code", PYTHON)
def test_python_block(code: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, no_network: None) -> None:
    monkeypatch.chdir(tmp_path)
    exec(compile(code, "README.md", "exec"), {"__name__": "__main__"})


@pytest.mark.parametrize("code", COMMANDS)
def test_command_block(code: str, tmp_path: Path) -> None:
    rows = [
        {"_id": "1", "title": "Idarucizumab", "text": "Idarucizumab reverses the anticoagulant effect of dabigatran."},
        {"_id": "2", "title": "", "text": "Dabigatran is a direct thrombin inhibitor cleared by the kidney."},
    ]
    (tmp_path / "my-passages.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    if "biorerank train" in code:
        _write_questions(tmp_path / "my-questions.jsonl")
    out = _run(code, tmp_path)
    if "biorerank train" in code:
        assert (tmp_path / "my-model" / "model" / "model.safetensors").is_file()
    elif "--plan" in code:
        assert {"Flat", "HNSW32_SQ8"} <= {line.split("\t")[0] for line in out.splitlines()}
    else:
        assert "Idarucizumab" in out


def _write_questions(path: Path) -> None:
    """Questions in the shared JSONL form of BioASQ, few enough for a training of seconds."""
    drugs = {
        "dabigatran": "Idarucizumab",
        "heparin": "Protamine",
        "warfarin": "Vitamin K",
        "apixaban": "Andexanet alfa",
    }
    rows = [
        {
            "id": drug,
            "question": f"Which agent reverses {drug}?",
            "snippets": [{"text": f"{agent} reverses the anticoagulant {drug} in an emergency.", "document": drug}],
            "documents": [drug],
        }
        for drug, agent in drugs.items()
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


@pytest.mark.slow
@pytest.mark.parametrize("code", SET_UP)
def test_set_up_block(code: str, tmp_path: Path) -> None:
    """The commands as a reader types them, in a copy of the checkout (the test run itself is cut to one file)."""
    checkout = tmp_path / "checkout"
    shutil.copytree(ROOT, checkout, ignore=shutil.ignore_patterns(".git", ".venv", "build", "dist", ".*_cache"))
    _run(code.replace("-m pytest", "-m pytest tests/test_passages.py"), checkout)


@pytest.mark.slow
@pytest.mark.data
@pytest.mark.parametrize("code", ON_DATA)
def test_block_on_data(code: str, tmp_path: Path, data_dir: Path) -> None:
    _run(code, tmp_path, BIORERANK_DATA=str(data_dir))


def test_constraints_pin_the_torch_that_is_tested() -> None:
    import torch

    pinned = re.search(r"^torch==(\S+)$", (ROOT / "constraints.txt").read_text(), re.MULTILINE)
    assert pinned is not None and "+" not in pinned.group(1)
    if "CI" in os.environ:
        assert torch.__version__.split("+")[0] == pinned.group(1)
