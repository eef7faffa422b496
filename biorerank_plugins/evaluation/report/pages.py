"""A report in a folder: Markdown, HTML (one file, images inside), JSON with everything, CSV, and the plots."""

from __future__ import annotations

import base64
import errno
import html
import json
import os
import platform
import re
import shutil
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from biorerank_plugins import models
from biorerank_plugins._common.files import write_whole
from biorerank_plugins._common.plots import require_matplotlib
from biorerank_plugins._common.versions import versions
from biorerank_plugins.errors import ModelError, require_extra
from biorerank_plugins.evaluation.metrics import measure_label
from biorerank_plugins.evaluation.report.plots import Plot, draw_plots
from biorerank_plugins.evaluation.report.tables import Table, make_tables
from biorerank_plugins.evaluation.results import SystemsReport, write_per_query
from biorerank_plugins.first_stage.protocol import SearchableIndex
from biorerank_plugins.models.folders import resolve_folder
from biorerank_plugins.reranking.reranker import BioReranker

_PACKAGES = (
    "torch", "transformers", "sentence-transformers", "faiss-cpu", "bm25s", "ir-measures", "numpy",
)  # fmt: skip

_JSON, _CSV, _MARKDOWN, _HTML = "report.json", "per-query.csv", "report.md", "report.html"
_OURS = {_JSON, _CSV, _MARKDOWN, _HTML, "means.png", "depth.png", "differences.png"}
_ROOM = 32 << 20  # bytes; a report of thousands of questions and tens of systems takes less
_CONTROLS = {code: "\ufffd" for code in (*range(9), 11, 12, *range(14, 32), 127)}
_MARKDOWN_SIGNS = re.compile(r"([\\`*_\[\]|#~])")


def describe_setup(
    index: SearchableIndex | None, rerankers: Mapping[str, BioReranker], *, command: Sequence[str] = ()
) -> dict[str, Any]:
    """Say how an evaluation was made, as plain JSON types; the rerankers are still open."""
    import torch

    return {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": list(command),
        "passages": None if index is None else len(index),
        "index": None if index is None else index.factory,
        "encoder": None
        if index is None
        else {"name": index.encoder.model_id, "sha256": index.encoder.content_hash, **_computing(index.encoder)},
        "rerankers": {
            name: {"name": one.model_name, "sha256": _hash(one.model_name), **_computing(one)}
            for name, one in rerankers.items()
        },
        "versions": versions(_PACKAGES),
        "platform": platform.platform(),
        "cpus": os.cpu_count(),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
    }


def _hash(name: str) -> str | None:
    """Return the hash of an embedded model or folder; a model of the hub and an object of the caller have none."""
    try:
        folder = resolve_folder(name)
        return None if folder is None else models.content_hash(folder)
    except ModelError:
        return None


def _computing(model: object) -> dict[str, str | None]:
    """Return device and precision of a model, ``None`` where it does not say."""
    for holder in (model, getattr(model, "_scorer", None), getattr(model, "_model", None)):
        device, dtype = (getattr(holder, key, getattr(holder, f"_{key}", None)) for key in ("device", "dtype"))
        if device is not None:
            return {"device": str(device), "dtype": None if dtype is None else str(dtype).removeprefix("torch.")}
    return {"device": None, "dtype": None}


def prepare_folder(folder: Path) -> None:
    """Make sure, before the work, that a report can be drawn and written; makes the folder.

    :param folder: a new or empty folder, or one that holds an earlier report, which will be replaced.
    :raises MissingExtraError: if matplotlib or jinja2 is not installed.
    :raises ValueError: if the folder holds other files, or is a file.
    :raises OSError: if it cannot be written, or there is no room.
    """
    require_matplotlib()
    _environment()
    if folder.exists() and not folder.is_dir():
        raise ValueError(f"The report needs a folder, and {folder} is a file. Give another name.")
    foreign = sorted(path.name for path in folder.iterdir() if path.name not in _OURS) if folder.is_dir() else []
    if foreign:
        raise ValueError(
            f"The folder {folder} holds other files ({', '.join(foreign[:3])}{', …' if len(foreign) > 3 else ''}). "
            "Give a new folder, or one with an earlier report."
        )
    folder.mkdir(exist_ok=True)
    probe = folder / f".{_JSON}.partial"
    probe.write_bytes(b"\0")
    probe.unlink()
    if shutil.disk_usage(folder).free < _ROOM:
        raise OSError(errno.ENOSPC, f"less than {_ROOM >> 20} MB are free, a report may not fit", str(folder))


