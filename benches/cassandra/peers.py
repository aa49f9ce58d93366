"""Other chains on the same load, beside ours: what a team could build of public parts.

Apache Camel (Maven) brings MQTT to Cassandra in three ways, see `Chain.java`. Telegraf (Go) has no output for Cassandra: it
writes a file, without a sync. Each has the JSON of `json_load`, mosquitto at its defaults but for the queue, and is given its
best: Camel a table in which a message is one partition, Telegraf the plugins that it needs and no more. All are asked the
same: how fast, at which cost, and what is gone after a kill -9 under load.
"""

import subprocess
import time

import json_parts
from cassandra_ages import open_store
from common import BIN, PROJECT, START_MS, Run, json_source, load, say
from machine import Process, Watch, until

CHAINS = PROJECT / "benches" / "peers"
# Of 1 and of 100 samples a message: messages a second for so long, and a kill in the middle.
KILL_RATE = {1: 5_000, 100: 500}
KILL_LENGTH_S, KILL_AFTER_S = 12, 5
HEAP = "512m"
# One in so many messages more come before the clock starts.
WARM_UP = 3


def fetched(name):
    """What `chains` prints for it; `None`, said loudly, where it cannot be had."""
    done = subprocess.run([CHAINS / "chains", name], stdout=subprocess.PIPE, text=True)
    if done.returncode != 0:
        say(f"peers: {name} is NOT measured: see above")
        return None
    return done.stdout.strip()


class Camel:
    """One of Camel's ways, with a keyspace of its own."""

    # Its name at the broker, and how often it was there before it is measured.
    client, before = "camel", 0

    def __init__(self, bench, class_path, folder, address, way):
        self.bench, self.class_path, self.folder, self.address, self.way = bench, class_path, folder, address, way
        self.keyspace = f"camel_{folder.name}".replace("-", "_")
        bench.keyspaces.append(self.keyspace)
        self.store = open_store(f"cassandra://{bench.node}/system")
        self.cql(
            f"CREATE KEYSPACE {self.keyspace} WITH replication = {{'class': 'SimpleStrategy', 'replication_factor': 1}}",
            f"CREATE TABLE {self.keyspace}.samples (car text, second bigint, channel text, t bigint, v double, "
            "PRIMARY KEY ((car, second), channel, t))",
        )

    def cql(self, *statements):
        return [list(self.store.session.execute(statement, timeout=120)) for statement in statements][-1]

    def end(self):
        self.store.cluster.shutdown()

    def start(self):
        command = ["java", f"-Xmx{HEAP}", "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn", "-cp", self.class_path]
        return Process.start("camel", [*command, "pitwire.bench.Chain", self.address, self.bench.node, self.keyspace, self.way],
                             self.folder / "camel.log")

    def samples(self):
        """How many different ones it stored, and how many in all: what is written twice is one row."""
        partitions = self.cql(f"SELECT DISTINCT car, second FROM {self.keyspace}.samples")
        counts = [
            self.cql(f"SELECT count(*) FROM {self.keyspace}.samples WHERE car = '{car}' AND second = {second}")[0][0]
            for car, second in partitions
        ]
        return sum(counts), sum(counts)

    def has(self, messages, channels, start_ms):
        """Whether the last sample is there: those that are not yet are few, and are waited for when they are counted."""
        turn, channel = divmod(messages - 1, 100) if channels == 1 else (messages - 1, channels - 1)
        t = start_ms + turn
        where = f"car = '44' AND second = {t // 1000} AND channel = 'sensor.{channel:03}' AND t = {t}"
        return bool(self.cql(f"SELECT t FROM {self.keyspace}.samples WHERE {where}"))


