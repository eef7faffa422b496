"""Fine-tuning of a cross-encoder with sentence-transformers' own trainer: one loop for every recipe."""

from __future__ import annotations

import json
import logging
import shutil
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from biorerank_plugins._common.checks import whole_number
from biorerank_plugins._common.files import write_json
from biorerank_plugins.errors import MissingExtraError
from biorerank_plugins.scoring.choose_scorer import position_limit
from biorerank_plugins.training import checkpoints
from biorerank_plugins.training.base_model import check_saved_casing, load_base
from biorerank_plugins.training.callbacks import early_stopping, progress_bar
from biorerank_plugins.training.callbacks import stop_on_nan as _stop_on_nan
from biorerank_plugins.training.checkpoints import last_checkpoint as _last_checkpoint
from biorerank_plugins.training.config import TrainConfig
from biorerank_plugins.training.dev import DEV_MEASURES, DevSet, check_apart, evaluator
from biorerank_plugins.training.sampler import length_grouped_sampler
from biorerank_plugins.training.tasks import PAIRS, Task

if TYPE_CHECKING:
    from sentence_transformers import CrossEncoder

logger = logging.getLogger(__name__)

__all__ = ["TrainConfig", "Trained", "length_grouped_sampler", "train", "train_cross_encoder"]

# Not part of what a checkpoint is: they may change when a run goes on.
_FREE = ("save_steps", "log_steps", "dev_steps")


@dataclass(frozen=True, slots=True)
class Trained:
    """What :func:`train` made.

    :param model: the model.
    :param log: entries of the trainer's log with ``run``, ``step``, and ``loss`` or measures of the dev set.
    :param dev: measures of the final model on the dev set, if there is one.
    """

    model: CrossEncoder
    log: list[dict[str, Any]]
    dev: dict[str, float] | None


