"""Bytes of a sample: in the column `data`, on Cassandra's disk, and what a race weekend comes to."""

import json
import os
import subprocess
import time

from common import FLUSH_1S, PROJECT, Run, data_bytes, exact, told
from machine import Watch, until

# Samples a second.
TIERS = {"club": 400, "can": 1_500, "wide": 78_200, "f1": 1_100_100}
# Of a race weekend, on track: three practice hours, one of qualifying, two of race.
WEEKEND_H = 3 + 1 + 2


def nodetool(bench, *arguments):
    jmx_port = (bench.node_folder / "ports").read_text().split()[3]
    command = [PROJECT / "tests" / "cassandra" / "node", "tool", "1", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "JMX_PORT": jmx_port})
    if done.returncode != 0:
        raise RuntimeError(f"nodetool {arguments[0]}: {done.stderr.strip()} {done.stdout.strip()}")
    return done.stdout


def disk_bytes(bench, keyspace):
    """What a keyspace takes on disk once its memtables are flushed and each table is compacted into as few files as it has
    windows: all files of its live SSTables, indices and statistics too."""
    nodetool(bench, "flush", keyspace)
    nodetool(bench, "compact", keyspace)
    tables = json.loads(nodetool(bench, "tablestats", "-F", "json", keyspace))[keyspace]["tables"].values()
    live = sum(int(table["space_used_live"]) for table in tables)
    folder = bench.node_folder / "data" / "data" / keyspace

    def on_disk():
        # A folder more is a snapshot or a secondary index; the node here makes neither.
        found = sum(file.stat().st_size for file in folder.glob("*/*") if file.is_file())
        return found if found <= 1.01 * live else None

    # What was compacted away is deleted a little later, so the folder is looked at until it holds no more than what lives.
    return until("only live SSTables are left", on_disk, 60)


def sizes(bench):
    """All tiers at once, each with an agent and a keyspace of its own; how long a flush waits makes the rows' size, not the load."""
    length_s = max(20, min(bench.seconds, 60))
    wanted = [(tier, 200) for tier in TIERS] + [("f1", 1000)]
    runs = []
    for tier, flush_ms in wanted:
        run = Run(bench, f"bytes-{tier}-{flush_ms}", deliver=FLUSH_1S if flush_ms == 1000 else "")
        run.until_subscribed()
        runs.append(run)
    sims = [
        run.sim("--tier", tier, "--for", f"{length_s}s", "--mqtt", f"mqtt://{run.address}")
        for run, (tier, _) in zip(runs, wanted)
    ]
    watch = Watch([bench.cassandra, *(process for run in runs for process in (run.agent, run.broker)), *sims])
    while any([sim.alive() for sim in sims]):
        watch.look()
        time.sleep(0.2)
    took = watch.end()
    weekend = []
    for run, sim, (tier, flush_ms) in zip(runs, sims, wanted):
        run.until_home()
        run.end()
        audit = run.audit(sim)
        each = data_bytes(run) / audit["found"]
        disk = disk_bytes(bench, run.keyspace) / audit["found"]
        words = f"{tier}, {flush_ms} ms"
        asked = ("≤ 1.6 B, audit exact", exact(audit) and each <= 1.6) if tier == "f1" else ("audit exact", exact(audit))
        bench.line(
            f"`data` for a sample, {words}", f"{each:.2f} B", *asked,
            more=f"{audit['found'] / audit['rows']:.0f} samples a row; on disk, flushed and compacted, {disk:.2f} B; {told(audit)}",
        )
        weekend.append(f"{words}: {disk * TIERS[tier] * WEEKEND_H * 3600 / 1e9:.2f} GB")
    bench.line(f"a race weekend on disk, {WEEKEND_H} h on track, one copy", "; ".join(weekend), "", None, took, "processes: of all five together")