def write_report(
    report: SystemsReport, setup: Mapping[str, Any], folder: str | Path, *, title: str = "Retrieval evaluation"
) -> None:
    """Write a report: ``report.html`` (one file with the plots inside), ``report.md``, ``report.json``, the CSV, plots.

    Each file is moved to its place when it is complete, the numbers first: they are what took the time. Errors are
    those of :func:`prepare_folder`.

    :param setup: what :func:`describe_setup` says.
    :param folder: as :func:`prepare_folder` takes it.
    :param title: heading of the report.

    >>> write_report(report, describe_setup(index, rerankers), "my-report")  # doctest: +SKIP
    """
    folder = Path(folder)
    prepare_folder(folder)
    document = {"format": "biorerank-evaluation", "setup": dict(setup), **report.to_dict()}
    write_whole(folder / _JSON, (json.dumps(document, indent=2, ensure_ascii=False, allow_nan=False) + "\n").encode())
    write_per_query(report, folder / _CSV)
    plots, tables = draw_plots(report), make_tables(report, setup)
    for plot in plots:
        write_whole(folder / plot.file_name, plot.png)
    lead = _lead(report)
    notes = [*report.notes, *filter(None, [report.gold_method]), "For research; not medical advice."]
    write_whole(folder / _MARKDOWN, _markdown(title, lead, notes, tables, plots).encode())
    page = _environment().get_template("report.html.jinja")
    html_text: str = page.render(title=title, lead=lead, notes=notes, tables=tables, plots=plots)
    write_whole(folder / _HTML, html_text.translate(_CONTROLS).encode())


def _lead(report: SystemsReport) -> str:
    measure = report.measures[0]
    best = max(report.systems, key=lambda name: report.systems[name].measured.means[measure])
    text = (
        f"{len(report.systems)} systems on {len(report.queries)} judged questions. By {measure_label(measure)} the "
        f"best is {best} with {report.systems[best].measured.means[measure]:.4f}"
    )
    if best == report.baseline:
        return f"{text}, which is the baseline."
    one = report.comparisons[best][measure]
    return (
        f"{text}, {one.delta:+.4f} against the baseline {report.baseline} (95 % interval {one.low:+.4f} to "
        f"{one.high:+.4f}, p = {one.p_value:.4f}, corrected for {len(report.comparisons)} comparisons "
        f"{one.holm['p_value']:.4f})."
    )


def _environment() -> Any:
    with require_extra("eval"):
        from jinja2 import Environment, FileSystemLoader
    # Everything is escaped: questions, passages and names come from files.
    loader = FileSystemLoader(Path(__file__).parent / "templates")
    environment = Environment(loader=loader, autoescape=True, trim_blocks=True, lstrip_blocks=True)
    environment.filters["base64"] = lambda data: base64.b64encode(data).decode("ascii")
    return environment


def _markdown(title: str, lead: str, notes: Sequence[str], tables: Sequence[Table], plots: Sequence[Plot]) -> str:
    parts = [f"# {_escaped(title)}", _escaped(lead), *map(_escaped, notes)]
    for place, table in enumerate(tables):
        parts += [f"## {_escaped(table.title)}", *([_escaped(table.note)] if table.note else []), _grid(table)]
        if place == 0:
            parts += [f"![{_escaped(plot.description)}]({plot.file_name})" for plot in plots]
    return "\n\n".join(parts) + "\n"


def _grid(table: Table) -> str:
    marks = ["---:" if cell.numeric else "---" for cell in table.rows[0]]
    lines = [[_escaped(name) for name in table.header], marks]
    lines += [[f"**{_escaped(c.text)}**" if c.best else _escaped(c.text) for c in row] for row in table.rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _escaped(text: str) -> str:
    """Return text that Markdown shows as it is, on one line."""
    plain = html.escape(" ".join(text.translate(_CONTROLS).split()), quote=False)
    return _MARKDOWN_SIGNS.sub(r"\\\1", plain)