def train_cross_encoder(
    base: str | Path,
    rows: Sequence[Any],
    out: str | Path,
    config: TrainConfig | None = None,
    *,
    show_progress: bool = True,
) -> CrossEncoder:
    """Fine-tune a cross-encoder with binary cross-entropy and save it.

    Checkpoints go to ``<out>/checkpoints``; called again with the same folder, training resumes from the last one.

    :param base: name of an embedded model, folder or hub name of the weights to start from (an encoder, or a
        cross-encoder).
    :param rows: the training rows, :class:`~biorerank_plugins.training.rows.TrainingPair`; labels in [0, 1], both
        sides present.
    :param out: folder to save to; the model lies in ``<out>/model`` afterwards.
    :param config: settings.
    :param show_progress: whether to draw a progress bar.
    :returns: the trained model.
    :raises ValueError: if the rows are empty, a label is outside [0, 1], or all labels are equal.
    :raises ModelError: see :func:`train`.
    :raises MissingExtraError: if the extra ``train`` is not installed.

    Example::

        rows = [TrainingPair("Is TP53 a tumour suppressor?", "TP53 suppresses tumours.", 1.0, "gold"), …]
        model = train_cross_encoder("biorerank-encoder-minilm-l6", rows, "my-model")
    """
    return train(base, rows, out, config, show_progress=show_progress).model


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

    :param base: as in :func:`train_cross_encoder`.
    :param rows: rows of the task.
    :param out: as in :func:`train_cross_encoder`.
    :param config: settings.
    :param task: what the rows are, and which loss they have.
    :param recipe: name of the recipe; a checkpoint of another one is refused.
    :param dev: is measured every ``dev_steps`` steps and at the end.
    :param early_stop: stop when nDCG@10 on the dev set has not risen so many times in a row, and keep the best
        checkpoint instead of the last.
    :param device: see :func:`~biorerank_plugins.training.base_model.load_base`.
    :param fresh: delete checkpoints and models that earlier runs left in ``out``.
    :param show_progress: whether to draw a progress bar.
    :raises ValueError: if nothing can be learned from the rows, a dev question is among them, or ``early_stop`` is
        asked for without a dev set.
    :raises ModelError: if the base cannot be loaded, checkpoints in ``out`` are of another run, the loss becomes NaN or
        the disk is full (in both cases the last good checkpoint is kept).
    :raises MissingExtraError: if the extra ``train`` is not installed.
    """
    config = config or TrainConfig()
    task.check(rows)
    if early_stop is not None:
        whole_number("early_stop", early_stop)
        if dev is None:
            raise ValueError("early_stop needs a dev set to look at.")
    if dev is not None:
        check_apart(list(task.questions(rows)), dev)
    need_extra()
    out = Path(out)
    if fresh:
        _clear(out)
    checkpoints.claim(out / "checkpoints", _fingerprint(base, rows, config, task, recipe, dev, early_stop))
    log: list[dict[str, Any]] = []
    start: str | Path = base
    for run in range(1, config.runs + 1):
        last = run == config.runs
        folder = out / ("model" if last else f"model-run-{run}")
        model, entries = _run(start, rows, out, folder, config, run, task, dev, early_stop, device, show_progress)
        log += [{"run": run, **entry} for entry in entries]
        start = folder
    measured = None if dev is None else evaluator(dev, 2 * config.batch_size)(model)
    write_json(out / "training.json", {"config": asdict(config), "recipe": recipe, "log": log})
    return Trained(model, log, measured)


def _run(
    start: str | Path,
    rows: Sequence[Any],
    out: Path,
    saved_to: Path,
    config: TrainConfig,
    run: int,
    task: Task,
    dev: DevSet | None,
    early_stop: int | None,
    device: str | None,
    show_progress: bool,
) -> tuple[CrossEncoder, list[dict[str, Any]]]:
    """Do one run, or take what it left if it was finished before."""
    import torch

    folder = out / "checkpoints" if run == 1 else out / "checkpoints" / f"run-{run}"
    finished = out / "checkpoints" / f"run-{run}.json"
    if finished.exists() and saved_to.exists():
        logger.info("Run %d was finished before; its model is in %s.", run, saved_to)
        entries: list[dict[str, Any]] = json.loads(finished.read_text(encoding="utf-8"))
        return load_base(saved_to, device=device), entries
    torch.manual_seed(config.seed)
    model = load_base(start, device=device)
    positions = position_limit(model.config) or config.max_length
    model.max_seq_length = min(config.train_length, positions)
    if config.dropout is not None:
        for module in model.modules():
            if isinstance(module, torch.nn.Dropout):
                module.p = config.dropout
    checkpoints.check_room(out, sum(parameter.numel() for parameter in model.parameters()))
    trainer = _trainer(model, rows, folder, config, task, dev, early_stop, show_progress)
    with checkpoints.explain_full_disk(folder):
        trainer.train(resume_from_checkpoint=_last_checkpoint(folder))
        model.max_seq_length = min(config.max_length, positions)
        checkpoints.save_model(model, saved_to)
        entries = list(trainer.state.log_history)
        write_json(finished, entries)
    check_saved_casing(model, saved_to)
    return model, entries


def _trainer(
    model: CrossEncoder,
    rows: Sequence[Any],
    folder: Path,
    config: TrainConfig,
    task: Task,
    dev: DevSet | None,
    early_stop: int | None,
    show_progress: bool,
) -> Any:
    import datasets
    from sentence_transformers.base.sampler import BatchSamplers
    from sentence_transformers.cross_encoder import CrossEncoderTrainer, CrossEncoderTrainingArguments
    from transformers import PrinterCallback, ProgressCallback

    on_gpu = model.device.type == "cuda"
    options: dict[str, Any] = {}
    if dev is not None:
        options |= {"eval_strategy": "steps", "eval_steps": config.dev_steps}
    if early_stop is not None:
        options |= {
            "load_best_model_at_end": True,
            "metric_for_best_model": f"eval_dev_{DEV_MEASURES[0]}",
            "greater_is_better": True,
            "restore_callback_states_from_checkpoint": True,
        }
    arguments = CrossEncoderTrainingArguments(
        output_dir=str(folder),
        num_train_epochs=config.epochs,
        per_device_train_batch_size=config.batch_size,
        learning_rate=config.learning_rate,
        lr_scheduler_type="linear",
        warmup_steps=config.warmup(len(rows)),
        weight_decay=config.weight_decay,
        max_grad_norm=config.max_grad_norm,
        bf16=config.bf16 and has_bf16(on_gpu),
        use_cpu=not on_gpu,
        seed=config.seed,
        batch_sampler=task.sampler if config.length_grouped else BatchSamplers.BATCH_SAMPLER,
        dataloader_pin_memory=on_gpu,
        # The best checkpoint can only be kept if there is one wherever the dev set is measured.
        save_steps=config.save_steps if early_stop is None else config.dev_steps,
        save_total_limit=2,
        logging_steps=config.log_steps,
        # A NaN must be seen before a checkpoint holds it, and transformers hides it from the log unless told not to.
        logging_nan_inf_filter=False,
        disable_tqdm=not show_progress,
        report_to="none",
        **options,
    )
    trainer = CrossEncoderTrainer(
        model=model,
        args=arguments,
        train_dataset=datasets.Dataset.from_dict(dict(task.columns(rows))),
        loss=task.loss(model, config),
        evaluator=None if dev is None else evaluator(dev, 2 * config.batch_size),
        callbacks=[_stop_on_nan(), *([] if early_stop is None else [early_stopping(early_stop)])],
    )
    for callback in (PrinterCallback, ProgressCallback):  # both write the log to stdout
        trainer.remove_callback(callback)
    if show_progress:
        trainer.add_callback(progress_bar())
    return trainer


def has_bf16(on_gpu: bool) -> bool:
    """Return whether the device multiplies bf16 natively; where it does not, training is in fp32."""
    import torch

    from biorerank_plugins.runtime.devices import cpu_has_bf16

    return bool(torch.cuda.is_bf16_supported()) if on_gpu else cpu_has_bf16()


def need_extra() -> None:
    """Raise :class:`MissingExtraError` where what the trainers need is not installed."""
    try:
        for module in ("accelerate", "datasets"):  # the trainer imports them, and says less clearly what is missing
            import_module(module)
    except ImportError as error:
        raise MissingExtraError(str(error.name), "train") from error


def _fingerprint(
    base: str | Path,
    rows: Sequence[Any],
    config: TrainConfig,
    task: Task,
    recipe: str,
    dev: DevSet | None,
    early_stop: int | None,
) -> dict[str, Any]:
    from biorerank_plugins.models.folders import resolve_folder

    folder = resolve_folder(base)
    return {
        "recipe": recipe,
        "task": task.name,
        "base": str(base) if folder is None else checkpoints.content_hash(folder),
        "rows": len(rows),
        "content of the rows": checkpoints.rows_hash(rows),
        "settings": {name: value for name, value in asdict(config).items() if name not in _FREE},
        "early_stop": early_stop,
        "dev": None if dev is None or early_stop is None else dev.content_hash(),
    }


def _clear(out: Path) -> None:
    """Delete what earlier runs left in a folder, and nothing else."""
    if not (out / "checkpoints").is_dir():
        return
    for path in (out / "checkpoints", out / "model", *out.glob("model-run-*")):
        shutil.rmtree(path, ignore_errors=True)
    (out / "training.json").unlink(missing_ok=True)
