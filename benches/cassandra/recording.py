"""A recorded CAN bus of a real car, as the frames that a device would send and as the JSON that a bridge would."""

import csv
import json
import os
import pathlib
import re
import socket
import struct
import time
import zlib
from typing import NamedTuple

from common import PROJECT

I16, I32 = 1, 2
KIND_CODES = {I16: "<h", I32: "<i"}
DEVICE = "can"


def folder():
    """Where the recordings are, which are no part of the project; None if they are nowhere."""
    found = pathlib.Path(os.environ.get("PITWIRE_DATA", PROJECT.parent / "shared" / "data")) / "can"
    return found if (found / "can_sample.log").exists() else None


class Signal(NamedTuple):
    """A channel: `start` and `length` in bits of a little-endian payload."""

    id: int
    name: str
    group: int
    start: int
    length: int
    signed: bool
    scale: float
    offset: float

    @property
    def kind(self):
        return I16 if self.length < 16 or self.signed and self.length == 16 else I32

    def raw(self, payload):
        value = int.from_bytes(payload, "little") >> self.start & ((1 << self.length) - 1)
        return value - (1 << self.length) if self.signed and value >> self.length - 1 else value


class Message(NamedTuple):
    """What one CAN frame says: the raw value of each signal of its id."""

    t_us: int
    signals: list
    raws: list


def signals(dbc):
    """The signals by CAN id. Those of one id are sampled together: a group."""
    by_id, number, count = {}, 0, 0
    for line in dbc.splitlines():
        if found := re.match(r"BO_ (\d+) ", line):
            number = int(found[1])
        elif found := re.match(r" +SG_ (\w+) *: *(\d+)\|(\d+)@1([+-]) \(([^,]+), *([^)]+)\)", line):
            name, start, length, sign, scale, offset = found.groups()
            count += 1
            of = by_id.setdefault(number, [])
            group = of[0].group if of else len(by_id)
            of.append(Signal(count, name.lower(), group, int(start), int(length), sign == "-", float(scale), float(offset)))
    return by_id


def read(where, length_s):
    """The first seconds of the recording; the whole of it is held to what another program made of it."""
    by_id = signals((where / "sample_can_spec.dbc").read_text())
    messages, sums = [], {}
    for line in (where / "can_sample.log").read_text().splitlines():
        seconds, micros, number, payload = re.match(r"\((\d+)\.(\d{6})\) \w+ (\w+)#(\w*)", line).groups()
        of = by_id.get(int(number, 16))
        if of is None:
            continue
        raws = [signal.raw(bytes.fromhex(payload).ljust(8, b"\0")) for signal in of]
        messages.append(Message(int(seconds) * 1_000_000 + int(micros), of, raws))
        for signal, raw in zip(of, raws):
            count, total = sums.get(signal.name, (0, 0.0))
            sums[signal.name] = (count + 1, total + raw * signal.scale + signal.offset)
    for row in csv.DictReader((where / "can_sample.expected.csv").open()):
        count, total = sums[row["signal"].lower()]
        told = float(row["sum"])
        assert count == int(row["count"]) and abs(total - told) <= abs(told) * 1e-9 + 1e-6, row
    first, seen, kept = messages[0].t_us, {}, []
    for message in messages:
        group = message.signals[0].group
        # The logger rounds its times: what comes twice within a µs is one.
        if message.t_us > seen.get(group, 0) and message.t_us < first + length_s * 1_000_000:
            seen[group] = message.t_us
            kept.append(message)
    return by_id, kept


class Frames:
    """The wire's frames of one start of a device; see docs/firmware.md."""

    def __init__(self, by_id):
        self.signals = sorted(signal for of in by_id.values() for signal in of)
        self.boot, self.sequence = int(time.time()) & 0xFFFF_FFFF, 0
        self.entries = b"".join(
            struct.pack("<HBBddI", s.id, s.kind, s.group, s.scale, s.offset, 0) + text(s.name) + text("") for s in self.signals
        )

    def frame(self, kind, t0_us, payload):
        head = struct.pack("<BBIIIq", 1, kind, zlib.crc32(self.entries), self.boot, self.sequence, t0_us)
        self.sequence += 1
        body = head + text(DEVICE) + payload
        return body + struct.pack("<I", zlib.crc32(body))

    def describe(self, t0_us):
        # Part 0 of 1, clock base utc.
        return self.frame(1, t0_us, struct.pack("<BBBHB", 0, 1, 0, len(self.signals), len(self.signals)) + self.entries)

    def scan(self, message, t0_us):
        data = b"".join(struct.pack(KIND_CODES[s.kind], raw) for s, raw in zip(message.signals, message.raws))
        return self.frame(3, t0_us, struct.pack("<BIHH", message.signals[0].group, 0, 1, len(data)) + data)


def as_json(message, t_us):
    """Not by json.dumps for the time: its µs have to be there."""
    values = {s.name: raw * s.scale + s.offset for s, raw in zip(message.signals, message.raws)}
    return f'{{"ts": {t_us // 1000}.{t_us % 1000:03}, "values": {json.dumps(values)}}}'.encode()


def text(word):
    return bytes([len(word)]) + word.encode()


class Publisher:
    """MQTT 3.1.1 at QoS 1, as much of it as is needed here."""

    def __init__(self, address):
        host, _, port = address.rpartition(":")
        self.socket = socket.create_connection((host, int(port)), 10)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        # Clean start, kept alive for an hour.
        self.send(0x10, b"\0\4MQTT\4\2\x0e\x10" + b"\0\7can-log")
        assert self.socket.recv(4, socket.MSG_WAITALL)[3] == 0, "the broker takes the connection"
        self.sent, self.acknowledged = 0, 0

    def send(self, kind, body):
        length, head = len(body), bytes([kind])
        while length > 127:
            head, length = head + bytes([length & 0x7F | 0x80]), length >> 7
        self.socket.sendall(head + bytes([length]) + body)

    def publish(self, topic, payload, retained=False):
        self.sent += 1
        number = struct.pack(">H", self.sent % 65_535 + 1)
        self.send(0x33 if retained else 0x32, struct.pack(">H", len(topic)) + topic.encode() + number + payload)
        while self.sent - self.acknowledged > 1_000:
            self.take_acknowledgement()

    def take_acknowledgement(self):
        assert self.socket.recv(4, socket.MSG_WAITALL)[0] == 0x40, "an acknowledgement"
        self.acknowledged += 1

    def end(self):
        while self.acknowledged < self.sent:
            self.take_acknowledgement()
        self.send(0xE0, b"")
        self.socket.close()


def replay(address, by_id, messages, wire_topic, json_topic):
    """Sends the recording at its own pace, its times moved to now. Answers how far they were moved, µs."""
    publisher, frames = Publisher(address), Frames(by_id)
    first = messages[0].t_us
    began, moved_us = time.monotonic(), time.time_ns() // 1000 - first
    publisher.publish(f"{wire_topic}/{DEVICE}/describe/0", frames.describe(first + moved_us), retained=True)
    for message in messages:
        wait_s = began + (message.t_us - first) / 1e6 - time.monotonic()
        if wait_s > 0.001:
            time.sleep(wait_s)
        t_us = message.t_us + moved_us
        publisher.publish(f"{wire_topic}/{DEVICE}", frames.scan(message, t_us))
        publisher.publish(json_topic, as_json(message, t_us))
    publisher.end()
    return moved_us
