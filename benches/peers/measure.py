"""What the Python peers share: the tasks, the check of what came out, and the line of JSON.

The same as src/task.rs and src/main.rs, but for the CPU stage: Python computes no 50 µs at the speed of C, so its
operation is a SHA-256 over a buffer of fixed length, during which hashlib lets other threads run.
"""

import hashlib
import json
import os
import sys
import threading
import time
from array import array
from collections.abc import Callable, Iterator
from typing import Any

CONCURRENCY = 4
QUEUE_ITEMS = 64
BATCH_SAMPLES = 64
RUNTIME_THREADS = 2
# Operations of the CPU stage that may be scheduled, where the peer tells them from its threads.
CPU_SCHEDULED = 16
CPU_ITEMS = 10_000
# What is run before the clock starts, as a part of what is measured.
WARM_UP = 10

# About 50 µs on the machine of docs/benchmarks.md.
HASHED = bytes(84_000)


class Wrong(Exception):
    """The peer did not do its task."""


def integers(count: int) -> Iterator[int]:
    return iter(range(count))


def batches(count: int) -> Iterator[array]:
    """Batches of 64 f32, each made anew; the first sample is the index, exact below 2^24."""
    for index in range(count):
        samples = array("f", bytes(4 * BATCH_SAMPLES))
        samples[0] = index
        yield samples


def work(index: int, hashed: bytes = HASHED) -> tuple[int, bytes]:
    """The operation of the CPU stage."""
    digest = hashlib.sha256(hashed)
    digest.update(index.to_bytes(8, "little"))
    return index, digest.digest()


def loop_us() -> float:
    """One operation of the CPU stage in µs, in a loop without a pipeline."""
    started = time.perf_counter()
    for index in range(CPU_ITEMS):
        work(index)
    return (time.perf_counter() - started) * 1e6 / CPU_ITEMS


def busy_s() -> float | None:
    """What all cores together were busy so far: all of /proc/stat's first line but idle and iowait."""
    try:
        with open("/proc/stat", encoding="ascii") as stat:
            ticks = [int(it) for it in stat.readline().split()[1:]]
    except OSError:
        return None
    return (sum(ticks[:3]) + sum(ticks[5:8])) / os.sysconf("SC_CLK_TCK")


class Tally:
    """What the sink saw."""

    def __init__(self) -> None:
        self.received = 0
        self.out_of_order = 0
        self.wrong_values = 0

    def take(self, index: int) -> None:
        self.out_of_order += index != self.received
        self.received += 1

    def take_worked(self, worked: tuple[int, bytes]) -> None:
        index, digest = worked
        self.take(index)
        if index % 1000 == 0:
            self.wrong_values += digest != work(index)[1]

    def check(self, items: int) -> None:
        if self.received != items:
            raise Wrong(f"{self.received} of {items} items came out")
        if self.out_of_order:
            raise Wrong(f"{self.out_of_order} of {items} items came out of order")
        if self.wrong_values:
            raise Wrong("what came out is not what the stage computes")


class Probe:
    """Looks into one stage from its operation, as src/task.rs does."""

    FIRST_S = 0.2
    OTHERS_S = 0.001
    ITEMS = 1_000

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._in_progress = 0
        self._started = 0
        self.in_progress_max = 0
        self.started_behind_first = 0

    def begin(self, index: int) -> float:
        with self._lock:
            self._started += 1
            self._in_progress += 1
            self.in_progress_max = max(self.in_progress_max, self._in_progress)
        return self.FIRST_S if index == 0 else self.OTHERS_S

    def end(self, index: int) -> None:
        with self._lock:
            if index == 0:
                self.started_behind_first = self._started - 1
            self._in_progress -= 1


Peer = Callable[[str, int, int, "Probe | None"], Tally]


def line(run: Peer, case: str, items: int, threads: int) -> dict[str, Any]:
    """Measures one case; raises Wrong where the task was not done."""
    said: dict[str, Any] = {"case": case, "threads": threads}
    probe = Probe() if case == "probe" else None
    items = {"cpu": CPU_ITEMS, "probe": Probe.ITEMS}.get(case, items)
    if probe is None:
        run(case, items // WARM_UP, threads, None).check(items // WARM_UP)
    if case == "cpu":
        said["work_us"] = loop_us()
    busy, started, cpu = busy_s(), time.perf_counter(), time.process_time()
    tally = run(case, items, threads, probe)
    seconds, cpu, busy_after = time.perf_counter() - started, time.process_time() - cpu, busy_s()
    tally.check(items)
    if probe is not None:
        said["asked"] = CONCURRENCY
        said["in_progress_max"] = probe.in_progress_max
        said["started_behind_first"] = probe.started_behind_first
    if busy is not None and busy_after is not None:
        said["others_cores"] = max(0.0, (busy_after - busy - cpu) / seconds)
    samples = items * (BATCH_SAMPLES if case == "batches" else 1)
    said |= {
        "items": items,
        "seconds": seconds,
        "items_per_s": items / seconds,
        "samples_per_s": samples / seconds,
        "cpu_us_per_item": cpu * 1e6 / items,
        "checked": True,
    }
    return said


def main(peers: dict[str, tuple[int, tuple[str, ...], Peer]], version: str, help_text: str) -> None:
    """`list`, or `measure PEER CASE THREADS`, as the program in Rust has them."""
    match sys.argv[1:]:
        case ["list"]:
            for peer, (_, cases, _) in peers.items():
                for case in cases:
                    for threads in (1, 2) if case == "cpu" else (RUNTIME_THREADS,):
                        print(peer, case, threads)
        case ["measure", peer, case, threads] if peer in peers and case in peers[peer][1]:
            items, _, run = peers[peer]
            said = line(run, case, items, int(threads))
            print(json.dumps({"peer": peer, "version": version} | said))
        case _:
            sys.exit(help_text)
