#!/usr/bin/env python3
"""Reads Pitwire's chunks without Pitwire: the samples of a car from Apache Cassandra or from the embedded store, as CSV
on stdout or as NumPy arrays in your own program.

    pip install numpy pcodec cassandra-driver
    read_chunks.py cassandra://127.0.0.1:9042/pitwire --car 44 --channel 'engine.*' --from 2026-11-21T14:00:00Z
    read_chunks.py sqlite:///var/lib/pitwire/pitwire.db --car 44 > car44.csv

    from read_chunks import open_store, read
    for sample in read(open_store("sqlite:///tmp/p.db"), "44", channels=["engine.rpm"]):
        print(sample.channel, sample.t_us, sample.values)

It was written from docs/storage.md alone, which describes the tables and the format of `data`, and is meant to be read:
copy what you need. It holds one bucket (a minute of a device, an hour of a channel) in memory at a time, so it does less than
`pitwire export`: samples are in order, and without copies, within a bucket only; --from and --to find what was placed
there when it was written; of a derived channel that was computed twice it gives both values, and it sets no conflict flag.
Rows that it cannot read are counted, and told at the end.
"""

import argparse
import csv
import datetime
import fnmatch
import sqlite3
import struct
import sys
from typing import NamedTuple
from urllib.parse import urlparse

import numpy as np
from pcodec import wrapped

# Value kinds in the order of their codes: pco's word, NumPy's word.
KINDS = [("i16", "<i2"), ("i32", "<i4"), ("f32", "<f4"), ("f64", "<f8")]
PROVISIONAL_TIME = 1 << 4
# A mapping from before this device time holds for the whole boot.
FROM_START = -(2**63) + 2**40
DAY_US = 86_400_000_000
# By layout.
BUCKET_US_MAX = {"chunks": 60_000_000, "rows": 3_600_000_000}


# --- the format of `data`


class Damaged(ValueError):
    """Data that is not in the format, or of a version that this reader does not know."""


