"""Processes under measurement: what they use of the CPU and of memory, and an end for each of them."""

import json
import os
import pathlib
import signal
import socket
import subprocess
import time
import urllib.request

TICKS = os.sysconf("SC_CLK_TCK")


def free_port():
    with socket.socket() as port:
        port.bind(("127.0.0.1", 0))
        return port.getsockname()[1]


class Process:
    """One process, and how much it has used. `name` is the table's word for it."""

    started = []

    def __init__(self, name, pid, child=None):
        self.name, self.pid, self.child = name, pid, child
        self.began = None

    @classmethod
    def start(cls, name, command, log, **options):
        with open(log, "ab") as output:
            child = subprocess.Popen(command, stdout=output, stderr=output, stdin=subprocess.DEVNULL, **options)
        process = cls(name, child.pid, child)
        process.log = pathlib.Path(log)
        cls.started.append(process)
        return process

    @classmethod
    def stop_all(cls):
        """Ends whatever a part that failed has left."""
        while cls.started:
            cls.started.pop().stop()

    def cpu_s(self):
        """CPU so far, s; what it was last if it has ended and was waited for."""
        try:
            fields = pathlib.Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
            self.last = (int(fields[11]) + int(fields[12])) / TICKS
        except (FileNotFoundError, ProcessLookupError):
            pass
        return getattr(self, "last", 0.0)

    def peak_mib(self):
        """Most memory that was resident so far, MiB."""
        try:
            status = pathlib.Path(f"/proc/{self.pid}/status").read_text()
            self.peak = next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM")) / 1024
        except (FileNotFoundError, ProcessLookupError, StopIteration):
            pass
        return getattr(self, "peak", 0.0)

    def log_end(self):
        return self.log.read_text(errors="replace").strip()[-300:]

    def alive(self):
        return self.child.poll() is None

    def wait(self, within_s):
        return self.child.wait(within_s)

    def stop(self, how=signal.SIGTERM, within_s=30):
        if self.child and self.alive():
            self.child.send_signal(how)
            try:
                self.child.wait(within_s)
            except subprocess.TimeoutExpired:
                self.child.kill()
                self.child.wait()


class Watch:
    """What several processes use between its making and `end`; those of one name are one entry, their sum."""

    def __init__(self, processes):
        self.processes = processes
        self.began = time.monotonic()
        self.before = {p: p.cpu_s() for p in processes}

    def look(self):
        """To be called while a process may end by itself: afterwards nobody can say what it used."""
        for process in self.processes:
            process.cpu_s(), process.peak_mib()

    def end(self):
        seconds = time.monotonic() - self.began
        self.look()
        used, peak = {}, {}
        for p in self.processes:
            used[p.name] = used.get(p.name, 0.0) + p.cpu_s() - self.before[p]
            peak[p.name] = peak.get(p.name, 0.0) + p.peak_mib()
        return {
            "seconds": seconds,
            "cpu_s": used,
            "cores": {name: cpu / seconds for name, cpu in used.items()},
            "peak_mib": peak,
        }

    def cores_of(self, process, took):
        """Of one of several that have one name."""
        return (process.cpu_s() - self.before[process]) / took["seconds"]


def until(what, holds, within_s=60.0, every_s=0.05, processes=()):
    """Waits until `holds()` answers something true, and answers it."""
    end = time.monotonic() + within_s
    while True:
        found = holds()
        if found:
            return found
        for process in processes:
            if process.child and not process.alive():
                raise RuntimeError(f"{process.name} ended while waiting for: {what}; {process.log_end()}")
        if time.monotonic() > end:
            raise TimeoutError(f"not within {within_s:.0f} s: {what}")
        time.sleep(every_s)


def get_json(url):
    with urllib.request.urlopen(url, timeout=5) as answer:
        return json.load(answer)
