"""Figures that only the rows themselves have: when they were written, and their bytes."""

import sys
from pathlib import Path
from typing import NamedTuple

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "tools"))
from read_chunks import decode, open_store  # noqa: E402


def rows(url, columns):
    store = open_store(url)
    try:
        yield from store.session.execute(f"SELECT {columns} FROM chunks", timeout=120)
    finally:
        store.cluster.shutdown()


def drop_keyspaces(address, names):
    # Any keyspace will do to be connected by.
    store = open_store(f"cassandra://{address}/system")
    try:
        for name in names:
            store.session.execute(f"DROP KEYSPACE IF EXISTS {name}", timeout=60)
    finally:
        store.cluster.shutdown()


def ages_us(url):
    """UTC of the node's clock at which each row was taken, less that of its first sample."""
    return [written - t0 for t0, written in rows(url, "t0, WRITETIME(n)")]


def data_bytes(url):
    return sum(len(data) for (data,) in rows(url, "data"))


class Row(NamedTuple):
    """One chunk, decoded."""

    channel: str
    data_bytes: int
    d_us: object
    raw: object
    values: object


def chunks(url):
    for channel, d0, data, codec, n in rows(url, "channel, d0, data, codec, n"):
        chunk = decode(d0, data, codec, n)
        yield Row(channel, len(data), chunk.d_us, chunk.raw, chunk.values)
