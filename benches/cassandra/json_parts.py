"""Parts with JSON from MQTT, which a generic tool could do as well."""

import time

import duckdb
from common import FLUSH_1S, ROWS, START_MS, Run, broker_alone, json_source, load
from machine import Process, Watch


def values_are_right(run, messages, channels):
    """Whether what an export holds is what `json_load` sent, each sample once, each value to its last digit.

    Answers that, and how many samples there are."""
    out = run.folder / "all.parquet"
    run.pitwire("export", "--store", run.store, "--car", "44", "--format", "parquet", "-o", out)
    # As `message` in json_load.rs makes them: with one channel the messages take turns at a hundred.
    turns, each = (messages / 100, 100) if channels == 1 else (messages, channels)
    count, distinct, wrong, low, high = duckdb.sql(f"""
        WITH seen AS (SELECT CAST(channel[8:] AS INT) AS c, epoch_ms(t_us) - {START_MS} AS turn, value FROM '{out}')
        SELECT count(*), count(DISTINCT turn * 1000 + c),
            count(*) FILTER (abs(value - round(sin(turn * 0.01 + c) * 5000.0) / 10.0) > 1e-9 OR c >= {each}), min(turn), max(turn)
        FROM seen""").fetchall()[0]
    out.unlink()
    good = count == distinct == turns * each and wrong == 0 and (low, high) == (0, turns - 1)
    return good, f"{count} of {messages * channels} stored, {wrong} altered"


def json_messages(bench, name, channels, messages, **run_options):
    """JSON through the agent, as fast as it takes it; what came out is kept in `bench.results[name]`."""
    folder = bench.folder / (name + "-broker")
    folder.mkdir()
    broker, address = bench.start_broker(folder)
    with Run(bench, name, source=json_source(address, "json/44"), **run_options) as run:
        run.until_subscribed()
        command = load("publish", address, "json/44", messages, channels, START_MS)
        publisher = Process.start("publisher", command, folder / "load.log")
        samples = messages * channels
        watch = Watch([run.agent, broker, bench.cassandra, publisher])
        while publisher.alive():
            watch.look()
            time.sleep(0.1)
        run.until_home(samples, within_s=300)
        took = watch.end()
        good, words = values_are_right(run, messages, channels)
        bench.results[name] = {
            "messages": messages,
            "samples_per_s": samples / took["seconds"],
            "cpu_s_per_m": took["cpu_s"]["agent"] / samples * 1e6,
            "peak_mib": took["peak_mib"]["agent"],
            "exact": good,
            "took": took,
        }
    broker.stop()
    return bench.results[name], words


def single(bench):
    messages = 60_000 * max(1, bench.seconds // 6)
    alone = broker_alone(bench, messages, 1)
    of, words = json_messages(bench, "json", 1, messages)
    rate = of["samples_per_s"]
    bench.line(
        "JSON, one sample a message", f"{rate / 1e3:.1f} k/s, {rate / alone:.2f} × the broker alone ({alone / 1e3:.1f} k/s)",
        "≥ 0.9 × the broker alone, exact", of["exact"] and rate >= 0.9 * alone, of["took"], words,
    )
    bench.at_most("… agent's CPU for 1 M samples", of["cpu_s_per_m"], 5, "s")


def hundred(bench):
    messages = 6_000 * max(1, bench.seconds // 6)
    alone = broker_alone(bench, messages, 100)
    of, words = json_messages(bench, "json100", 100, messages)
    rate = of["samples_per_s"]
    bench.line(
        "JSON, 100 samples a message, chunks", f"{rate / 1e6:.2f} M samples/s (the broker alone {alone * 100 / 1e6:.2f} M)",
        "exact", of["exact"], of["took"], words,
    )
    bench.at_most("… agent's CPU for 1 M samples", of["cpu_s_per_m"], 0.5, "s")


def hundred_as_rows(bench):
    messages = 2_000 * max(1, bench.seconds // 6)
    of, words = json_messages(bench, "json100-rows", 100, messages, more=ROWS, deliver=FLUSH_1S)
    rate = of["samples_per_s"]
    bench.line(
        "JSON, 100 samples a message, rows, flush_after 1 s", f"{rate / 1e3:.0f} k samples/s",
        "≥ 200 k samples/s, exact", of["exact"] and rate >= 200e3, of["took"], words,
    )
    bench.line("… agent's CPU for 1 M samples", f"{of['cpu_s_per_m']:.2f} s", "", None)