class Telegraf:
    """Telegraf into a file."""

    client, before = "telegraf", 0

    def __init__(self, bench, program, folder, address, buffer):
        self.program, self.folder, self.out = program, folder, folder / "out"
        text = (CHAINS / "telegraf" / "telegraf.conf").read_text()
        buffer = f'buffer_strategy = "disk"\n  buffer_directory = "{folder}/buffer"' if buffer == "disk" else ""
        for word, by in (("BROKER", address), ("OUT", str(self.out)), ("LOG", str(folder / "telegraf.log")), ("BUFFER", buffer)):
            text = text.replace(f"  {word}\n", f"  {by}\n") if word == "BUFFER" else text.replace(word, by)
        (folder / "telegraf.conf").write_text(text)
        self.lines, self.at = 0, 0

    def start(self):
        return Process.start("telegraf", [self.program, "--config", self.folder / "telegraf.conf"], self.folder / "telegraf.out")

    def end(self):
        self.out.unlink(missing_ok=True)

    def samples(self):
        seen, total = set(), 0
        for line in self.out.read_text().splitlines() if self.out.exists() else []:
            _, fields, at = line.rsplit(" ", 2) if line.count(" ") >= 2 else ("", "", "")
            for field in fields.split(",") if fields else []:
                seen.add((field.partition("=")[0], at))
                total += 1
        return len(seen), total

    def has(self, messages, _channels, _start_ms):
        if self.out.exists():
            with open(self.out, "rb") as file:
                file.seek(self.at)
                more = file.read()
            self.at, self.lines = self.at + len(more), self.lines + more.count(b"\n")
        if self.lines < messages:
            return False
        self.lines = 0
        return True


class Ours:
    """Our agent, with the JSON source of the other parts."""

    client, before = "pitwire", 1

    def __init__(self, bench, _found, folder, address, _way):
        self.run = Run(bench, folder.name + "-agent", source=json_source(address, "json/#"))
        self.config = self.run.folder / "pitwire.toml"
        self.run.agent.stop()

    def start(self):
        self.run.agent = Process.start("agent", [BIN / "pitwire", "run", "--config", self.config], self.run.folder / "agent.log")
        return self.run.agent

    def end(self):
        pass

    def samples(self):
        if self.run.agent.alive():
            self.run.until_home()
        text = self.run.pitwire("export", "--store", self.run.store, "--car", "44", "--format", "csv")
        seen = {tuple(line.split(",")[1:5:3]) for line in text.splitlines()[1:]}
        return len(seen), text.count("\n") - 1


def connected(broker_log, client, times):
    """Whether a client has come to the broker, the so-manieth time."""
    return broker_log.read_text().count(f" as {client}") >= times


class Setting:
    """A folder with a broker, and one chain at it."""

    def __init__(self, bench, kind, found, name, way):
        self.folder = bench.folder / f"peer-{name}"
        self.folder.mkdir()
        self.broker, self.address = bench.start_broker(self.folder)
        self.chain, self.starts = kind(bench, found, self.folder, self.address, way), 0

    def start(self):
        process = self.chain.start()
        self.starts += 1
        log = self.folder / "broker.log"
        until(f"{self.chain.client} comes to the broker", lambda: connected(log, self.chain.client, self.chain.before + self.starts), processes=[process])
        # It subscribes next, which the broker does not log.
        time.sleep(1.5)
        return process

    def end(self, process):
        process.stop()
        self.chain.end()
        self.broker.stop()

    def settled(self, seconds=10, within_s=120):
        """The samples, once no more come."""
        seen, since, end = self.chain.samples(), time.monotonic(), time.monotonic() + within_s
        while time.monotonic() - since < seconds and time.monotonic() < end:
            time.sleep(1)
            now = self.chain.samples()
            if now != seen:
                seen, since = now, time.monotonic()
        return seen


def throughput(bench, kind, found, name, way, channels, messages):
    """As fast as it takes them: samples/s, its CPU for a million and its peak of memory."""
    setting = Setting(bench, kind, found, name, way)
    process = setting.start()

    def bring(count, start_ms):
        command = load("publish", setting.address, "json/44", count, channels, start_ms)
        publisher = Process.start("publisher", command, setting.folder / "load.log")
        watch = Watch([process, setting.broker, bench.cassandra, publisher])
        until(f"{name} has the last sample", lambda: watch.look() or setting.chain.has(count, channels, start_ms), 300, 0.2, [process])
        return watch.end()

    # A virtual machine is fast only after a while, and is measured then.
    warm_up = messages // WARM_UP
    bring(warm_up, START_MS - 1_000_000)
    took = bring(messages, START_MS)
    there, _ = setting.settled()
    setting.end(process)
    samples = messages * channels
    return {
        "samples_per_s": samples / took["seconds"],
        "cpu_s_per_m": took["cpu_s"][process.name] / samples * 1e6,
        "peak_mib": took["peak_mib"][process.name],
        "exact": there == samples + warm_up * channels,
        "took": took,
        "words": f"{there} of {samples + warm_up * channels} there",
    }


