"""What ``biorerank index`` does past one machine: ``--engine ray`` and ``--plan``."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from biorerank_plugins.cli.inputs import HowToRead, read_collection
from biorerank_plugins.cli.loading import Models
from biorerank_plugins.cli.output import Column, Output

if TYPE_CHECKING:
    from biorerank_plugins.first_stage import PassageIndex
    from biorerank_plugins.scale.planning import PlannedIndex
    from biorerank_plugins.scale.ray_engine import RayOptions
    from biorerank_plugins.scale.sharded import ShardedIndex


class EngineName(StrEnum):
    """What embeds the passages."""

    PLAIN = "plain"
    RAY = "ray"


_LISTED = 5  # of what was skipped


@dataclass(frozen=True, slots=True)
class AskedIndex:
    """An index that shall be built or changed, as the options say."""

    inputs: Sequence[Path]
    out: Path
    how: HowToRead
    factory: str
    lexical: bool
    on_duplicate: Literal["error", "skip"]
    models: Models
    output: Output

    def build_options(self, where: str = "") -> dict[str, Any]:
        """Return what every way of building takes; loads the bi-encoder."""
        encoder = self.models.load_encoder()
        self.output.note(f"Embedding passages with {encoder.model_id}{where} …")
        return {
            "encoder": encoder,
            "factory": self.factory,
            "lexical": self.lexical,
            "on_duplicate": self.on_duplicate,
            "show_progress": self.output.show_progress,
        }

    def build_on_ray(self, lists_on_disk: bool) -> PassageIndex:
        """Build and save it on Ray, or go on where a run was stopped."""
        from biorerank_plugins.readers.source import source_of
        from biorerank_plugins.scale.build import build_index, identity_of, work_folder

        for path in self.inputs:
            source_of(path)
        work = work_folder(self.out.expanduser().absolute())
        if work.exists():
            self.output.note(f"Going on with what is in {work} …")
        options = self.build_options(" on Ray")
        with self._on_ray() as (passages, ray_options):
            return build_index(
                passages,
                self.out,
                engine="ray",
                ray_options=ray_options,
                lists_on_disk=lists_on_disk,
                identity=identity_of(self.inputs, self.how.options(), self.on_duplicate),
                **options,
            )

    def build_shards(self, shards: int, engine: EngineName) -> ShardedIndex:
        """Build a sharded index, by this process or on Ray, or go on where a run was stopped."""
        from biorerank_plugins.scale.sharded import ShardedIndex

        options = self.build_options()
        if engine is EngineName.PLAIN:
            passages = read_collection(self.inputs, self.how, self.output)
            return ShardedIndex.build(passages, self.out, shards=shards, **options)
        with self._on_ray() as (passages, ray_options):
            return ShardedIndex.build(
                passages, self.out, shards=shards, engine="ray", ray_options=ray_options, **options
            )

    @contextmanager
    def _on_ray(self) -> Iterator[tuple[Any, RayOptions]]:
        """Give the passages, read on Ray; then tell what was skipped."""
        from biorerank_plugins.scale.ray_engine import RayOptions, read_on_ray, running_ray

        options = RayOptions(device=self.models.device, dtype=self.models.dtype)
        skipped: list[Any] = []
        with running_ray(options) as ray:
            yield read_on_ray(ray, self.inputs, on_skipped=skipped.extend, **self.how.options()), options
        if skipped:
            self.output.warn(f"{len(skipped)} malformed lines or files were left out.")
        for path, line, reason in skipped[:_LISTED]:
            self.output.note(f"  {path if line is None else f'{path}:{line}'}: {reason}")


def show_plan(count: int, inputs: Sequence[Path] | None, models: Models, output: Output) -> None:
    """Measure this machine for some seconds, then tell what an index of ``count`` passages would take."""
    from biorerank_plugins.scale.planning import measure_rates, plan, sample_passages

    if inputs:
        output.note("The passages to measure with are the first of the files given.")
    passages = sample_passages(inputs or ())
    model = models.load_encoder()
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
