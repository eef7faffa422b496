"""What ``biorerank index`` does past one machine: ``--engine ray`` and ``--plan``."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from biorerank_plugins.cli import _common
from biorerank_plugins.cli.inputs import HowToRead, read_collection
from biorerank_plugins.cli.output import Column, Output

if TYPE_CHECKING:
    from biorerank_plugins.first_stage import BiEncoder, PassageIndex
    from biorerank_plugins.scale.planning import PlannedIndex
    from biorerank_plugins.scale.sharded import ShardedIndex


class EngineName(StrEnum):
    """What embeds the passages."""

    PLAIN = "plain"
    RAY = "ray"


Engine = Annotated[EngineName, typer.Option("--engine", help="plain: this process. ray: Ray, and a run can go on.")]
ListsOnDisk = Annotated[
    bool, typer.Option("--lists-on-disk", help="Keep the lists of an IVF index on disk; it cannot be changed then.")
]
Plan = Annotated[
    int | None,
    typer.Option("--plan", metavar="N", min=1, help="Only tell memory, disk and hours for N passages."),
]

Shards = Annotated[
    int | None, typer.Option("--shards", metavar="N", min=1, help="Write N indexes, searched side by side as one.")
]

_LISTED = 5  # of what was skipped


@dataclass(frozen=True)
class AskedIndex:
    """An index that shall be built past one machine.

    :param inputs: files and folders.
    :param out: where it shall be.
    :param how: they are read.
    :param factory: FAISS index type.
    :param lexical: whether it has a lexical part.
    """

    inputs: Sequence[Path]
    out: Path
    how: HowToRead
    factory: str
    lexical: bool

    def build(
        self,
        encoder: BiEncoder,
        lists_on_disk: bool,
        on_duplicate: Literal["error", "skip"],
        device: str | None,
        dtype: str,
        output: Output,
    ) -> PassageIndex:
        """Build and save it, or go on where a run was stopped."""
        from biorerank_plugins.readers.source import source_of
        from biorerank_plugins.scale.build import build_index, work_folder
        from biorerank_plugins.scale.collection import identity_of
        from biorerank_plugins.scale.ray_engine import RayOptions, read_on_ray, running_ray

        for path in self.inputs:
            source_of(path)
        skipped: list[Any] = []
        options = RayOptions(device=device, dtype=dtype)
        work = work_folder(self.out.expanduser().absolute())
        if work.exists():
            output.note(f"Going on with what is in {work} …")
        with running_ray(options) as ray:
            output.note(f"Embedding passages with {encoder.model_id} on Ray …")
            passages = read_on_ray(ray, self.inputs, on_skipped=skipped.extend, **self.how.options())
            built = build_index(
                passages,
                self.out,
                encoder=encoder,
                factory=self.factory,
                engine="ray",
                ray_options=options,
                lists_on_disk=lists_on_disk,
                lexical=self.lexical,
                on_duplicate=on_duplicate,
                identity=identity_of(self.inputs, self.how.options(), on_duplicate),
                show_progress=output.show_progress,
            )
        _tell_skipped(skipped, output)
        return built


def build_shards(
    asked: AskedIndex,
    engine: EngineName,
    shards: int,
    encoder: BiEncoder,
    on_duplicate: Literal["error", "skip"],
    device: str | None,
    dtype: str,
    output: Output,
) -> ShardedIndex:
    """Build a sharded index, by this process or on Ray, or go on where a run was stopped."""
    from biorerank_plugins.scale.ray_engine import RayOptions, read_on_ray, running_ray
    from biorerank_plugins.scale.sharded import ShardedIndex

    options = RayOptions(device=device, dtype=dtype)
    skipped: list[Any] = []
    on_ray = engine is EngineName.RAY
    with running_ray(options) if on_ray else nullcontext() as ray:
        if on_ray:
            passages = read_on_ray(ray, asked.inputs, on_skipped=skipped.extend, **asked.how.options())
        else:
            passages = read_collection(asked.inputs, asked.how, output)
        output.note(f"Embedding passages with {encoder.model_id} …")
        built = ShardedIndex.build(
            passages,
            asked.out,
            shards=shards,
            encoder=encoder,
            factory=asked.factory,
            lexical=asked.lexical,
            engine="ray" if on_ray else "local",
            ray_options=options if on_ray else None,
            on_duplicate=on_duplicate,
            show_progress=output.show_progress,
        )
    _tell_skipped(skipped, output)
    return built


def _tell_skipped(skipped: list[Any], output: Output) -> None:
    if skipped:
        output.warn(f"{len(skipped)} malformed lines or files were left out.")
    for path, line, reason in skipped[:_LISTED]:
        output.note(f"  {path if line is None else f'{path}:{line}'}: {reason}")


def show_plan(
    count: int, inputs: Sequence[Path] | None, encoder: str | None, device: str | None, dtype: str, output: Output
) -> None:
    """Measure this machine for some seconds, then tell what an index of ``count`` passages would take."""
    from biorerank_plugins.scale.planning import measure_rates, plan, sample_passages

    if inputs:
        output.note("The passages to measure with are the first of the files given.")
    passages = sample_passages(inputs or ())
    model = _common.load_encoder(encoder, device, dtype)
    output.note(f"Measuring this machine with {len(passages)} passages and {model.model_id} …")
    planned = plan(count, measure_rates(passages, model))
    if output.json:
        output.document(planned.to_dict())
        return
    numeric = ("memory", "disk", "hours", "of them building", "recall@200 real", "recall@200 synthetic")
    columns = [Column("index"), *(Column(name, numeric=True) for name in numeric)]
    output.table(columns, [_row(one) for one in planned.indexes])
    rates = planned.rates
    output.note(
        f"{count:,} passages; here {rates.passages_per_second:.0f} passages/s are embedded. Hours: embedding by one "
        "such machine, then building. Memory and disk hold passages, words (BM25) and vectors; a lexical part is "
        f"{planned.lexical_bytes / 1e9:.1f} GB of both."
    )
    if planned.recall_source:
        output.note(planned.recall_source)


def _row(one: PlannedIndex) -> list[str]:
    recalls = ["-" if value is None else f"{value:.3f}" for value in (one.recall_real, one.recall_synthetic)]
    sizes = [f"{size / 1e9:.2f} GB" for size in (one.memory_bytes, one.disk_bytes)]
    return [one.name, *sizes, f"{one.hours:.2f}", f"{one.build_hours:.2f}", *recalls]