def killed(bench, kind, found, name, way, channels):
    """Samples that are gone, and those that are there twice, after a kill -9 under load."""
    setting = Setting(bench, kind, found, name + "-killed", way)
    process = setting.start()
    messages = KILL_RATE[channels] * KILL_LENGTH_S
    command = load("publish", setting.address, "json/44", messages, channels, START_MS, KILL_RATE[channels])
    publisher = Process.start("publisher", command, setting.folder / "load.log")
    time.sleep(KILL_AFTER_S)
    process.child.kill()
    process.child.wait()
    process = setting.start()
    publisher.wait(60)
    distinct, total = setting.settled()
    setting.end(process)
    return messages * channels - distinct, total - distinct, messages * channels


def peer(bench, kind, found, name, way, channels, messages, words, of=None):
    """One line: `of` is what it came to where another part has measured it."""
    of = of or throughput(bench, kind, found, name, way, channels, messages)
    lost, twice, sent = killed(bench, kind, found, name, way, channels)
    bench.line(
        words,
        f"{of['samples_per_s'] / 1e3:.1f} k samples/s, {of['cpu_s_per_m']:.2f} s of its CPU for 1 M, {of['peak_mib']:.0f} MiB; "
        f"after kill -9 {lost} lost and {twice} twice of {sent}",
        "", None, of["took"], of.get("words", ""),
    )
    if not of["exact"]:
        say(f"peers: {name} did not bring everything: {of.get('words', '')}")
    bench.drop_keyspaces()
    return of


def peers(bench):
    scale = max(1, bench.seconds // 6)
    for name, part in (("json", json_parts.single), ("json100", json_parts.hundred), ("json100-rows", json_parts.hundred_as_rows)):
        if name not in bench.results:
            part(bench)
    ours = {name: bench.results[name] for name in ("json", "json100", "json100-rows")}
    peer(bench, Ours, None, "ours-1", "", 1, 0, "peers: ours, 1 sample a message, chunks, acknowledged when durable", ours["json"])
    peer(bench, Ours, None, "ours-100", "", 100, 0, "peers: ours, 100 samples a message, chunks", ours["json100"])
    camel, telegraf = fetched("camel"), fetched("telegraf")
    best = None
    if camel:
        peer(bench, Camel, camel, "camel-1", "each", 1, 20_000 * scale, "peers: Camel, 1 sample a message, acknowledged after its insert")
        peer(bench, Camel, camel, "camel-1-gathered", "gathered", 1, 40_000 * scale,
             "peers: Camel, 1 sample a message, acknowledged on arrival, batches of 500")
        best = peer(bench, Camel, camel, "camel-100", "message", 100, 2_000 * scale,
                    "peers: Camel, 100 samples a message, a batch each, acknowledged after it")
    if telegraf:
        peer(bench, Telegraf, telegraf, "telegraf-1", "memory", 1, 60_000 * scale, "peers: Telegraf into a file, 1 sample a message")
        peer(bench, Telegraf, telegraf, "telegraf-1-disk", "disk", 1, 6_000 * scale, "peers: Telegraf into a file, 1 sample a message, disk buffer")
        peer(bench, Telegraf, telegraf, "telegraf-100", "memory", 100, 6_000 * scale, "peers: Telegraf into a file, 100 samples a message")
    if best:
        rows, chunks = ours["json100-rows"], ours["json100"]
        rate, cpu = rows["samples_per_s"] / best["samples_per_s"], rows["cpu_s_per_m"] / best["cpu_s_per_m"]
        bench.line("100 samples a message as rows, ours to Camel's", f"{rate:.2f} × its samples/s at {cpu:.2f} × its CPU",
                   "≥ 1.0 × at ≤ 0.33 ×", rate >= 1.0 and cpu <= 1 / 3)
        rate = chunks["samples_per_s"] / best["samples_per_s"]
        bench.line("… as chunks", f"{rate:.1f} ×", "≥ 6 ×", rate >= 6)
