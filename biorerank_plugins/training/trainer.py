"""Fine-tuning of a cross-encoder with sentence-transformers' own trainer: one loop for every recipe."""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from biorerank_plugins._common.checks import whole_number
from biorerank_plugins._common.files import write_json
from biorerank_plugins.models import content_hash
from biorerank_plugins.models.folders import resolve_folder
from biorerank_plugins.scoring.backends import position_limit
from biorerank_plugins.training import checkpoints
from biorerank_plugins.training.dev import DEV_MEASURES, DevSet, check_apart, evaluator
from biorerank_plugins.training.library_trainer import (
    check_saved_casing,
    load_base,
    need_extra,
    report_on_stderr,
    set_dropout,
    shared_arguments,
    stop_on_nan,
)
from biorerank_plugins.training.tasks import PAIRS, Task, TrainConfig

if TYPE_CHECKING:
    from sentence_transformers import CrossEncoder

logger = logging.getLogger(__name__)

# Not part of what a checkpoint is: they may change when a run goes on.
_FREE = ("save_steps", "log_steps", "dev_steps")
_KEEP_BEST: dict[str, Any] = {
    "load_best_model_at_end": True,
    "metric_for_best_model": f"eval_dev_{DEV_MEASURES[0]}",
    "greater_is_better": True,
    "restore_callback_states_from_checkpoint": True,
}


@dataclass(frozen=True, slots=True)
class Trained:
    """What :func:`train` made."""

    model: CrossEncoder
    log: list[dict[str, Any]]  # the trainer's, with "run", "step", and "loss" or measures of the dev set
    dev: dict[str, float] | None  # measures of the final model on the dev set, if there is one


def train(
    base: str | Path,
    rows: Sequence[Any],
    out: str | Path,
    config: TrainConfig | None = None,
    *,
    task: Task = PAIRS,
    recipe: str = "",
    dev: DevSet | None = None,
    early_stop: int | None = None,
    device: str | None = None,
    fresh: bool = False,
    show_progress: bool = True,
) -> Trained:
    """Fine-tune a cross-encoder on any task and save it with its log (``model/``, ``training.json``).

    Checkpoints go to ``<out>/checkpoints``; called again with the same folder, training resumes from the last one. What
    is not said here is as in :func:`~biorerank_plugins.training.recipes.train_recipe`, errors too.

    :param base: name of an embedded model, folder or hub name of the weights (encoder or cross-encoder) to start from.
    :param recipe: name of the recipe; a checkpoint of another one is refused.

    Example::

        rows = [TrainingPair("Is TP53 a tumour suppressor?", "TP53 suppresses tumours.", 1.0, "gold"), …]
        model = train("biorerank-encoder-minilm-l6", rows, "my-model").model
    """
    out = Path(out)
    job = _Job(base, rows, out, config or TrainConfig(), task, recipe, dev, early_stop, device, show_progress)
    job.check()
    need_extra()
    if fresh:
        checkpoints.clear(out)
    checkpoints.claim(out / "checkpoints", job.fingerprint())
    log: list[dict[str, Any]] = []
    start: str | Path = base
    for number in range(1, job.config.runs + 1):
        folder = out / ("model" if number == job.config.runs else f"model-run-{number}")
        model, entries = job.run(number, start, folder)
        log += [{"run": number, **entry} for entry in entries]
        start = folder
    measure = job.evaluator()
    write_json(out / "training.json", {"config": asdict(job.config), "recipe": recipe, "log": log})
    return Trained(model, log, None if measure is None else measure(model))


