"""Fine-tuning of a cross-encoder on (question, passage, label) rows with sentence-transformers' own trainer."""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from biorerank_plugins.errors import MissingExtraError, ModelError
from biorerank_plugins.scoring.routes import position_limit
from biorerank_plugins.training.pairs import TrainingPair

if TYPE_CHECKING:
    from sentence_transformers import CrossEncoder

logger = logging.getLogger(__name__)

__all__ = ["TrainConfig", "train_cross_encoder"]


@dataclass(frozen=True, slots=True)
class TrainConfig:
    """Settings of one training run; saved as JSON beside the weights.

    :param epochs: passes over the rows.
    :param batch_size: rows a step.
    :param learning_rate: peak learning rate; linear decay after the warm-up.
    :param warmup_ratio: share of the steps in which the learning rate rises.
    :param weight_decay: of AdamW.
    :param dropout: in all layers; one epoch does without, and on a CPU it costs up to two fifths of the time.
    :param train_length: tokens a pair while training; longer passages are cut.
    :param max_length: tokens a pair that the saved model takes.
    :param bf16: autocast to bf16 (only where the device multiplies it natively).
    :param seed: of the head's initial weights and of the order of the rows.
    :param save_steps: steps between two checkpoints; a run that was stopped goes on from the last one.
    """

    epochs: float = 1.0
    batch_size: int = 32
    learning_rate: float = 1e-4
    warmup_ratio: float = 0.06
    weight_decay: float = 0.01
    dropout: float = 0.0
    train_length: int = 256
    max_length: int = 512
    bf16: bool = True
    seed: int = 42
    save_steps: int = 500


def train_cross_encoder(
    base: str | Path,
    rows: Sequence[TrainingPair],
    out: str | Path,
    config: TrainConfig | None = None,
    *,
    show_progress: bool = True,
) -> CrossEncoder:
    """Fine-tune a cross-encoder with binary cross-entropy and save it.

    Checkpoints go to ``<out>/checkpoints``; called again with the same folder, training resumes from the last one.

    :param base: folder or hub name of the weights to start from (an encoder, or a cross-encoder).
    :param rows: the training rows; labels in [0, 1], both sides present.
    :param out: folder to save to; the model lies in ``<out>/model`` afterwards.
    :param config: settings.
    :param show_progress: whether to draw a progress bar.
    :returns: the trained model.
    :raises ValueError: if the rows are empty, a label is outside [0, 1], or all labels are equal.
    :raises ModelError: if the loss becomes NaN; the last good checkpoint is kept.
    :raises MissingExtraError: if the extra ``train`` is not installed.

    Example::

        rows = [TrainingPair("Is TP53 a tumour suppressor?", "TP53 suppresses tumours.", 1.0, "gold"), …]
        model = train_cross_encoder("all-minilm-l6-v2-folder", rows, "my-model")
    """
    config = config or TrainConfig()
    _check(rows)
    try:
        import_module("accelerate")  # the trainer imports it, and says less clearly when it is missing
        import datasets
    except ImportError as error:
        raise MissingExtraError(str(error.name), "train") from error
    import torch
    from sentence_transformers import CrossEncoder
    from sentence_transformers.cross_encoder import CrossEncoderTrainer, CrossEncoderTrainingArguments
    from sentence_transformers.cross_encoder.losses import BinaryCrossEntropyLoss

    out = Path(out)
    checkpoints = out / "checkpoints"
    torch.manual_seed(config.seed)
    # fp32 weights whatever the folder stores: transformers loads stored precision, and fp16 weights do not train.
    on_gpu = torch.cuda.is_available()
    model: CrossEncoder = CrossEncoder(
        str(base),
        num_labels=1,
        # On a CPU the backward pass of eager attention is faster than that of torch's fused one.
        model_kwargs={"dtype": torch.float32, "attn_implementation": "sdpa" if on_gpu else "eager"},
    )
    positions = position_limit(model.config) or config.max_length
    model.max_seq_length = min(config.train_length, positions)
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = config.dropout
    arguments = CrossEncoderTrainingArguments(
        output_dir=str(checkpoints),
        num_train_epochs=config.epochs,
        per_device_train_batch_size=config.batch_size,
        learning_rate=config.learning_rate,
        lr_scheduler_type="linear",
        warmup_steps=math.ceil(config.warmup_ratio * config.epochs * len(rows) / config.batch_size),
        weight_decay=config.weight_decay,
        bf16=config.bf16,
        use_cpu=not on_gpu,
        seed=config.seed,
        batch_sampler=length_grouped_sampler,
        dataloader_pin_memory=on_gpu,
        save_steps=config.save_steps,
        save_total_limit=2,
        # A NaN must be seen before a checkpoint holds it, and transformers hides it from the log unless told not to.
        logging_steps=math.gcd(100, config.save_steps),
        logging_nan_inf_filter=False,
        disable_tqdm=not show_progress,
        report_to="none",
    )
    data = datasets.Dataset.from_dict(
        {
            "question": [row.question for row in rows],
            "passage": [row.passage for row in rows],
            "label": [float(row.label) for row in rows],
        }
    )
    trainer = CrossEncoderTrainer(
        model=model, args=arguments, train_dataset=data, loss=BinaryCrossEntropyLoss(model), callbacks=[_stop_on_nan()]
    )
    trainer.train(resume_from_checkpoint=_last_checkpoint(checkpoints))
    model.max_seq_length = min(config.max_length, positions)
    model.save_pretrained(str(out / "model"))
    log = {"config": asdict(config), "log": trainer.state.log_history}
    (out / "training.json").write_text(json.dumps(log, indent=1), encoding="utf-8")
    return model


