"""A whole car into a real Cassandra and out again, everything on this machine, in one table.

Each line is a run of its own: a fresh keyspace, a fresh agent, the simulated car or `json_load`, an audit at its end. CPU is
that of each process from the first to the last sample, peak memory that since it began (Cassandra: for all parts), both read
from /proc. Called by ./run, which builds, starts Cassandra and names the binaries.
"""

import argparse
import importlib
import json
import sys
import traceback

import can
import cars
import fleet
import json_parts
import sizes
from common import PROJECT, Bench, say
from machine import Process


def peers(bench):
    # Not before it is asked for: it looks for tools of others as it is loaded.
    importlib.import_module("peers").peers(bench)


# In this order: `export` reads what `f1` left, `peers` compares with the JSON parts of the same run.
PARTS = {
    "f1": cars.f1_over_mqtt,
    "export": cars.export_parquet,
    "pty": cars.f1_over_pty,
    "ceiling": cars.ceiling,
    "rows": cars.rows,
    "json": json_parts.single,
    "json100": json_parts.hundred,
    "json100rows": json_parts.hundred_as_rows,
    "bytes": sizes.sizes,
    "can": can.can,
    "idle": cars.idle,
    "fleet": fleet.fleet,
    "peers": peers,
}


def run_part(bench, name, part):
    """A part that fails is a line that is missed, and the others go on."""
    try:
        part(bench)
    except Exception as error:
        traceback.print_exc()
        bench.line(name, f"failed: {error}".replace("\n", " ")[:200], "", False)
    finally:
        Process.stop_all()
        bench.drop_keyspaces()


def table(bench):
    rows = ["| what | measured | asked | | cores, peak MiB of each process |", "|---|---|---|---|---|"]
    for line in bench.lines:
        mark = {True: "yes", False: "**no**", None: ""}[line["met"]]
        of = ""
        if "cores" in line:
            of = "; ".join(f"{name} {cores:.2f}, {line['peak_mib'][name]:.0f}" for name, cores in line["cores"].items())
        more = f" ({line['more']})" if line["more"] else ""
        rows.append(f"| {line['what']} | {line['is']}{more} | {line['should']} | {mark} | {of} |")
    return "\n".join(rows)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--node", required=True)
    parser.add_argument("--node-folder", required=True)
    parser.add_argument("--folder", required=True)
    parser.add_argument("--seconds", type=int, default=60)
    parser.add_argument("--only", action="append", default=[], choices=list(PARTS))
    given = parser.parse_args()
    bench = Bench(given.folder, given.node, given.node_folder, given.seconds)
    try:
        for name, part in PARTS.items():
            if not given.only or name in given.only:
                say(f"== {name}")
                run_part(bench, name, part)
    finally:
        print(table(bench))
        kept = PROJECT / ".cache" / "bench-cassandra"
        kept.mkdir(parents=True, exist_ok=True)
        (kept / "lines.json").write_text(json.dumps(bench.lines, indent=1))
    if bench.missed:
        print(f"\nmissed: {', '.join(bench.missed)}")
        sys.exit(1)


if __name__ == "__main__":
    main()
