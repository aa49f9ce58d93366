"""Parts with the simulated car of the tier `f1`, at its own rate and at as much as goes, and an agent that has nothing to do."""

import time
from typing import NamedTuple

import duckdb
from common import BIN, F1_RATE, FLUSH_1S, ROWS, Run, data_bytes, drive, exact, ports, say, told
from machine import Process, Watch


def f1_over_mqtt(bench):
    with Run(bench, "f1") as run:
        audit, took, status, backlog = drive(bench, run, ["--tier", "f1"], bench.seconds)
    p50, p99 = run.ages_ms([0.5, 0.99])
    rate = audit["sent"] / took["sending_s"]
    good = exact(audit) and backlog == 0 and rate >= 0.98 * F1_RATE
    bench.line("f1 over MQTT, chunks", f"{rate / 1e6:.2f} M samples/s", "≥ 1.1 M samples/s, audit exact, backlog 0", good, took,
               f"{told(audit)}; backlog {backlog}")
    bench.at_most("… agent's cores", took["cores"]["agent"], 0.2, "cores")
    bench.at_most("… agent's peak memory", took["peak_mib"]["agent"], 64, "MiB")
    bench.at_most("… agent's CPU for 1 M samples", took["cpu_s"]["agent"] / audit["sent"] * 1e6, 0.15, "s")
    bench.line("… sensor to row, p50, p99", f"{p50:.0f}, {p99:.0f} ms", "p99 ≤ 450 ms", p99 <= 450)
    bench.line("… written to the spill", f"{status['spill']['written_bytes']} B", "0 B", status["spill"]["written_bytes"] == 0)
    bench.at_most("… `data` for a sample", data_bytes(run) / audit["found"], 1.6, "B")
    bench.results["f1"] = (run, audit)
    bench.kept.append(run.keyspace)


def f1_over_pty(bench):
    links, source = ports(bench.folder, 1)
    with Run(bench, "f1-pty", source=source) as run:
        audit, took, _, backlog = drive(bench, run, ["--tier", "f1"], bench.seconds, links)
    rate = audit["sent"] / took["sending_s"]
    bench.line("f1 over one pseudo-terminal", f"{rate / 1e6:.2f} M samples/s", "≥ 1.1 M samples/s, audit exact",
               exact(audit) and rate >= 0.98 * F1_RATE, took, f"{told(audit)}; backlog {backlog}")
    bench.line("… agent's cores", f"{took['cores']['agent']:.3f} cores", "", None)


class Step(NamedTuple):
    """One drive of a search for the highest rate. It counts if every sample is stored as it was sent and none had to wait
    in the spill; its rate is that from the first to the last stored, so what waits in a broker is not counted as done."""

    counts: bool
    rate: float
    words: str
    took: dict
    audit: dict


def highest(bench, name, steps, asked, length_s=15, port_count=0, **run_options):
    """Goes up `steps` (words, the simulator's arguments) for as long as more comes through.

    The search ends at a step that brings no more, once what is asked for was reached; below that at the third of them:
    another process may have been in the way. Answers the best step; where none counts, the best of the others."""
    best, no_more = Step(False, 0.0, "none came to its end", None, None), 0
    for number, (words, arguments) in enumerate(steps):
        links, source = ports(bench.folder, port_count)
        step = None
        with Run(bench, f"{name}-{number}", source=source, **run_options) as run:
            try:
                audit, took, _, backlog = drive(bench, run, arguments, min(bench.seconds, length_s), links)
            except TimeoutError as error:
                say(f"{name}: {words}: {error}")
            else:
                rate = audit["sent"] / took["seconds"]
                words += f"; {told(audit)}; backlog {backlog}"
                step = Step(exact(audit) and backlog == 0, rate, words, took, audit)
                cores = ", ".join(f"{name} {cores:.2f}" for name, cores in took["cores"].items())
                say(f"{name}: {rate / 1e6:.3f} M samples/s; {words}; {cores}")
        bench.drop_keyspaces()
        if step and (step.counts, step.rate) > (best.counts, best.rate):
            best = step
            if step.counts:
                continue
        no_more += 1
        if no_more > 2 or best.counts and best.rate >= asked:
            break
    return best