@dataclass(frozen=True, slots=True)
class _Job:
    """What is trained on what, and how: what :func:`train` was given."""

    base: str | Path
    rows: Sequence[Any]
    out: Path
    config: TrainConfig
    task: Task
    recipe: str
    dev: DevSet | None
    early_stop: int | None
    device: str | None
    show_progress: bool

    def check(self) -> None:
        """Refuse what nothing can be learned from."""
        self.task.check(self.rows)
        if self.early_stop is not None:
            whole_number("early_stop", self.early_stop)
            if self.dev is None:
                raise ValueError("early_stop needs a dev set to look at.")
        if self.dev is not None:
            check_apart(list(self.task.questions(self.rows)), self.dev)

    def fingerprint(self) -> dict[str, Any]:
        """Return all that must be equal for a run to go on from a checkpoint, as plain JSON values."""
        folder = resolve_folder(self.base)
        return {
            "recipe": self.recipe,
            "task": self.task.name,
            "base": str(self.base) if folder is None else content_hash(folder),
            "rows": len(self.rows),
            "content of the rows": checkpoints.rows_hash(self.rows),
            "settings": {name: value for name, value in asdict(self.config).items() if name not in _FREE},
            "early_stop": self.early_stop,
            "dev": None if self.dev is None or self.early_stop is None else self.dev.content_hash(),
        }

    def evaluator(self) -> Any:
        return None if self.dev is None else evaluator(self.dev, 2 * self.config.batch_size)

    def run(self, number: int, start: str | Path, saved_to: Path) -> tuple[CrossEncoder, list[dict[str, Any]]]:
        """Do one run, or take what it left if it was finished before."""
        import torch

        config = self.config
        folder = self.out / "checkpoints" if number == 1 else self.out / "checkpoints" / f"run-{number}"
        finished = self.out / "checkpoints" / f"run-{number}.json"
        if finished.exists() and saved_to.exists():
            logger.info("Run %d was finished before; its model is in %s.", number, saved_to)
            entries: list[dict[str, Any]] = json.loads(finished.read_text(encoding="utf-8"))
            return load_base(saved_to, device=self.device), entries
        torch.manual_seed(config.seed)
        model = load_base(start, device=self.device)
        positions = position_limit(model.config) or config.max_length
        model.max_seq_length = min(config.train_length, positions)
        if config.dropout is not None:
            set_dropout(model, config.dropout)
        checkpoints.check_room(self.out, sum(parameter.numel() for parameter in model.parameters()))
        trainer = self._trainer(model, folder)
        with checkpoints.explain_full_disk(folder):
            trainer.train(resume_from_checkpoint=checkpoints.last_checkpoint(folder))
            model.max_seq_length = min(config.max_length, positions)
            checkpoints.save_model(model, saved_to)
            entries = list(trainer.state.log_history)
            write_json(finished, entries)
        check_saved_casing(model, saved_to)
        return model, entries

    def _trainer(self, model: CrossEncoder, folder: Path) -> Any:
        """Return the library's trainer for one run, which changes the model and puts checkpoints into the folder."""
        import datasets
        from sentence_transformers.cross_encoder import CrossEncoderTrainer
        from transformers import EarlyStoppingCallback

        callbacks = [stop_on_nan()]
        if self.early_stop is not None:
            callbacks.append(EarlyStoppingCallback(early_stopping_patience=self.early_stop))
        trainer = CrossEncoderTrainer(
            model=model,
            args=self._arguments(folder, on_gpu=model.device.type == "cuda"),
            train_dataset=datasets.Dataset.from_dict(dict(self.task.columns(self.rows))),
            loss=self.task.loss(model, self.config),
            evaluator=self.evaluator(),
            callbacks=callbacks,
        )
        report_on_stderr(trainer, self.show_progress)
        return trainer

    def _arguments(self, folder: Path, *, on_gpu: bool) -> Any:
        from sentence_transformers.base.sampler import BatchSamplers
        from sentence_transformers.cross_encoder import CrossEncoderTrainingArguments

        config = self.config
        options = shared_arguments(on_gpu=on_gpu, bf16=config.bf16, show_progress=self.show_progress)
        if self.dev is not None:
            options |= {"eval_strategy": "steps", "eval_steps": config.dev_steps}
        if self.early_stop is not None:
            options |= _KEEP_BEST
        return CrossEncoderTrainingArguments(
            output_dir=str(folder),
            num_train_epochs=config.epochs,
            per_device_train_batch_size=config.batch_size,
            learning_rate=config.learning_rate,
            warmup_steps=config.warmup(len(self.rows)),
            weight_decay=config.weight_decay,
            max_grad_norm=config.max_grad_norm,
            seed=config.seed,
            batch_sampler=self.task.sampler if config.length_grouped else BatchSamplers.BATCH_SAMPLER,
            # The best checkpoint can only be kept if there is one wherever the dev set is measured.
            save_steps=config.save_steps if self.early_stop is None else config.dev_steps,
            logging_steps=config.log_steps,
            **options,
        )
