"""asyncio.Queue between coroutines, from Python's standard library: a peer of the pipeline engine.

    asyncio_chain.py list | measure PEER CASE THREADS

asyncio         one coroutine for each stage, one item at a time: no concurrency, so the order keeps itself
asyncio-window  a task for each operation, at most four of them in a row, handed over in that order
threads         no pipeline: a loop on each thread, what the machine gives at best for the CPU stage
"""

import asyncio
import platform
import threading
from asyncio import Queue
from collections.abc import Awaitable, Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from measure import CONCURRENCY, CPU_SCHEDULED, QUEUE_ITEMS, Probe, Tally, batches, integers, main, work

Operation = Callable[[Any], Awaitable[Any]]

END = object()


async def no_op(item: Any) -> Any:
    return item


async def feed(items: Iterable[Any], output: Queue[Any]) -> None:
    for item in items:
        await output.put(item)
    await output.put(END)


async def stage(entry: Queue[Any], output: Queue[Any], operation: Operation) -> None:
    while (item := await entry.get()) is not END:
        await output.put(await operation(item))
    await output.put(END)


async def window(entry: Queue[Any], output: Queue[Any], operation: Operation, scheduled_max: int) -> None:
    """Starts operations as tasks; who hands over the oldest gives its place back only then."""
    started: Queue[Any] = Queue()
    places = asyncio.Semaphore(scheduled_max)

    async def hand_over() -> None:
        while (task := await started.get()) is not END:
            result = await task
            places.release()
            await output.put(result)
        await output.put(END)

    handing_over = asyncio.create_task(hand_over())
    while (item := await entry.get()) is not END:
        await places.acquire()
        started.put_nowait(asyncio.ensure_future(operation(item)))
    started.put_nowait(END)
    await handing_over


async def drain(last: Queue[Any], take: Callable[[Any], None]) -> None:
    while (item := await last.get()) is not END:
        take(item)


async def chain(
    source: Iterable[Any], stages: list[Callable[..., Awaitable[None]]], take: Callable[[Any], None]
) -> None:
    queues: list[Queue[Any]] = [Queue(QUEUE_ITEMS) for _ in range(len(stages) + 1)]
    async with asyncio.TaskGroup() as group:
        group.create_task(feed(source, queues[0]))
        for run, entry, output in zip(stages, queues[:-1], queues[1:], strict=True):
            group.create_task(run(entry, output))
        group.create_task(drain(queues[-1], take))


def in_executor(threads: int) -> tuple[ThreadPoolExecutor, Operation]:
    pool = ThreadPoolExecutor(threads)

    async def operation(index: int) -> Any:
        return await asyncio.get_running_loop().run_in_executor(pool, work, index)

    return pool, operation


def run_chain(case: str, items: int, threads: int, _: Probe | None) -> Tally:
    tally = Tally()
    three = [lambda entry, output: stage(entry, output, no_op)] * 3
    match case:
        case "no_ops":
            asyncio.run(chain(integers(items), three, tally.take))
        case "batches":
            asyncio.run(chain(batches(items), three, lambda samples: tally.take(int(samples[0]))))
    return tally


def run_window(case: str, items: int, threads: int, probe: Probe | None) -> Tally:
    tally = Tally()

    async def probed(index: int) -> int:
        assert probe is not None
        await asyncio.sleep(probe.begin(index))
        probe.end(index)
        return index

    three = [lambda entry, output: window(entry, output, no_op, CONCURRENCY)] * 3
    match case:
        case "no_ops":
            asyncio.run(chain(integers(items), three, tally.take))
        case "batches":
            asyncio.run(chain(batches(items), three, lambda samples: tally.take(int(samples[0]))))
        case "cpu":
            pool, operation = in_executor(threads)
            with pool:
                one = [lambda entry, output: window(entry, output, operation, CPU_SCHEDULED)]
                asyncio.run(chain(integers(items), one, tally.take_worked))
        case "probe":
            one = [lambda entry, output: window(entry, output, probed, CONCURRENCY)]
            asyncio.run(chain(integers(items), one, tally.take))
    return tally


def run_threads(_: str, items: int, threads: int, __: Probe | None) -> Tally:
    results: list[list[Any]] = [[] for _ in range(threads)]

    def loop(thread: int) -> None:
        for index in range(items * thread // threads, items * (thread + 1) // threads):
            results[thread].append(work(index))

    workers = [threading.Thread(target=loop, args=(thread,)) for thread in range(threads)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    tally = Tally()
    for worked in results:
        for item in worked:
            tally.take_worked(item)
    return tally


if __name__ == "__main__":
    main(
        {
            "threads": (0, ("cpu",), run_threads),
            "asyncio": (100_000, ("no_ops", "batches"), run_chain),
            "asyncio-window": (30_000, ("no_ops", "batches", "cpu", "probe"), run_window),
        },
        f"Python {platform.python_version()}",
        __doc__,
    )
