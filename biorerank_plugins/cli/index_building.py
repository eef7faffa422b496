"""How ``biorerank index`` builds and changes indexes: in this process, in shards, on Ray; and what ``--plan`` tells."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from biorerank_plugins.cli.inputs import HowToRead, read_changes, read_collection, tell_skipped
from biorerank_plugins.cli.loading import Models
from biorerank_plugins.cli.one_line_errors import fail
from biorerank_plugins.cli.output import Column, Output

if TYPE_CHECKING:
    from biorerank_plugins.first_stage import SearchableIndex
    from biorerank_plugins.scale.planning import PlannedIndex
    from biorerank_plugins.scale.ray_engine import RayOptions


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

    def build_here(self, *, add: bool) -> dict[str, Any]:
        """Build it in this process, or add to the one that is there."""
        from biorerank_plugins.first_stage import PassageIndex
        from biorerank_plugins.first_stage.storage import prepared_folder

        passages = read_collection(self.inputs, self.how, self.output)
        # What stands in the way of saving is found before the passages are embedded, not after.
        with prepared_folder(self.out):
            first = next(passages, None)  # input that cannot be read shows before a model is loaded
            if first is None and not add:
                fail("There are no passages to index in the input.")
            passages = passages if first is None else chain([first], passages)
            if add:
                with self.models.open_index(self.out) as opened:
                    assert isinstance(opened, PassageIndex)  # a sharded one was refused
                    progress = self.output.show_progress
                    added = opened.add(passages, on_duplicate=self.on_duplicate, show_progress=progress)
                    return self._summary(opened, added)
            with PassageIndex.build(passages, **self._options()) as built:
                built.save(self.out)
                return self._summary(built, len(built))

    def build_on_ray(self, lists_on_disk: bool) -> dict[str, Any]:
        """Build it on Ray, or go on where a run was stopped."""
        from biorerank_plugins.readers.source import source_of
        from biorerank_plugins.scale.build import build_index, identity_of, work_folder

        for path in self.inputs:
            source_of(path)
        work = work_folder(self.out.expanduser().absolute())
        if work.exists():
            self.output.note(f"Going on with what is in {work} …")
        options = self._options(" on Ray")
        with self._read_on_ray() as (passages, ray_options):
            built = build_index(
                passages,
                self.out,
                engine="ray",
                ray_options=ray_options,
                lists_on_disk=lists_on_disk,
                identity=identity_of(self.inputs, self.how.options(), self.on_duplicate),
                **options,
            )
        with built:
            return self._summary(built, len(built))

    def build_shards(self, shards: int, *, on_ray: bool) -> dict[str, Any]:
        """Build a sharded index, by this process or on Ray, or go on where a run was stopped."""
        from biorerank_plugins.scale.sharded import ShardedIndex

        options = {"shards": shards, **self._options()}
        if on_ray:
            with self._read_on_ray() as (passages, ray_options):
                built = ShardedIndex.build(passages, self.out, engine="ray", ray_options=ray_options, **options)
        else:
            built = ShardedIndex.build(read_collection(self.inputs, self.how, self.output), self.out, **options)
        with built:
            return {**self._summary(built, len(built)), "shards": shards}

    def update(self) -> None:
        """Make the changes that the files tell, and say how many they were."""
        changes = read_changes(self.inputs, self.how, self.output)
        with self.models.open_index(self.out) as opened:
            report = opened.update(changes, show_progress=self.output.show_progress).to_dict()
            self.output.document({**self._summary(opened, report["added"]), **report})
            told = ", ".join(f"{count:,} {name}" for name, count in report.items() if count) or "nothing changed"
            self.output.line(f"{self.out}: {len(opened):,} passages; {told}")

    def _options(self, where: str = "") -> dict[str, Any]:
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

    @contextmanager
    def _read_on_ray(self) -> Iterator[tuple[Any, RayOptions]]:
        """Give the passages, read on Ray; then tell what was skipped."""
        from biorerank_plugins.readers.report import ReadReport, SkippedLine
        from biorerank_plugins.scale.ray_engine import RayOptions, read_on_ray, running_ray

        options = RayOptions(device=self.models.device, dtype=self.models.dtype)
        skipped: list[Any] = []
        with running_ray(options) as ray:
            yield read_on_ray(ray, self.inputs, on_skipped=skipped.extend, **self.how.options()), options
        tell_skipped(ReadReport(skipped=[SkippedLine(*one) for one in skipped], n_skipped=len(skipped)), self.output)

    def _summary(self, index: SearchableIndex, added: int) -> dict[str, Any]:
        return {
            "folder": str(self.out),
            "passages": len(index),
            "added": added,
            "encoder": index.encoder.model_id,
            "lexical": index.lexical,
        }


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