def _check(rows: Sequence[TrainingPair]) -> None:
    if not rows:
        raise ValueError("There are no training rows.")
    for number, row in enumerate(rows):
        if not 0.0 <= row.label <= 1.0:
            raise ValueError(f"Row {number} has label {row.label!r}; expected a number in [0, 1].")
        if not row.question.strip():
            raise ValueError(f"Row {number} has an empty question.")
    if len({row.label > 0.5 for row in rows}) < 2:
        raise ValueError("All rows have labels on one side of 0.5; a cross-encoder needs positives and negatives.")


def _last_checkpoint(folder: Path) -> str | None:
    """Return the last whole checkpoint: the trainer writes its state last."""
    whole = [path.parent for path in folder.glob("checkpoint-*/trainer_state.json")]
    return str(max(whole, key=lambda path: int(path.name.rpartition("-")[2]))) if whole else None


def _stop_on_nan() -> Any:
    from transformers import TrainerCallback

    class StopOnNaN(TrainerCallback):
        def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, float] | None = None, **_: Any) -> None:
            # A gradient that is not finite spoils the weights of this step, the loss only that of the next.
            bad = [name for name in ("loss", "grad_norm") if not math.isfinite((logs or {}).get(name, 0.0))]
            if bad:
                raise ModelError(
                    f"The {bad[0]} is not finite at step {state.global_step}: training stopped. The last good "
                    f"checkpoint lies in {args.output_dir}. Try a lower learning rate, or bf16=False."
                )

    return StopOnNaN()


def length_grouped_sampler(dataset: Any, batch_size: int, drop_last: bool, **options: Any) -> Any:
    """Return a batch sampler that puts rows of similar length together: on a CPU, padding is paid for in full.

    Rows are shuffled, sorted by length within groups of 50 batches, and the batches are shuffled again.

    :param dataset: the training data, with columns ``question`` and ``passage``.
    :param batch_size: rows a batch.
    :param drop_last: whether an incomplete last batch is left out.
    :param options: ``seed`` and what else the trainer passes.
    """
    import torch
    from sentence_transformers.base.sampler import DefaultBatchSampler

    lengths = torch.tensor([len(q) + len(p) for q, p in zip(dataset["question"], dataset["passage"], strict=True)])
    seed = int(options.get("seed") or 0)

    class LengthGroupedBatchSampler(DefaultBatchSampler):
        epoch = 0

        def set_epoch(self, epoch: int) -> None:
            self.epoch = epoch

        def __iter__(self) -> Iterator[list[int]]:
            generator = torch.Generator().manual_seed(seed + self.epoch)
            order = torch.randperm(len(lengths), generator=generator)
            batches: list[list[int]] = []
            for group in torch.split(order, 50 * batch_size):
                by_length = group[lengths[group].argsort(descending=True)]
                batches += [batch.tolist() for batch in torch.split(by_length, batch_size)]
            if drop_last:
                batches = [batch for batch in batches if len(batch) == batch_size]
            for position in torch.randperm(len(batches), generator=generator).tolist():
                yield batches[position]

    return LengthGroupedBatchSampler(
        torch.utils.data.SequentialSampler(dataset),
        batch_size=batch_size,
        drop_last=drop_last,
        valid_label_columns=options.get("valid_label_columns"),
        generator=options.get("generator"),
        seed=seed,
    )
