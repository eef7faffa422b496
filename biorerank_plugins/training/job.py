"""What one training is: weights, rows, settings and dev set, and the library's trainer that is made of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from biorerank_plugins._common.checks import whole_number
from biorerank_plugins.models import content_hash
from biorerank_plugins.models.folders import resolve_folder
from biorerank_plugins.training.checkpoints import rows_hash
from biorerank_plugins.training.config import TrainConfig
from biorerank_plugins.training.dev import DEV_MEASURES, DevSet, check_apart, evaluator
from biorerank_plugins.training.library_trainer import early_stopping, report_on_stderr, shared_arguments, stop_on_nan
from biorerank_plugins.training.tasks import Task

if TYPE_CHECKING:
    from sentence_transformers import CrossEncoder

# Not part of what a checkpoint is: they may change when a run goes on.
_FREE = ("save_steps", "log_steps", "dev_steps")


@dataclass(frozen=True, slots=True)
class TrainingJob:
    """What is trained on what, and how.

    :param base: name or folder of the weights to start from.
    :param rows: rows of the task.
    :param config: settings.
    :param task: what the rows are, and which loss they have.
    :param recipe: name of the recipe.
    :param dev: is measured every ``dev_steps`` steps.
    :param early_stop: stop when the dev set's first measure has not risen so many times in a row.
    """

    base: str | Path
    rows: Sequence[Any]
    config: TrainConfig
    task: Task
    recipe: str
    dev: DevSet | None
    early_stop: int | None

    def check(self) -> None:
        """Refuse what nothing can be learned from.

        :raises ValueError: if the rows are of no use, a dev question is among them, or there is nothing to stop by.
        """
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
            "content of the rows": rows_hash(self.rows),
            "settings": {name: value for name, value in asdict(self.config).items() if name not in _FREE},
            "early_stop": self.early_stop,
            "dev": None if self.dev is None or self.early_stop is None else self.dev.content_hash(),
        }

    def evaluator(self) -> Any:
        """Return what measures a model on the dev set; ``None`` if there is none."""
        return None if self.dev is None else evaluator(self.dev, 2 * self.config.batch_size)

    def trainer(self, model: CrossEncoder, folder: Path, *, show_progress: bool) -> Any:
        """Return the library's trainer for one run.

        :param model: the model; it is changed.
        :param folder: where checkpoints go.
        :param show_progress: whether a progress bar is drawn.
        """
        import datasets
        from sentence_transformers.cross_encoder import CrossEncoderTrainer

        trainer = CrossEncoderTrainer(
            model=model,
            args=self._arguments(folder, on_gpu=model.device.type == "cuda", show_progress=show_progress),
            train_dataset=datasets.Dataset.from_dict(dict(self.task.columns(self.rows))),
            loss=self.task.loss(model, self.config),
            evaluator=self.evaluator(),
            callbacks=[stop_on_nan(), *([] if self.early_stop is None else [early_stopping(self.early_stop)])],
        )
        report_on_stderr(trainer, show_progress)
        return trainer

    def _arguments(self, folder: Path, *, on_gpu: bool, show_progress: bool) -> Any:
        from sentence_transformers.base.sampler import BatchSamplers
        from sentence_transformers.cross_encoder import CrossEncoderTrainingArguments

        config = self.config
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
            **shared_arguments(on_gpu=on_gpu, bf16=config.bf16, show_progress=show_progress),
            **self._watching(),
        )

    def _watching(self) -> dict[str, Any]:
        options: dict[str, Any] = {}
        if self.dev is not None:
            options |= {"eval_strategy": "steps", "eval_steps": self.config.dev_steps}
        if self.early_stop is not None:
            options |= {
                "load_best_model_at_end": True,
                "metric_for_best_model": f"eval_dev_{DEV_MEASURES[0]}",
                "greater_is_better": True,
                "restore_callback_states_from_checkpoint": True,
            }
        return options
