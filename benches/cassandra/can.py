"""The recorded CAN bus of a real car: what its chunks take, beside Gorilla's packing of the same chunks."""

import gzip

import gorilla
import recording
from cassandra_ages import chunks
from common import FLUSH_1S, Run, json_source, say

WIRE_TOPIC, JSON_TOPIC = "pitwire/44", "can/json"
# The default of `flush_after` is 200 ms.
FLUSHES = (("200 ms", ""), ("1 s", FLUSH_1S))


def can(bench):
    where = recording.folder()
    if where is None:
        say("SKIPPED can: no recording; set PITWIRE_DATA to the folder that has can/can_sample.log")
        bench.line("a real CAN bus", "**skipped**: no recording (PITWIRE_DATA)", "≤ Gorilla's packing", None)
        return
    by_id, messages = recording.read(where, max(bench.seconds, 20) * 1.5)
    folder = bench.folder / "can"
    folder.mkdir()
    broker, address = bench.start_broker(folder)
    wire = f'[[source.mqtt]]\nname = "can"\nurl = "mqtt://{address}"\ntopics = ["{WIRE_TOPIC}/#"]\n'
    runs = [
        (way, flush, Run(bench, f"can-{way}-{flush[0]}", source=source, deliver=deliver))
        for way, source in (("wire", wire), ("JSON", json_source(address, JSON_TOPIC)))
        for flush, deliver in FLUSHES
    ]
    for *_, run in runs:
        run.until_subscribed()
    moved_us = recording.replay(address, by_id, messages, WIRE_TOPIC, JSON_TOPIC)
    samples = sorted(
        (signal.name, message.t_us + moved_us, raw * signal.scale + signal.offset)
        for message in messages
        for signal, raw in zip(message.signals, message.raws)
    )
    for way, flush, run in runs:
        run.until_home(len(samples))
        run.end()
        compare(bench, way, flush, list(chunks(run.store)), samples)
    broker.stop()
    text = "".join(f"{t_us},{name},{value!r}\n" for name, t_us, value in sorted(samples, key=lambda sample: sample[1]))
    zipped = len(gzip.compress(text.encode(), 9))
    bench.line(
        "… elsewhere, for a sample",
        f"time and value as they are 16 B; CSV {len(text) / len(samples):.1f} B, all of it in one gzip -9 {zipped / len(samples):.2f} B",
        "", None,
    )


def compare(bench, way, flush, rows, samples):
    """Ours beside Gorilla's, chunk by chunk, of the values that a reader gets. `data` of what came over the wire has scale
    and offset and what the device sent; how Gorilla would do on that, without them, is told beside it."""
    found = sorted((row.channel, t, value) for row in rows for t, value in zip(row.d_us, row.values))
    good = found == samples
    ours = sum(row.data_bytes for row in rows) / len(samples)
    gorillas = packed_bytes(rows, lambda row: row.values) / len(samples)
    more = f"Gorilla's {gorillas:.2f} B"
    if way == "wire":
        more += f", of raw numbers without their scale {packed_bytes(rows, lambda row: row.raw) / len(samples):.2f} B"
    more += f"; {len(found)} of {len(samples)} samples in {len(rows)} chunks" + ("" if good else ", not as they were sent")
    bench.line(f"a real CAN bus over MQTT, {way}, {flush}: `data`", f"{ours:.2f} B a sample, {ours / gorillas:.2f} × Gorilla's",
               "≤ Gorilla's for the same chunks, exact", good and ours <= gorillas, more=more)


def packed_bytes(rows, values_of):
    """Gorilla's bytes of all chunks, each filled up to whole bytes; each is unpacked again, or it would not count."""
    total = 0
    for row in rows:
        times, values = [int(t) for t in row.d_us], [float(value) for value in values_of(row)]
        bits = gorilla.pack(times, values)
        assert gorilla.unpack(bits, times[0], len(times)) == (times, values)
        total += (bits.count + 7) // 8
    return total