class Input:
    """Bytes that are read from the front."""

    def __init__(self, data):
        self.data, self.at = data, 0

    def take(self, count):
        if self.at + count > len(self.data):
            raise Damaged(f"it ends after {len(self.data)} bytes")
        self.at += count
        return self.data[self.at - count : self.at]

    def byte(self):
        return self.take(1)[0]

    def varint(self):
        value = shift = 0
        while True:
            byte = self.byte()
            value |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                return value

    def signed(self):
        value = self.varint()
        return value >> 1 ^ -(value & 1)

    def bits(self, count):
        """So many bits as an array of 0 and 1, the lowest of each byte first."""
        return np.unpackbits(np.frombuffer(self.take((count + 7) // 8), np.uint8), bitorder="little")[:count]


class Chunk(NamedTuple):
    """The samples of one row."""

    d_us: np.ndarray  # device time
    raw: np.ndarray  # in the kind that the device sent
    scale: float
    offset: float
    flags: np.ndarray

    @property
    def values(self):
        """Physical values, f64."""
        return self.raw.astype(np.float64) * self.scale + self.offset


def decode(d0, data, codec, n):
    """The samples of a row from its columns `d0`, `data`, `codec` and `n`."""
    if codec != 1:
        raise Damaged(f"codec {codec} is unknown")
    data = Input(bytes(data))
    version, head, modes = data.take(3)
    if version != 1 or head >> 5:
        raise Damaged(f"version {version} is unknown")
    scale, offset = take_scaling(data, head >> 2 & 3)
    d_us = take_times(data, modes >> 4, d0, n)
    raw = take_values(data, modes & 0xF, head & 3, n)
    flags = np.zeros(n, np.uint16)
    if head & 0x10:
        runs = [(data.varint(), data.varint()) for _ in range(data.varint())]
        flags = np.repeat(np.array([f for _, f in runs], np.uint16), [count for count, _ in runs])
    if data.at != len(data.data) or len(flags) != n:
        raise Damaged("its parts do not add up")
    return Chunk(d_us, raw, scale, offset, flags)


def take_scaling(data, code):
    if code == 0:
        return 1.0, 0.0
    if code == 1:
        return tuple(data.signed() / 10.0 ** data.byte() for _ in range(2))
    if code == 2:
        return struct.unpack("<dd", data.take(16))
    raise Damaged(f"scaling {code} is unknown")


def take_times(data, mode, d0, n):
    if mode == 2:
        return d0 + take_numbers(data, n)
    if mode == 0:
        runs = [(0, data.varint(), n)]
    elif mode == 1:
        runs = [(data.signed(), data.varint(), data.varint()) for _ in range(data.varint())]
    else:
        raise Damaged(f"time mode {mode} is unknown")
    t0, times = d0, [np.zeros(0, np.int64)]
    for after, period_ns, count in runs:
        t0 += after
        times.append(t0 + np.arange(count, dtype=np.int64) * period_ns // 1000)
    times = np.concatenate(times)
    if len(times) != n:
        raise Damaged(f"{len(times)} times for {n} samples")
    return times


def take_values(data, mode, kind, n):
    word, dtype = KINDS[kind]
    if mode == 0:
        return np.frombuffer(data.take(n * int(word[1:]) // 8), dtype)
    if mode == 1 and kind < 2:
        return take_numbers(data, n).astype(dtype)
    if mode == 2 and kind >= 2:
        return take_xor(data, n, int(word[1:])).view(dtype)
    if mode == 3:
        return take_pco(data, n, word, dtype)
    raise Damaged(f"value mode {mode} is unknown for {word}")


def take_numbers(data, n):
    head = data.byte()
    order, width = head & 3, head >> 2
    heads = [data.signed() for _ in range(min(order, n))]
    if n <= order:
        numbers = np.zeros(0, np.int64)
    else:
        least, count = data.signed(), n - order
        bits = data.bits(count * width).reshape(count, width).astype(np.int64)
        numbers = least + bits @ (np.int64(1) << np.arange(width, dtype=np.int64))
    for first in reversed(heads):
        numbers = np.cumsum(np.concatenate([[first], numbers]), dtype=np.int64)
    return numbers


def take_xor(data, n, width):
    # All that is left as one number: bits are taken from its lowest end. A chunk has a few hundred values.
    left, taken = int.from_bytes(data.data[data.at :], "little"), 0

    def bits(count):
        nonlocal taken
        taken += count
        return left >> (taken - count) & (1 << count) - 1

    values, length_bits, shift, length = [], {32: 5, 64: 6}[width], 0, 0
    for index in range(n):
        if index == 0:
            values.append(bits(width))
            continue
        x = 0
        if bits(1):
            if bits(1):
                zeros, length = bits(5), bits(length_bits) + 1
                shift = width - zeros - length
            x = bits(length) << shift
        values.append(values[-1] ^ x)
    data.take((taken + 7) // 8)
    return np.array(values, {32: np.uint32, 64: np.uint64}[width])


def take_pco(data, n, word, dtype):
    source = data.data[data.at :]
    file, at = wrapped.FileDecompressor.new(source)
    chunk, used = file.chunk_decompressor(source[at:], word)
    at += used
    values = np.zeros(n, dtype)
    _, used = chunk.read_page_into(source[at:], n, values)
    data.take(at + used)
    return values


# --- the tables


class Sqlite:
    """The embedded store."""

    def __init__(self, path):
        self.connection = sqlite3.connect(f"file:{path}?mode=ro", uri=True)

    def rows(self, select, *keys):
        return self.connection.execute(select, keys)

    def days(self, car):
        return [day for (day,) in self.rows("SELECT DISTINCT day FROM extents WHERE car = ?", car)]


class Cassandra:
    """Apache Cassandra, or what speaks its protocol."""

    def __init__(self, hosts, port, keyspace, user=None, password=None):
        from cassandra.auth import PlainTextAuthProvider
        from cassandra.cluster import EXEC_PROFILE_DEFAULT, Cluster, ExecutionProfile
        from cassandra.policies import RoundRobinPolicy
        from cassandra.query import tuple_factory

        profile = ExecutionProfile(load_balancing_policy=RoundRobinPolicy(), row_factory=tuple_factory)
        login = PlainTextAuthProvider(user, password) if user else None
        profiles = {EXEC_PROFILE_DEFAULT: profile}
        self.cluster = Cluster(hosts, port, execution_profiles=profiles, auth_provider=login, protocol_version=4)
        self.session = self.cluster.connect(keyspace)
        self.session.default_fetch_size = 200
        self.prepared = {}

    def rows(self, select, *keys):
        if select not in self.prepared:
            self.prepared[select] = self.session.prepare(select)
        return self.session.execute(self.prepared[select], keys)

    def days(self, car):
        return [day for at, day in self.rows("SELECT DISTINCT car, day FROM extents") if at == car]


def open_store(url):
    """sqlite:///path or cassandra://[user:password@]host:port[,host:port]/keyspace"""
    parts = urlparse(url)
    if parts.scheme == "sqlite":
        return Sqlite(parts.path)
    if parts.scheme != "cassandra":
        raise ValueError(f"{url}: neither sqlite:///path nor cassandra://host:port/keyspace")
    login, _, hosts = parts.netloc.rpartition("@")
    user, _, password = login.partition(":")
    hosts = [host.rpartition(":") if ":" in host else (host, "", "9042") for host in hosts.split(",")]
    return Cassandra([host for host, _, _ in hosts], int(hosts[0][2]), parts.path[1:] or "pitwire", user, password)


class Clocks:
    """UTC of a device's own time, by the table `clocks`."""

    def __init__(self, store, car):
        boots = {}
        select = "SELECT device, boot, from_us, offset_us, provisional FROM clocks WHERE car = ?"
        for device, boot, from_us, offset_us, provisional in store.rows(select, car):
            boots.setdefault((device, boot), []).append((from_us, offset_us, bool(provisional)))
        self.boots = {key: self.best(rows) for key, rows in boots.items()}

    @staticmethod
    def best(rows):
        known = [row for row in rows if not row[2]]
        pieces = sorted(known or rows)
        whole = [piece for piece in pieces if piece[0] < FROM_START]
        pieces = whole[-1:] + [piece for piece in pieces if piece[0] >= FROM_START]
        return np.array([p[0] for p in pieces]), np.array([p[1] for p in pieces]), bool(known)

    def place(self, device, boot, row_offset_us, chunk):
        """UTC and flags of a chunk's samples. Without a mapping the row's own placement counts."""
        if (device, boot) not in self.boots:
            return chunk.d_us + row_offset_us, chunk.flags
        starts, offsets, known = self.boots[(device, boot)]
        piece = np.maximum(np.searchsorted(starts, chunk.d_us, "right") - 1, 0)
        flags = chunk.flags & np.uint16(0xFFFF ^ PROVISIONAL_TIME) if known else chunk.flags | np.uint16(PROVISIONAL_TIME)
        return chunk.d_us + offsets[piece], flags


# --- what belongs together


class Samples(NamedTuple):
    """The samples of one channel in one bucket, in order of time, each once."""

    device: str
    channel: str
    boot: int
    t_us: np.ndarray  # UTC
    d_us: np.ndarray  # device time
    values: np.ndarray  # physical, f64
    flags: np.ndarray


def chunks_of(store, car, device, bucket, takes, damaged):
    """Channel, boot, UTC − device time and samples of each chunk of a partition."""
    select = "SELECT channel, boot, d0, t0, codec, n, data FROM chunks WHERE car = ? AND device = ? AND bucket = ?"
    for channel, boot, d0, t0, codec, n, data in store.rows(select, car, device, bucket):
        if not takes(channel):
            continue
        try:
            yield channel, boot, t0 - d0, decode(d0, data, codec, n)
        except Exception as error:  # pco has errors of its own
            if damaged is None:
                raise Damaged(f"device {device}, boot {boot}, channel {channel}, t0 {t0}: {error}") from error
            damaged.append(f"device {device}, boot {boot}, channel {channel}, t0 {t0}: {error}")


def samples_of(store, car, device, bucket, channel):
    """The same of a partition of `samples`, where each sample is a row: as many chunks as there were placements."""
    select = "SELECT device, boot, t, d, v, quality FROM samples WHERE car = ? AND channel = ? AND bucket = ?"
    placed = {}
    for of, boot, t, d, v, quality in store.rows(select, car, channel, bucket):
        if of == device:
            # SQLite has no NaN: there it is a blob.
            v = struct.unpack("<d", v)[0] if isinstance(v, bytes) else v
            placed.setdefault((boot, t - d), []).append((d, v, quality))
    for (boot, row_offset_us), samples in placed.items():
        d_us, values, flags = zip(*samples)
        chunk = Chunk(np.array(d_us, np.int64), np.array(values, np.float64), 1.0, 0.0, np.array(flags, np.uint16))
        yield channel, boot, row_offset_us, chunk


def read(store, car, channels=("*",), from_us=None, to_us=None, damaged=None):
    """Yields `Samples`, bucket by bucket. A row that cannot be read raises `Damaged`, or is added to the list `damaged`."""
    clocks = Clocks(store, car)
    partitions = set()
    for day in store.days(car):
        slack_us = max(BUCKET_US_MAX.values())
        if from_us is not None and (day + 1) * DAY_US + slack_us <= from_us or to_us is not None and day * DAY_US >= to_us:
            continue
        select = "SELECT bucket, device, layout, channel FROM extents WHERE car = ? AND day = ?"
        for bucket, device, layout, channel in store.rows(select, car, day):
            length_us = BUCKET_US_MAX.get(layout, 0)
            if (from_us is None or bucket + length_us > from_us) and (to_us is None or bucket < to_us):
                partitions.add((bucket, device, layout, channel))
    takes = lambda channel: any(fnmatch.fnmatchcase(channel, pattern) for pattern in channels)
    for bucket, device, layout, of in sorted(partitions):
        found = {}
        if layout == "chunks":
            rows = chunks_of(store, car, device, bucket, takes, damaged)
        else:
            rows = samples_of(store, car, device, bucket, of) if layout == "rows" and takes(of) else ()
        for channel, boot, row_offset_us, chunk in rows:
            t_us, flags = clocks.place(device, boot, row_offset_us, chunk)
            found.setdefault((channel, boot), []).append((t_us, chunk.d_us, chunk.values, flags))
        for (channel, boot), parts in sorted(found.items()):
            t_us, d_us, values, flags = (np.concatenate(part) for part in zip(*parts))
            # A sample may have been written twice, where a sender was not sure: the same time, the same value.
            identity = np.stack([t_us, d_us, values.view(np.int64)])
            _, once, copies = np.unique(identity, axis=1, return_index=True, return_inverse=True)
            t_us, d_us, values, flags_of_all = t_us[once], d_us[once], values[once], flags
            flags = np.zeros(len(once), np.uint16)
            np.bitwise_or.at(flags, copies.ravel(), flags_of_all)
            inside = np.full(len(t_us), True)
            if from_us is not None:
                inside &= t_us >= from_us
            if to_us is not None:
                inside &= t_us < to_us
            if inside.any():
                yield Samples(device, channel, boot, t_us[inside], d_us[inside], values[inside], flags[inside])


def time_us(text):
    """UTC µs of 2026-11-21T14:00:00Z, or of a number of them."""
    if text.lstrip("-").isdigit():
        return int(text)
    at = datetime.datetime.fromisoformat(text.replace("Z", "+00:00"))
    at = at if at.tzinfo else at.replace(tzinfo=datetime.timezone.utc)
    return (at - datetime.datetime(1970, 1, 1, tzinfo=datetime.timezone.utc)) // datetime.timedelta(microseconds=1)


def main():
    parser = argparse.ArgumentParser(description="Samples of a car from Pitwire's chunks, as CSV.")
    parser.add_argument("store", help="cassandra://host:port/keyspace or sqlite:///path")
    parser.add_argument("--car", required=True)
    parser.add_argument("--channel", action="append", help="a name, with * and ?; may be repeated; all if absent")
    parser.add_argument("--from", dest="from_us", type=time_us, help="2026-11-21T14:00:00Z, or µs since 1970")
    parser.add_argument("--to", dest="to_us", type=time_us, help="before this time")
    given = parser.parse_args()
    out, damaged = csv.writer(sys.stdout, lineterminator="\n"), []
    out.writerow(["t_us", "device", "channel", "boot", "value", "quality"])
    for of in read(open_store(given.store), given.car, given.channel or ["*"], given.from_us, given.to_us, damaged):
        for t_us, value, flags in zip(of.t_us.tolist(), of.values.tolist(), of.flags.tolist()):
            out.writerow([t_us, of.device, of.channel, of.boot, repr(value), flags])
    for row in damaged[:20]:
        print(f"read_chunks: {row}", file=sys.stderr)
    if damaged:
        sys.exit(f"read_chunks: {len(damaged)} rows could not be read and are left out")


if __name__ == "__main__":
    try:
        main()
    except BrokenPipeError:
        sys.stderr.close()
    except (Damaged, ValueError, sqlite3.Error) as error:
        sys.exit(f"read_chunks: {error}")
