"""Fine-tuning of a bi-encoder on (query, positive, negative) triples with in-batch and mined negatives.

The loss is sentence-transformers' multiple-negatives ranking loss: each query must find its positive among the
positives and mined negatives of the whole batch.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from biorerank_plugins._common.files import write_json
from biorerank_plugins.training import checkpoints
from biorerank_plugins.training.library_trainer import (
    need_extra,
    report_on_stderr,
    set_dropout,
    shared_arguments,
    stop_on_nan,
)
from biorerank_plugins.training.tasks import shuffled_twice

if TYPE_CHECKING:
    import torch
    from sentence_transformers import SentenceTransformer

__all__ = ["BiEncoderConfig", "Triple", "read_triples", "train_bi_encoder"]


@dataclass(frozen=True, slots=True)
class Triple:
    """One training row.

    :param query: what is asked.
    :param positive: a passage that answers it.
    :param negative: a passage that looks like it and does not.
    :param topic: rows of one topic never share a batch, where each would be the other's false negative.
    """

    query: str
    positive: str
    negative: str
    topic: str


@dataclass(frozen=True, slots=True)
class BiEncoderConfig:
    """Settings of one run; saved as JSON beside the weights.

    :param epochs: passes over the triples.
    :param batch_size: triples a step: each query sees twice as many passages.
    :param learning_rate: peak learning rate; linear decay after the warm-up.
    :param warmup_ratio: share of the steps in which the learning rate rises.
    :param weight_decay: of AdamW.
    :param scale: factor on the cosine before the softmax (1 / temperature).
    :param train_length: tokens a text while training; longer ones are cut.
    :param bf16: autocast to bf16 (only where the device multiplies it natively).
    :param seed: of the order of the triples.
    :param save_steps: steps between two checkpoints; a run that was stopped goes on from the last one.
    """

    epochs: float = 1.0
    batch_size: int = 64
    learning_rate: float = 4e-5
    warmup_ratio: float = 0.1
    weight_decay: float = 0.01
    scale: float = 20.0
    train_length: int = 200
    bf16: bool = True
    seed: int = 42
    save_steps: int = 100


def read_triples(path: str | Path) -> list[Triple]:
    """Read triples from JSON lines with ``query``, ``positive``, ``negative`` and ``topic``.

    :param path: the file.
    :raises ValueError: if a line is damaged; names it.
    """
    triples = []
    for number, line in enumerate(Path(path).read_text(encoding="utf-8").splitlines(), start=1):
        try:
            row = json.loads(line)
            triples.append(Triple(row["query"], row["positive"], row["negative"], str(row["topic"])))
        except (ValueError, KeyError, TypeError) as error:
            raise ValueError(f"{path}, line {number}: expected query, positive, negative and topic: {error}") from error
    return triples


def train_bi_encoder(
    base: str | Path,
    triples: Sequence[Triple],
    out: str | Path,
    config: BiEncoderConfig | None = None,
    *,
    show_progress: bool = True,
) -> SentenceTransformer:
    """Fine-tune a bi-encoder and save it to ``<out>/model``.

    Checkpoints go to ``<out>/checkpoints``; called again with the same folder, training resumes from the last one.

    :param base: folder or hub name of the weights to start from.
    :param triples: the training rows.
    :param out: working folder.
    :param config: settings.
    :param show_progress: whether to draw a progress bar.
    :returns: the trained model.
    :raises ValueError: if there are no triples, or one has an empty text.
    :raises ModelError: if checkpoints in ``out`` are of another run, the loss becomes NaN or the disk is full (in both
        cases the last good checkpoint is kept).
    :raises MissingExtraError: if the extra ``train`` is not installed.
    """
    config = config or BiEncoderConfig()
    if not triples:
        raise ValueError("There are no training triples.")
    for number, triple in enumerate(triples):
        if not all(text.strip() for text in (triple.query, triple.positive, triple.negative)):
            raise ValueError(f"Triple {number} ({triple.query[:60]!r}) has an empty text.")
    need_extra()
    import datasets
    import torch
    from sentence_transformers import (
        SentenceTransformer,
        SentenceTransformerTrainer,
        SentenceTransformerTrainingArguments,
    )
    from sentence_transformers.sentence_transformer.losses import MultipleNegativesRankingLoss

    out = Path(out)
    folder = out / "checkpoints"
    about = {"task": "bi-encoder", "content of the rows": checkpoints.rows_hash(triples), "settings": asdict(config)}
    checkpoints.claim(folder, about)
    on_gpu = torch.cuda.is_available()
    torch.manual_seed(config.seed)
    model = SentenceTransformer(
        str(base), model_kwargs={"dtype": torch.float32, "attn_implementation": "sdpa" if on_gpu else "eager"}
    )
    length = model.max_seq_length
    model.max_seq_length = min(config.train_length, length or config.train_length)
    set_dropout(model, 0.0)
    steps = math.ceil(config.epochs * len(triples) / config.batch_size)
    arguments = SentenceTransformerTrainingArguments(
        output_dir=str(folder),
        num_train_epochs=config.epochs,
        per_device_train_batch_size=config.batch_size,
        learning_rate=config.learning_rate,
        warmup_steps=math.ceil(config.warmup_ratio * steps),
        weight_decay=config.weight_decay,
        seed=config.seed,
        batch_sampler=OneTopicARow(
            [triple.topic for triple in triples], [len(triple.positive) + len(triple.negative) for triple in triples]
        ),
        save_steps=config.save_steps,
        logging_steps=math.gcd(20, config.save_steps),
        **shared_arguments(on_gpu=on_gpu, bf16=config.bf16, show_progress=show_progress),
    )
    data = datasets.Dataset.from_dict(
        {
            "query": [triple.query for triple in triples],
            "positive": [triple.positive for triple in triples],
            "negative": [triple.negative for triple in triples],
        }
    )
    trainer = SentenceTransformerTrainer(
        model=model,
        args=arguments,
        train_dataset=data,
        loss=MultipleNegativesRankingLoss(model, scale=config.scale),
        callbacks=[stop_on_nan()],
    )
    report_on_stderr(trainer, show_progress)
    with checkpoints.explain_full_disk(folder):
        trainer.train(resume_from_checkpoint=checkpoints.last_checkpoint(folder))
        model.max_seq_length = length
        checkpoints.save_model(model, out / "model")
    log = {"config": asdict(config), "triples": len(triples), "log": trainer.state.log_history}
    write_json(out / "training.json", log)
    return model


class OneTopicARow:
    """Makes batch samplers: similar lengths together, and no topic twice in a batch.

    A class of the module, since the trainer pickles its arguments into every checkpoint.
    """

    def __init__(self, topics: Sequence[str], lengths: Sequence[int]) -> None:
        """Take the topic and the length of each row.

        :param topics: rows of one topic never share a batch.
        :param lengths: in characters, say.
        """
        self.topics, self.lengths = list(topics), list(lengths)

    def __call__(self, dataset: Any, batch_size: int, drop_last: bool, **options: Any) -> Any:
        """Return the batch sampler, as the trainer asks for it."""
        topics, lengths = self.topics, self.lengths

        def batches_of(order: torch.Tensor) -> list[list[int]]:
            rows: list[int] = order.tolist()
            batches: list[list[int]] = []
            for start in range(0, len(rows), 40 * batch_size):
                part = sorted(rows[start : start + 40 * batch_size], key=lambda row: lengths[row])
                batches += fill_batches(part, topics, batch_size)
            return batches

        # What cannot be placed is left out, so that the number of batches is known only about.
        return shuffled_twice(dataset, batch_size, False, options, len(topics), batches_of)


def fill_batches(rows: Sequence[int], topics: Sequence[str], batch_size: int) -> list[list[int]]:
    """Cut rows, in their order, into batches in which no topic occurs twice.

    :param rows: row numbers.
    :param topics: topic of each row number.
    :param batch_size: rows a batch.
    :returns: the batches; what cannot be placed in a batch of at least two rows is left out.
    """
    batches: list[list[int]] = []
    waiting = list(rows)
    while waiting:
        batch: list[int] = []
        seen: set[str] = set()
        rest: list[int] = []
        for number, row in enumerate(waiting):
            if topics[row] in seen:
                rest.append(row)
                continue
            seen.add(topics[row])
            batch.append(row)
            if len(batch) == batch_size:
                rest += waiting[number + 1 :]
                break
        if len(batch) < 2:
            break
        batches.append(batch)
        waiting = rest
    return batches
