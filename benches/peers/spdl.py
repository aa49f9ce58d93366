"""SPDL's pipeline (spdl-core from PyPI): a peer of the pipeline engine.

    spdl.py list | measure PEER CASE THREADS | concurrency | gain

spdl        as its documentation shows: functions, run on its pool of threads
spdl-async  its operations as coroutines, which spares them the pool
spdl-tuned  that, with what its documentation offers besides: queues of 64 where it has 2, no hooks, no statistics,
            and a queue between threads at the end

`concurrency` measures how many operations of one stage are in progress at once, in both orders, for several numbers;
`gain` what a second thread brings for work of several lengths, beside the same in threads without a pipeline.
"""

import asyncio
import functools
import json
import statistics
import sys
import threading
import time
from collections.abc import AsyncIterator, Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

# This file has the package's name: without its folder on the path the package is found.
_HERE = str(Path(__file__).resolve().parent)
sys.path = [place for place in sys.path if place != _HERE]

from spdl.pipeline import AsyncQueue, PipelineBuilder  # noqa: E402

sys.path.append(_HERE)

from measure import (  # noqa: E402
    CONCURRENCY,
    CPU_SCHEDULED,
    HASHED,
    QUEUE_ITEMS,
    RUNTIME_THREADS,
    Probe,
    Tally,
    batches,
    integers,
    main,
    work,
)


class LongQueue(AsyncQueue):
    """Its queues between two stages hold 2 items whatever one asks for; a class of one's own may hold more."""

    def __init__(self, info: Any, *, buffer_size: int = 1) -> None:
        super().__init__(info, buffer_size=max(buffer_size, QUEUE_ITEMS))


def no_op(item: Any) -> Any:
    return item


async def no_op_async(item: Any) -> Any:
    return item


async def as_async(items: Any) -> AsyncIterator[Any]:
    for item in items:
        yield item


def build(source: Any, operations: list[Any], concurrency: int, threads: int, order: str = "input", **more: Any) -> Any:
    builder = PipelineBuilder().add_source(source)
    for operation in operations:
        builder = builder.pipe(operation, concurrency=concurrency, output_order=order)
    return builder.add_sink(QUEUE_ITEMS).build(num_threads=threads, **more)


def drain(pipeline: Any, take: Callable[[Any], None]) -> None:
    with pipeline.auto_stop():
        for item in pipeline:
            take(item)


def probing(probe: Probe, *, asynchronous: bool) -> Callable[[int], Any]:
    def blocking(index: int) -> int:
        time.sleep(probe.begin(index))
        probe.end(index)
        return index

    async def coroutine(index: int) -> int:
        await asyncio.sleep(probe.begin(index))
        probe.end(index)
        return index

    return coroutine if asynchronous else blocking


def runner(operation: Any, *, asynchronous: bool, **more: Any) -> Callable[..., Tally]:
    def run(case: str, items: int, threads: int, probe: Probe | None) -> Tally:
        tally = Tally()
        make = batches if case == "batches" else integers
        source = as_async(make(items)) if more else make(items)
        match case:
            case "no_ops":
                drain(build(source, [operation] * 3, CONCURRENCY, RUNTIME_THREADS, **more), tally.take)
            case "batches":
                pipeline = build(source, [operation] * 3, CONCURRENCY, RUNTIME_THREADS, **more)
                drain(pipeline, lambda samples: tally.take(int(samples[0])))
            case "cpu":
                drain(build(source, [work], CPU_SCHEDULED, threads, **more), tally.take_worked)
            case "probe":
                assert probe is not None
                # Threads enough that the stage's concurrency is what bounds.
                stage = [probing(probe, asynchronous=asynchronous)]
                drain(build(source, stage, CONCURRENCY, 4 * CONCURRENCY, **more), tally.take)
        return tally

    return run


def concurrency() -> None:
    """What was asked for and what was seen, one line of JSON for each."""
    for order in ("input", "completion"):
        for asynchronous in (False, True):
            for asked in (1, 2, 4, 8):
                probe = Probe()
                stage = [probing(probe, asynchronous=asynchronous)]
                tally = Tally()
                drain(build(integers(500), stage, asked, 32, order), tally.take)
                said = {
                    "peer": "spdl-async" if asynchronous else "spdl",
                    "version": f"spdl-core {version('spdl-core')}",
                    "case": "concurrency",
                    "order": order,
                    "asked": asked,
                    "in_progress_max": probe.in_progress_max,
                    "started_behind_first": probe.started_behind_first,
                    "received": tally.received,
                }
                print(json.dumps(said))


def gain() -> None:
    """Medians of five pairs, one thread and two in turn, one line of JSON for each length and way."""

    def by_spdl(items: int, threads: int, hashed: bytes) -> int:
        tally = Tally()
        stage = [functools.partial(work, hashed=hashed)]
        drain(build(integers(items), stage, CPU_SCHEDULED, threads), lambda item: tally.take(item[0]))
        tally.check(items)
        return items

    def by_loops(items: int, threads: int, hashed: bytes) -> int:
        def loop() -> None:
            for index in range(items // threads):
                work(index, hashed)

        workers = [threading.Thread(target=loop) for _ in range(threads)]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
        return items // threads * threads

    for length, items in ((1, 2000), (10, 1000), (100, 200)):
        hashed = HASHED * length
        for way, run in (("threads", by_loops), ("spdl", by_spdl)):
            rates: dict[int, list[float]] = {1: [], 2: []}
            for _ in range(5):
                for threads, seen in rates.items():
                    started = time.perf_counter()
                    done = run(items, threads, hashed)
                    seen.append(done / (time.perf_counter() - started))
            gains = [two / one for one, two in zip(rates[1], rates[2], strict=True)]
            said = {
                "peer": way,
                "case": "gain",
                "work_us": 50 * length,
                "items_per_s": [statistics.median(rates[1]), statistics.median(rates[2])],
                "gain": [min(gains), statistics.median(gains), max(gains)],
            }
            print(json.dumps(said), flush=True)


TUNED = {"queue_class": LongQueue, "task_hook_factory": lambda _: [], "use_thread_output_queue": True}

if __name__ == "__main__":
    if sys.argv[1:] == ["concurrency"]:
        concurrency()
    elif sys.argv[1:] == ["gain"]:
        gain()
    else:
        everything = ("no_ops", "batches", "cpu", "probe")
        main(
            {
                "spdl": (2_000, everything, runner(no_op, asynchronous=False)),
                "spdl-async": (4_000, ("no_ops", "batches", "probe"), runner(no_op_async, asynchronous=True)),
                "spdl-tuned": (8_000, everything, runner(no_op_async, asynchronous=True, **TUNED)),
            },
            f"spdl-core {version('spdl-core')}",
            __doc__,
        )
