"""What the parts of the benchmark share: a fresh agent with its keyspace and broker, a car that is driven, the table's lines."""

import json
import os
import pathlib
import subprocess
import sys
import time

from cassandra_ages import drop_keyspaces
from machine import Process, Watch, free_port, get_json, until

PROJECT = pathlib.Path(__file__).resolve().parents[2]
BIN = PROJECT / "target" / "release"
# Samples a second of the simulated car.
F1_RATE = 1_100_100
# Time of the first JSON message, ms: any time will do, and its samples are found by it.
START_MS = 1_795_262_400_000
# Larger and fewer writes, of a second each: a batch of single rows costs Cassandra about half as much for a row.
FLUSH_1S = 'flush_after = "1s"\ndurable_within = "2s"'
# Each sample a row of its own, of all channels.
ROWS = '[layout]\nrows = ["*"]'


def say(text):
    print(text, file=sys.stderr, flush=True)


class Bench:
    """What the lines share: the node, the broker, a folder, and the lines so far."""

    def __init__(self, folder, node, node_folder, seconds):
        self.folder, self.node, self.node_folder, self.seconds = pathlib.Path(folder), node, pathlib.Path(node_folder), seconds
        self.cassandra = Process("cassandra", int((self.node_folder / "pid").read_text()))
        self.lines, self.missed, self.runs = [], [], 0
        # Of the runs, and those that a later part still reads.
        self.keyspaces, self.kept = [], []
        # What a part hands to a later one: the run of `f1` to `export`, figures of the JSON parts to `peers`.
        self.results = {}

    def start_broker(self, folder):
        """mosquitto at its defaults but for the queue: its default drops what an agent that restarts has not taken."""
        port = free_port()
        config = folder / "mosquitto.conf"
        config.write_text(f"listener {port} 127.0.0.1\nallow_anonymous true\nmax_queued_messages 0\n")
        mosquitto = next(p for p in ("/usr/sbin/mosquitto", "/usr/bin/mosquitto") if os.path.exists(p))
        broker = Process.start("mosquitto", [mosquitto, "-c", config], folder / "broker.log")
        until("the broker listens", lambda: b"running" in (folder / "broker.log").read_bytes(), processes=[broker])
        return broker, f"127.0.0.1:{port}"

    def line(self, what, is_, should, met, watch=None, more=""):
        """One line of the table. `met` is None where nothing is asked."""
        self.lines.append({"what": what, "is": is_, "should": should, "met": met, "more": more, **(watch or {})})
        # A line that begins with dots goes on with the one before.
        if not what.startswith("…"):
            self.head = what
        if met is False:
            self.missed.append(what.replace("…", f"{self.head}:", 1) if what.startswith("…") else what)
        say(json.dumps(self.lines[-1]))

    def drop_keyspaces(self):
        """What is stored and was looked at: Cassandra would go on compacting it beside the next run."""
        drop_keyspaces(self.node, [name for name in self.keyspaces if name not in self.kept])
        self.keyspaces = list(self.kept)

    def at_most(self, what, is_, most, unit):
        """A line of one number that something is asked of, three digits of it."""
        self.line(what, f"{is_:#.3g} {unit}".replace(". ", " "), f"≤ {most} {unit}", is_ <= most)


