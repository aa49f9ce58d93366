"""A grid of cars, an agent each, into three nodes that keep three copies."""

import json
import os
import subprocess
import time

from common import PROJECT, Run, exact, say, told
from machine import Process, Watch

NODE = PROJECT / "tests" / "cassandra" / "node"
CARS = [str(number) for number in range(1, 25)]


class Cluster:
    """Three nodes of one ring on this machine. What an agent writes waits for two of them: LOCAL_QUORUM is what it asks for."""

    def __init__(self, folder):
        self.folders = [folder / f"node{number}" for number in (1, 2, 3)]
        environment = {**os.environ, "HEAP": "768M"}
        self.addresses, self.nodes = [], []
        for number, node in enumerate(self.folders, 1):
            say(f"fleet: starting node {number} of 3")
            # The first takes free ports, the others the same on addresses of their own.
            command = [NODE, "start", node, str(number), "3"]
            own = {**environment, "PORTS": "free"} if number == 1 else environment
            done = subprocess.run(command, env=own, stdout=subprocess.PIPE, text=True, check=True)
            self.addresses.append(done.stdout.strip())
            self.nodes.append(Process("nodes", int((node / "pid").read_text())))
            if number == 1:
                ports = (node / "ports").read_text().split()[1:]
                environment |= dict(zip(("NATIVE_PORT", "STORAGE_PORT", "JMX_PORT"), ports))

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for node in self.folders:
            subprocess.run([NODE, "stop", node], check=False)


def fleet(bench):
    length_s = bench.seconds * 5
    folder = bench.folder / "fleet"
    folder.mkdir()
    with Cluster(folder) as cluster:
        store = f"cassandra://{','.join(cluster.addresses)}/fleet"
        Run.pitwire("schema", "apply", "--store", store, "--replication", "3")
        broker, address = bench.start_broker(folder)
        runs = []
        for car in CARS:
            source = f'[[source.mqtt]]\nname = "car"\nurl = "mqtt://{address}"\ntopics = ["pitwire/{car}/#"]\n'
            runs.append(Run(bench, f"fleet-{car}", source=source, store=store, car=car))
        for run in runs:
            run.until_subscribed()
        say(f"fleet: {len(runs)} agents are ready; they drive for {length_s} s")
        names = [word for car in CARS for word in ("--car", car)]
        sim = runs[0].sim("--tier", "can", *names, "--for", f"{length_s}s", "--mqtt", f"mqtt://{address}")
        agents = [run.agent for run in runs]
        watch = Watch([*agents, broker, *cluster.nodes, sim])
        # Nothing is asked of the agents meanwhile: two cores have enough to do.
        while sim.alive():
            watch.look()
            time.sleep(1)
        took = watch.end()
        cores = [watch.cores_of(agent, took) for agent in agents]
        for run in runs:
            run.until_home()
        spilled = sum(run.status()["spill"]["written_bytes"] for run in runs)
        for run in runs:
            run.end()
        audit = runs[0].audit(sim)
        broker.stop()
    cars = {json.loads(line)["car"] for line in sim.manifest.open()}
    peaks = [agent.peak_mib() for agent in agents]
    bench.line(
        f"{len(cars)} cars `can`, an agent each, 3 nodes, 3 copies, LOCAL_QUORUM, {length_s} s",
        f"{audit['sent'] / took['seconds'] / 1e3:.1f} k samples/s", "audit exact of 24 cars", exact(audit) and cars == set(CARS),
        took, f"{audit['found']} samples; {told(audit)}; spilled {spilled} B",
    )
    bench.line(
        "… an agent of them", f"{sum(cores) / len(cores):.4f} cores, {sum(peaks) / len(peaks):.1f} MiB", "", None,
        more=f"the one with most {max(cores):.4f} cores, {max(peaks):.1f} MiB",
    )
