"""Batches of rows of similar length."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

__all__ = ["OneTopicARow", "fill_batches", "length_grouped_sampler", "similar_length_sampler"]


def length_grouped_sampler(dataset: Any, batch_size: int, drop_last: bool, **options: Any) -> Any:
    """Return a batch sampler that puts rows of similar length together: on a CPU, padding is paid for in full.

    Rows are shuffled, sorted by length within groups of 50 batches, and the batches are shuffled again.

    :param dataset: the training data, with columns ``question`` and ``passage``.
    :param batch_size: rows a batch.
    :param drop_last: whether an incomplete last batch is left out.
    :param options: ``seed`` and what else the trainer passes.
    """
    import torch

    lengths = torch.tensor([len(q) + len(p) for q, p in zip(dataset["question"], dataset["passage"], strict=True)])

    def batches_of(order: torch.Tensor) -> list[list[int]]:
        batches: list[list[int]] = []
        for group in torch.split(order, 50 * batch_size):
            by_length = group[lengths[group].argsort(descending=True)]
            batches += [batch.tolist() for batch in torch.split(by_length, batch_size)]
        return [batch for batch in batches if len(batch) == batch_size] if drop_last else batches

    return _shuffled_twice(dataset, batch_size, drop_last, options, len(lengths), batches_of)


def similar_length_sampler(dataset: Any, batch_size: int, drop_last: bool, **options: Any) -> Any:
    """Do for lists of passages what :func:`length_grouped_sampler` does for single ones: by the longest of a list.

    :param dataset: the training data, with columns ``query`` and ``passages``.
    :param batch_size: lists a batch.
    :param drop_last: whether an incomplete last batch is left out.
    :param options: ``seed`` and what else the trainer passes.
    """
    longest = [max(passages, key=len) for passages in dataset["passages"]]
    columns = _Columns({"question": list(dataset["query"]), "passage": longest})
    return length_grouped_sampler(columns, batch_size, drop_last, **options)


class _Columns(dict[str, Any]):
    """Columns whose length is that of the data, as the samplers of torch want it."""

    def __len__(self) -> int:
        return len(next(iter(self.values())))


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
        return _shuffled_twice(dataset, batch_size, False, options, len(topics), batches_of)


def _shuffled_twice(
    dataset: Any,
    batch_size: int,
    drop_last: bool,
    options: Mapping[str, Any],
    n_rows: int,
    batches_of: Callable[[torch.Tensor], list[list[int]]],
) -> Any:
    """Return a batch sampler of the trainer: shuffled rows, cut by ``batches_of``, then the batches shuffled again."""
    import torch
    from sentence_transformers.base.sampler import DefaultBatchSampler

    seed = int(options.get("seed") or 0)

    class ShuffledTwice(DefaultBatchSampler):
        epoch = 0

        def set_epoch(self, epoch: int) -> None:
            self.epoch = epoch

        def __iter__(self) -> Iterator[list[int]]:
            generator = torch.Generator().manual_seed(seed + self.epoch)
            batches = batches_of(torch.randperm(n_rows, generator=generator))
            for position in torch.randperm(len(batches), generator=generator).tolist():
                yield batches[position]

    return ShuffledTwice(
        torch.utils.data.SequentialSampler(dataset),
        batch_size=batch_size,
        drop_last=drop_last,
        valid_label_columns=options.get("valid_label_columns"),
        generator=options.get("generator"),
        seed=seed,
    )


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