def faster_cars(tier, factors):
    return [(f"one {tier} car, its rates × {factor}", ["--tier", tier, "--rate-factor", factor]) for factor in factors]


def ceiling(bench):
    """One agent under what nine f1 cars and more send: as one car with faster channels, and as cars beside each other."""
    asked = 10e6
    # A car that is asked for more than it can make makes what it can, so a step beyond the ceiling shows it.
    faster, names = faster_cars("f1", (7, 10, 14)), [word for car in range(9) for word in ("--car", str(44 + car))]
    found = {
        "over three pseudo-terminals": highest(bench, "ceiling-pty", faster[1:], asked, 10, port_count=3),
        "over MQTT": highest(bench, "ceiling-mqtt", faster, asked, 10),
        "over MQTT, cars beside each other": highest(bench, "ceiling-cars", [("9 f1 cars", ["--tier", "f1", *names])], asked, 10),
    }
    # What is asked for is asked of the agent, on two cores that it shares with its load: the way that leaves it most counts.
    for number, (way, step) in enumerate(sorted(found.items(), key=lambda item: (item[1].counts, item[1].rate), reverse=True)):
        rate = f"{step.rate / 1e6:.1f} M samples/s"
        if number == 0:
            met = step.counts and step.rate >= asked
            bench.line(f"the ceiling, {way}", rate, "≥ 10 M samples/s, exact, backlog 0", met, step.took, step.words)
        else:
            bench.line(f"… {way}", rate, "", None, step.took, step.words)


def idle(bench):
    with Run(bench, "idle") as run:
        run.until_subscribed()
        time.sleep(5)
        watch = Watch([run.agent])
        time.sleep(20)
        took = watch.end()
        now = next(int(line.split()[1]) for line in open(f"/proc/{run.agent.pid}/status") if line.startswith("VmRSS")) / 1024
        bench.line("idle agent, memory", f"{now:.1f} MiB", "≤ 16 MiB", now <= 16)
        bench.line("idle agent, CPU", f"{took['cores']['agent'] * 100:.2f} % of a core", "≤ 0.5 %", took["cores"]["agent"] <= 0.005, took)


def export_parquet(bench):
    if "f1" not in bench.results:
        f1_over_mqtt(bench)
    run, audit = bench.results.pop("f1")
    bench.kept.remove(run.keyspace)
    out = run.folder / "f1.parquet"
    command = [BIN / "pitwire", "export", "--store", run.store, "--car", "44", "--format", "parquet", "-o", out]
    began = time.monotonic()
    process = Process.start("export", command, run.folder / "export.log")
    watch = Watch([process, bench.cassandra])
    while process.alive():
        watch.look()
        time.sleep(0.05)
    seconds = time.monotonic() - began
    rate = audit["found"] / seconds
    rows = duckdb.sql(f"SELECT count(*) FROM '{out}'").fetchall()[0][0]
    good = process.child.returncode == 0 and rows == audit["found"] and rate >= 5e6
    bench.line("export to Parquet", f"{rate / 1e6:.2f} M samples/s", "≥ 5 M samples/s", good, watch.end(),
               f"{audit['found']} samples in {seconds:.2f} s, {out.stat().st_size / audit['found']:.2f} B each")


def rows(bench):
    """Each sample a row of its own, of all channels of a car: what the layout is not meant for, and its limit."""
    asked = 200e3
    # Of 300 channels, as many samples a second as are asked for and more.
    steps = faster_cars("f1", (0.1, 0.15, 0.19, 0.23))
    best = highest(bench, "rows", steps, asked, more=ROWS, deliver=FLUSH_1S)
    bench.line("rows over MQTT, wire, flush_after 1 s", f"{best.rate / 1e3:.0f} k samples/s", "≥ 200 k samples/s, exact, backlog 0",
               best.counts and best.rate >= asked, best.took, best.words)
    if best.audit:
        bench.line("… agent's CPU for 1 M samples", f"{best.took['cpu_s']['agent'] / best.audit['sent'] * 1e6:.2f} s", "", None)
    best = highest(bench, "rows-wide", faster_cars("wide", (1, 1.5, 2)), 0, more=ROWS)
    bench.line("… of 782 slower channels, 200 ms", f"{best.rate / 1e3:.0f} k samples/s", "", None, best.took, best.words)
