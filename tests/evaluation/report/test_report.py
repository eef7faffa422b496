"""The report in a folder: complete, self-contained, and safe to open."""

from __future__ import annotations

import html.parser
import json
import re
import shutil
import sys
from pathlib import Path

import pytest
from support import needs
from support.evaluation import PASSAGES, CountWords
from support.scorers import short_first

from biorerank_plugins import BioReranker, PassageIndex
from biorerank_plugins._common.versions import install_line
from biorerank_plugins.errors import MissingExtraError
from biorerank_plugins.evaluation import SystemsReport, evaluate_systems
from biorerank_plugins.evaluation.report.pages import describe_setup, prepare_folder, write_report
from biorerank_plugins.evaluation.report.plots import draw_plots
from biorerank_plugins.readers import Query

pytestmark = needs("matplotlib", "jinja2")

HOSTILE = 'gout <script>alert("x")</script> | *uric* $x_1$ \x1b[2J'
QUERIES = [Query("q1", HOSTILE), Query("q2", "asthma"), Query("q3", "uric acid")]
QRELS = {"q1": {"right": 1}, "q2": {"other": 2}, "q3": {"right": 1}}


@pytest.fixture(scope="module")
def index() -> PassageIndex:
    return PassageIndex.build(PASSAGES, encoder=CountWords())


@pytest.fixture(scope="module")
def report(index: PassageIndex) -> SystemsReport:
    rerankers = {"_short $a_b$ <i>": BioReranker(short_first())}
    runs = {"run": {"q1": {"right": 1.0}}}
    return evaluate_systems(
        index, QUERIES, QRELS, first_stages=["dense"], rerankers=rerankers, fusion=1.0, runs=runs, candidates=50
    )


@pytest.fixture(scope="module")
def folder(index: PassageIndex, report: SystemsReport, tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("reports") / "out"
    setup = describe_setup(index, {"short": BioReranker(short_first())}, command=["biorerank", "evaluate"])
    write_report(report, setup, made)
    return made


class _Page(html.parser.HTMLParser):
    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.images: list[dict[str, str | None]] = []
        self.text = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        if tag == "img":
            self.images.append(dict(attrs))

    def handle_data(self, data: str) -> None:
        self.text += data


def test_all_files_are_there(folder: Path) -> None:
    assert sorted(path.name for path in folder.iterdir()) == [
        "depth.png", "differences.png", "means.png", "per-query.csv", "report.html", "report.json", "report.md",
    ]  # fmt: skip
    assert all(path.read_bytes().startswith(b"\x89PNG") for path in folder.glob("*.png"))


def test_the_page_needs_nothing_else_and_runs_nothing(folder: Path) -> None:
    text = (folder / "report.html").read_text(encoding="utf-8")
    page = _Page(text)
    assert not {"script", "i", "link", "iframe"} & set(page.tags)
    assert len(page.images) == 3
    assert all(str(image["src"]).startswith("data:image/png;base64,") and image["alt"] for image in page.images)
    assert '<script>alert("x")</script>' in page.text  # shown, not run
    assert "\x1b" not in text
    assert "http" not in text.replace("http-equiv", "")


def test_markdown_shows_hostile_text_as_it_is(folder: Path) -> None:
    text = (folder / "report.md").read_text(encoding="utf-8")
    assert "<script>" not in text
    assert r"&lt;script&gt;alert(" in text
    assert r"\| \*uric\*" in text
    tables = [line for line in text.split("\n") if line.startswith("|")]
    assert tables
    header = next(line for line in tables if line.startswith("| system | nDCG"))
    assert header == "| system | nDCG@10 | MRR@10 | MAP@10 | recall@100 |"


def test_the_best_value_of_each_column_is_marked(folder: Path, report: SystemsReport) -> None:
    text = (folder / "report.md").read_text(encoding="utf-8")
    best = max(system.measured.means["nDCG@10"] for system in report.systems.values())
    rows = [line for line in text.split("## Measures")[1].split("##")[0].split("\n") if line.startswith("| ")][2:]
    marked = [line.split(" | ")[1] for line in rows if line.split(" | ")[1].startswith("**")]
    assert marked and set(marked) == {f"**{best:.4f}**"}


def test_the_json_holds_everything(folder: Path, report: SystemsReport) -> None:
    document = json.loads((folder / "report.json").read_text(encoding="utf-8"))
    assert document["format"] == "biorerank-evaluation"
    assert document["setup"]["command"] == ["biorerank", "evaluate"]
    assert document["setup"]["versions"]["torch"]
    assert document["setup"]["passages"] == 3
    assert document["per_query"]["dense"]["nDCG@10"] == dict(report.systems["dense"].measured.per_query["nDCG@10"])
    assert document["questions"]["q2"] == "asthma"


def test_models_are_named_by_their_hash(tiny_cross_encoder_dir: Path) -> None:
    from biorerank_plugins import models

    with BioReranker(tiny_cross_encoder_dir, device="cpu", dtype="float32") as reranker:
        setup = describe_setup(None, {"tiny": reranker})
    about = setup["rerankers"]["tiny"]
    assert about["sha256"] == models.content_hash(tiny_cross_encoder_dir)
    assert (about["device"], about["dtype"]) == ("cpu", "float32")


def test_plots_say_in_words_what_they_show(report: SystemsReport) -> None:
    plots = draw_plots(report)
    dense = report.systems["dense"]
    assert f"dense {dense.measured.means['nDCG@10']:.3f}" in plots[0].description
    assert f"{dense.depth[50]:.3f} at 50" in plots[1].description
    wins = report.comparisons["run"]["nDCG@10"].wins
    assert f"run is better on {wins} questions" in plots[2].description


def test_plots_leave_no_global_figures(report: SystemsReport) -> None:
    draw_plots(report)
    assert "matplotlib.pyplot" not in sys.modules or not sys.modules["matplotlib.pyplot"].get_fignums()


def test_a_report_replaces_an_earlier_one_and_nothing_else(report: SystemsReport, folder: Path, tmp_path: Path) -> None:
    earlier = tmp_path / "earlier"
    shutil.copytree(folder, earlier)
    prepare_folder(earlier)
    write_report(report, {}, earlier)
    (earlier / "thesis.docx").write_text("mine")
    with pytest.raises(ValueError, match=r"holds other files \(thesis.docx\)"):
        write_report(report, {}, earlier)
    with pytest.raises(ValueError, match="is a file"):
        prepare_folder(earlier / "thesis.docx")
    assert (earlier / "thesis.docx").read_text() == "mine"


def test_a_full_disk_is_told_before_the_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=1 << 20))
    with pytest.raises(OSError, match="32 MB are free"):
        prepare_folder(tmp_path / "out")


@pytest.mark.parametrize("module", ["matplotlib.figure", "jinja2"])
def test_a_missing_library_is_told_with_the_pip_line(
    module: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(MissingExtraError, match=re.escape(install_line("eval"))):
        prepare_folder(tmp_path / "out")
    assert not (tmp_path / "out").exists()
