"""Parts with the simulated car of the tier `f1`, at its own rate and at as much as goes, and an agent that has nothing to do."""

import time

import duckdb
from common import BIN, F1_RATE, Run, data_bytes, drive, exact, say, told
from machine import Process, Watch


def f1_over_mqtt(bench):
    with Run(bench, "f1") as run:
        audit, took, status, backlog = drive(bench, run, ["--tier", "f1"], bench.seconds)
    p50, p99 = run.ages_ms([0.5, 0.99])
    rate = audit["sent"] / took["seconds"]
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


def f1_over_pty(bench):
    link = bench.folder / "f1-pty-link"
    # The simulator makes the pseudo-terminal; the agent opens it when it is there.
    with Run(bench, "f1-pty", source=f'[[source.serial]]\nname = "ecu"\npath = "{link}"\n') as run:
        sim = run.sim("--tier", "f1", "--for", f"{bench.seconds}s", "--block", f"--pty={link}")
        watch = Watch([run.agent, bench.cassandra, sim])
        while sim.alive():
            watch.look()
            time.sleep(0.1)
        took = watch.end()
        run.until_home()
        audit = run.audit(sim)
    bench.line("f1 over a pseudo-terminal", f"{audit['sent'] / took['seconds'] / 1e6:.2f} M samples/s", "exact", exact(audit), took, told(audit))


def ceiling(bench):
    """Several f1 cars' rate through one: until the backlog grows or the car does not keep its pace."""
    best = None
    for factor in (3, 6, 9, 12, 15):
        with Run(bench, f"ceiling-{factor}") as run:
            audit, took, _, backlog = drive(bench, run, ["--tier", "f1", "--rate-factor", factor], min(bench.seconds, 20))
        rate = audit["sent"] / took["seconds"]
        cores = ", ".join(f"{name} {cores:.2f}" for name, cores in took["cores"].items())
        say(f"ceiling: × {factor}: {rate / 1e6:.1f} M/s, backlog {backlog}, {cores}")
        # A car that cannot keep its own pace is the simulator's limit, not ours; it counts for what it sent.
        if not exact(audit) or backlog > 0:
            break
        if best is None or rate > best[0]:
            best = (rate, took, factor, cores)
        if rate < 0.9 * factor * F1_RATE:
            break
    rate, took, factor, cores = best or (0.0, None, 0, "")
    bench.line("the ceiling, nine f1 cars and more", f"{rate / 1e6:.1f} M samples/s", "≥ 10 M samples/s", rate >= 10e6, took,
               f"--rate-factor {factor}; cores: {cores}")


def idle(bench):
    with Run(bench, "idle") as run:
        run.until_subscribed()
        time.sleep(5)
        watch = Watch([run.agent])
        time.sleep(20)
        took = watch.end()
        now = next(int(line.split()[1]) for line in open(f"/proc/{run.agent.pid}/status") if line.startswith("VmRSS")) / 1024
        bench.line("idle agent, memory", f"{now:.1f} MiB", "≤ 16 MiB", now <= 16)
        bench.line("idle agent, CPU", f"{took['cores']['agent'] * 100:.2f} % of a core", "≤ 0.5 %", took["cores"]["agent"] <= 0.005)


def export_parquet(bench):
    if "f1" not in bench.results:
        f1_over_mqtt(bench)
    run, audit = bench.results["f1"]
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
    rows = duckdb.sql(f"SELECT count(*) FROM '{out}'").fetchone()[0]
    good = process.child.returncode == 0 and rows == audit["found"] and rate >= 5e6
    bench.line("export to Parquet", f"{rate / 1e6:.2f} M samples/s", "≥ 5 M samples/s", good, watch.end(),
               f"{audit['found']} samples in {seconds:.2f} s, {out.stat().st_size / audit['found']:.2f} B each")
