// The mock's status: counters that add up, in each of the modes.

const round = Math.round;

/** The status object of the contract, for the mock's mode and time. */
export function makeStatus(state, car, now_us) {
  const up_s = (now_us - state.started_us) / 1e6;
  const since_s = Math.max(0, (now_us - state.changed_us) / 1e6);
  const rate = round(car.reduce((sum, c) => sum + c.rate_hz, 0));
  const { mode } = state;
  const silent_s = mode === "stale" ? since_s : 0;
  const received = round((up_s - silent_s) * rate);
  const in_flight = mode === "stale" ? 0 : round(rate * 0.24);
  const away = mode === "spilling" || mode === "full";
  const backlog = away ? round(Math.max(0, since_s - 1) * rate) + 41_204 : 0;
  const stored = received + 4120 - in_flight - backlog - 12 - 3 - 240;
  const split = (n) => [round(n * 0.62), n - round(n * 0.62)];
  const [r1, r2] = split(received);
  const [b1, b2] = split(backlog);
  const [i1, i2] = split(in_flight);
  const account = (received, recovered, backlog, in_flight, quarantined, validate, duplicate) => ({
    received,
    recovered,
    stored: received + recovered - backlog - in_flight - quarantined - validate - duplicate,
    backlog,
    in_flight,
    quarantined,
    dropped: { overflow: 0, validate },
    duplicate,
    balanced: true,
  });
  const ledger = { ...account(received, 4120, backlog, in_flight, 12, 3, 240), stored };
  ledger.sources = { ecu: account(r1, 4120, b1, i1, 12, 3, 0), car: account(r2, 0, b2, i2, 0, 0, 240) };
  if (mode === "unbalanced") {
    ledger.stored -= 17;
    ledger.balanced = false;
  }
  const device = (name, boot, lost) => ({
    car: "44", device: name, boot, frames: round(up_s * 42), frames_lost: lost, samples: round(up_s * rate * 0.3), samples_lost: lost * 12, duplicate_frames: name === "gps" ? 20 : 0,
  });
  const down = mode === "down";
  return {
    version: "0.1.0", agent: "a1b2c3d4e5f60718", car: "44", uptime_s: up_s, now_us, state: "running", ledger,
    sources: [
      {
        name: "ecu", kind: "serial", target: "/dev/serial/by-id/usb-ecu", state: down ? "down" : "connected",
        detail: down ? "open /dev/serial/by-id/usb-ecu: no such device. Is the ECU plugged in and powered? Trying again every 2 s" : "",
        state_for_s: down ? since_s : up_s - 1.2, connects: 2, bytes: round(up_s * rate * 5), messages: 0, frames: round(up_s * 84),
        malformed: 2, garbage_bytes: 1312, held_frames: 0, quiet_for_s: mode === "stale" ? silent_s : 0.02, devices: [device("ecu", 7, 3), device("chassis", 3, 0)],
      },
      {
        name: "car", kind: "mqtt", target: "mqtt://127.0.0.1:1883 pitwire/44/#", state: "connected", detail: "",
        state_for_s: up_s - 1.4, connects: 1, bytes: round(up_s * rate * 3), messages: round(up_s * 40), frames: round(up_s * 40),
        malformed: 0, garbage_bytes: 0, held_frames: 0, quiet_for_s: 0.05, devices: [device("tyres", 12, 0), device("gps", 1, 0)],
      },
    ],
    queues: [
      { name: "decode", items: 3 + round(2 * Math.sin(up_s)), items_max: 1024, bytes: 3100, bytes_max: 8_388_608, items_peak: 118, blocked_ms: 0 },
      { name: "preprocess", items: 1, items_max: 512, bytes: 900, bytes_max: 8_388_608, items_peak: 44, blocked_ms: 0 },
      { name: "deliver", items: away ? 214 : 4, items_max: 256, bytes: away ? 3_400_000 : 64_000, bytes_max: 16_777_216, items_peak: away ? 251 : 61, blocked_ms: away ? 412 : 0 },
    ],
    spill: {
      state: mode === "full" ? "full" : away ? "spilling" : "idle",
      detail: mode === "full" ? "the disk budget is used up: new samples are refused at the sources. Free space, or raise spill.disk_max" : "",
      backlog_samples: backlog, backlog_records: round(backlog / 310), disk_bytes: mode === "full" ? 2_140_000_000 : backlog * 2600, disk_max_bytes: 2_147_483_648,
      written_bytes: backlog * 2600 + 9_400_000, syncs: 41 + (away ? round(since_s * 5) : 0), oldest_age_s: away ? since_s + 31 : null, quarantine_records: 1,
    },
    store: {
      kind: "cassandra", url: "cassandra://127.0.0.1:9042/pitwire", state: away ? "stalled" : "up",
      detail: away ? "no answer to a write for 12 s; samples go to the spill. Is Cassandra overloaded or stopped?" : "",
      rows_written: round(stored / 14), samples_written: stored, in_flight: away ? 8 : 1,
      latency_ms: { p50: away ? 1840 : 1.42 + 0.2 * Math.sin(up_s), p99: away ? 12_000 : 7.9 },
    },
    deliver: { mode: away ? "spilling" : "direct", durable_within_ms: 1000, flush_after_ms: 200 },
    process: { resident_bytes: 31_400_000, cpu_s: up_s * 0.031 },
    channels: car.length,
  };
}