class Run:
    """One fresh agent with a keyspace, a broker and a folder of its own; without a broker where it has another `source`."""

    def __init__(self, bench, name, source="", deliver="", store=None, more="", car="44"):
        bench.runs += 1
        self.bench, self.name, self.broker = bench, name, None
        self.folder = bench.folder / name
        self.folder.mkdir()
        # A `store` that is given has its tables already.
        self.store = store or f"cassandra://{bench.node}/bench_{os.getpid()}_{bench.runs}"
        if store is None:
            self.keyspace = self.store.rpartition("/")[2]
            bench.keyspaces.append(self.keyspace)
            self.pitwire("schema", "apply", "--store", self.store, "--replication", "1")
        if not source:
            self.broker, self.address = bench.start_broker(self.folder)
            source = f'[[source.mqtt]]\nname = "car"\nurl = "mqtt://{self.address}"\ntopics = ["pitwire/#"]\n'
        port = free_port()
        config = self.folder / "pitwire.toml"
        config.write_text(
            f'car = "{car}"\nstate_dir = "{self.folder}/state"\nruntime_dir = "{self.folder}/run"\n'
            f'[store]\nurl = "{self.store}"\n[spill]\ndir = "{self.folder}/spill"\n'
            f'[monitor]\nlisten = "127.0.0.1:{port}"\n[deliver]\n{deliver}\n{more}\n'
            f"{source}"
        )
        self.agent = Process.start("agent", [BIN / "pitwire", "run", "--config", config], self.folder / "agent.log")
        self.url = f"http://127.0.0.1:{port}/api/v1/status"
        until("the agent serves", self.try_status, processes=[self.agent])
        until("the store takes writes", lambda: self.status()["store"]["state"] == "up", processes=[self.agent])

    @staticmethod
    def pitwire(*arguments):
        done = subprocess.run([BIN / "pitwire", *arguments], capture_output=True, text=True)
        if done.returncode != 0:
            raise RuntimeError(f"pitwire {arguments[0]}: {done.stderr.strip()}")
        return done.stdout

    def try_status(self):
        try:
            return get_json(self.url)
        except OSError:
            return None

    def status(self):
        return get_json(self.url)

    def until_subscribed(self):
        up = lambda: all(source["state"] == "connected" for source in self.status()["sources"])
        until("the agent is subscribed", up, processes=[self.agent])
        time.sleep(0.3)

    def until_home(self, received=0, within_s=120):
        def home():
            total = self.status()["ledger"]
            return total["received"] >= received and total["in_flight"] + total["backlog"] == 0 and total
        return until("everything is stored", home, within_s, processes=[self.agent])

    def sim(self, *arguments):
        manifest = self.folder / f"manifest-{len(list(self.folder.glob('manifest-*')))}.jsonl"
        command = [BIN / "firmware-sim", "run", "--manifest", manifest, *map(str, arguments)]
        process = Process.start("sim", command, self.folder / "sim.log")
        process.manifest = manifest
        return process

    def audit(self, sim):
        done = subprocess.run(
            [BIN / "pitwire", "audit", "--json", "--manifest", sim.manifest, "--store", self.store],
            capture_output=True, text=True,
        )
        return json.loads(done.stdout)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.end()

    def end(self):
        self.agent.stop()
        if self.broker:
            self.broker.stop()

    def ages_ms(self, quantiles):
        """How old the first sample of a row was when the node took the row, at each quantile."""
        from cassandra_ages import ages_us

        ages = sorted(ages_us(self.store))
        return [ages[min(len(ages) - 1, int(len(ages) * q))] / 1000 for q in quantiles]


def exact(audit):
    return audit["missing"] == audit["extra"] == audit["altered"] == audit["unlisted"] == 0 and audit["sent"] > 0


def told(audit):
    return ", ".join(f"{word} {audit[word]}" for word in ("missing", "extra", "altered"))


def drive(bench, run, arguments, length_s, ports=()):
    """Drives a car to its end and until everything is stored, over the run's broker or over pseudo-terminals.

    Answers the audit, what it took until everything was stored (`sending_s`: until the car's end), the agent's status, and
    the most samples that waited in the spill."""
    to = [f"--pty={port}" for port in ports] + ["--block"] if ports else ["--mqtt", f"mqtt://{run.address}"]
    if not ports:
        run.until_subscribed()
    sim = run.sim(*arguments, "--for", f"{length_s}s", *to)
    if ports:
        # It sends once they are open, and the agent opens them when they are there.
        until("the first samples came", lambda: run.status()["ledger"]["received"], processes=[run.agent, sim])
    watch = Watch([run.agent, *([run.broker] if run.broker else []), bench.cassandra, sim])
    backlog = 0
    while sim.alive():
        watch.look()
        backlog = max(backlog, run.status()["ledger"]["backlog"])
        time.sleep(0.1)
    sending_s = time.monotonic() - watch.began
    if sim.child.returncode != 0:
        raise RuntimeError(f"the simulator ended with {sim.child.returncode}: {sim.log_end()}")
    run.until_home()
    took = {**watch.end(), "sending_s": sending_s}
    return run.audit(sim), took, run.status(), backlog


def ports(folder, count):
    """Pseudo-terminals for the simulator to make, and the agent's sources for them."""
    links = [folder / f"port-{number}" for number in range(count)]
    return links, "".join(f'[[source.serial]]\nname = "port{i}"\npath = "{link}"\n' for i, link in enumerate(links))


def data_bytes(run):
    from cassandra_ages import data_bytes as of

    return of(run.store)


def json_source(address, topic):
    return f'[[source.mqtt]]\nname = "json"\nurl = "mqtt://{address}"\ntopics = ["{topic}"]\nformat = "json"\n'


def load(*arguments):
    return [bench_binary("json_load"), *map(str, arguments)]


def bench_binary(name):
    """Cargo puts a benchmark under a name with a hash; ./run says which."""
    return os.environ["BENCH_" + name.upper()]


def broker_alone(bench, messages, channels):
    """What the broker delivers to one subscriber that only counts, messages/s."""
    folder = bench.folder / f"alone-{channels}"
    folder.mkdir()
    broker, address = bench.start_broker(folder)
    try:
        with subprocess.Popen(load("subscribe", address, "json/44", messages), stdout=subprocess.PIPE, text=True) as subscriber:
            assert subscriber.stdout.readline().strip() == "subscribed"
            subprocess.run(load("publish", address, "json/44", messages, channels, START_MS), check=True, capture_output=True)
            return messages / json.loads(subscriber.stdout.readline())["seconds"]
    finally:
        broker.stop()
