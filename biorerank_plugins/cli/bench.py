"""``biorerank bench``: how fast this machine scores, side by side with sentence-transformers."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from biorerank_plugins.cli.loading import Device, Model, quiet_libraries
from biorerank_plugins.cli.one_line_errors import command, usage_error
from biorerank_plugins.cli.option_groups import check_writable, option, path_option, repeatable
from biorerank_plugins.cli.output import Column, Output, save_json

if TYPE_CHECKING:
    from biorerank_plugins.speed.run import Benchmark

_WORDS = 4  # the first columns are words, the others numbers


@command
def bench(
    *,
    model: Model = None,
    mix: Annotated[
        list[str] | None, repeatable("bioasq (sentences) or tokens a pair, such as 150", metavar="MIX")
    ] = None,
    candidates: Annotated[
        list[int] | None,
        option("Passages a question; may be given repeatedly. Default: 100.", "--candidates", "-c", min=1),
    ] = None,
    system: Annotated[
        list[str] | None,
        repeatable("What to compare with predict, by name or beginning (ours, st-best)", metavar="NAME"),
    ] = None,
    rounds: Annotated[int, option("How often every system is timed.", min=1)] = 5,
    concurrency: Annotated[int, option("Questions at the same time.", min=1)] = 1,
    threads: Annotated[int | None, option("Threads of every system on the CPU; torch's default.", min=1)] = None,
    max_length: Annotated[int, option("Tokens a pair.", min=16)] = 512,
    data: Annotated[Path | None, path_option("Folder with bioasq/; the demo collection if not given.")] = None,
    json_out: Annotated[Path | None, path_option("File for the results, with every round.")] = None,
    device: Device = None,
    output: Output,
) -> None:
    """Compare the speed of this reranker's backends and precisions with sentence-transformers' CrossEncoder.

    All score the same pairs with the same weights, in turns; the ratio is to CrossEncoder.predict in fp32, in the same
    round; st-best is predict with the fastest batch size and precision here. What is not possible here is listed with
    the reason.

    Example: biorerank bench --candidates 100 --rounds 5 --system ours --system st-best
    """
    check_writable(json_out)
    from biorerank_plugins.speed.run import Options, run_benchmark

    options = Options(
        model=model,
        mixes=tuple(mix or ["bioasq"]),
        candidates=tuple(candidates or [100]),
        systems=tuple(system or []),
        rounds=rounds,
        concurrency=concurrency,
        threads=threads,
        device=device,
        max_length=max_length,
        data=data,
    )
    try:
        options.check()
    except ValueError as error:
        usage_error(str(error))
    quiet_libraries()
    found = run_benchmark(options, note=output.note)
    document = found.to_dict()
    output.document(document)
    _show(output, found)  # before anything is written: what took minutes must not be lost with a full disk
    save_json(document, json_out)


def _show(output: Output, found: Benchmark) -> None:
    from biorerank_plugins.speed.compare import COLUMNS, rows

    columns = [Column(name, numeric=place >= _WORDS or name == "candidates") for place, name in enumerate(COLUMNS)]
    output.table(columns, rows(found.comparisons))
    reasons = {**found.not_possible, **{n: why for c in found.comparisons for n, why in c.not_possible.items()}}
    for name, why in reasons.items():
        output.note(f"Not possible here: {name}: {why}")
    machine = found.machine
    output.note(
        f"Rounds: {found.comparisons[0].rounds}. Threads: {machine['threads']}. {machine['cpu']}, {machine['device']}; "
        f"{found.model['name']}; {found.model['texts']}."
    )
