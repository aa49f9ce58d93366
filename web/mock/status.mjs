// The mock's status: counters that add up, in each of the modes.

const round = Math.round;

/** The status object of the contract, for the mock's mode and time. */
export function makeStatus(state, car, now_us) {
  const up_s = (now_us - state.started_us) / 1e6;
  const since_s = Math.max(0, (now_us - state.changed_us) / 1e6);
  const measured = car.filter((c) => !c.derived);
  const rate = round(measured.reduce((sum, c) => sum + c.rate_hz, 0));
  const derived_rate = round(car.reduce((sum, c) => sum + c.rate_hz, 0)) - rate;
  const { mode } = state;
  const silent_s = mode === "stale" ? since_s : 0;
  const received = round((up_s - silent_s) * rate);
  const in_flight = mode === "stale" ? 0 : round(rate * 0.24);
  const away = mode === "spilling" || mode === "full";
  const draining = mode === "draining";
  const drained = Math.min(400_000, round(since_s * 3100));
  const backlog = away ? round(Math.max(0, since_s - 1) * rate) + 41_204 : draining ? 400_000 - drained : 0;
  const thinned = round(up_s * 0.4);
  const split = (n) => [round(n * 0.62), n - round(n * 0.62)];
  const [r1, r2] = split(received);
  const [b1, b2] = split(backlog);
  const [i1, i2] = split(in_flight);
  const account = (received, recovered, backlog, in_flight, quarantined, { decimate = 0, validate = 0 }, duplicate) => ({
    received,
    recovered,
    stored: received + recovered - backlog - in_flight - quarantined - decimate - validate - duplicate,
    backlog,
    in_flight,
    quarantined,
    dropped: { damaged: 0, decimate, memory: 0, overflow: 0, validate },
    duplicate,
    balanced: true,
  });
  const drops = { decimate: thinned, validate: 3 };
  const recovered = draining ? 404_120 : 4120;
  const ledger = account(received, recovered, backlog, in_flight, 12, drops, 240);
  const { stored } = ledger;
  ledger.sources = { ecu: account(r1, recovered, b1, i1, 12, drops, 0), car: account(r2, 0, b2, i2, 0, {}, 240) };
  const computed = round((up_s - silent_s) * derived_rate);
  ledger.derived = account(computed, 0, 0, mode === "stale" ? 0 : round(derived_rate * 0.24), 0, {}, 0);
  if (mode === "unbalanced") {
    ledger.stored -= 17;
    ledger.balanced = false;
  }
  const device = (name, boot, lost) => ({
    car: "44", device: name, boot, frames: round(up_s * 42), frames_lost: lost, samples: round(up_s * rate * 0.3), samples_lost: lost * 12, duplicate_frames: name === "gps" ? 20 : 0,
  });
  const down = mode === "down";
  const status = {
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
    queues: queues(state, up_s, since_s),
    spill: {
      state: mode === "full" ? "full" : away ? "spilling" : draining ? "draining" : "idle",
      detail: mode === "full" ? "the disk budget is used up: new samples are refused at the sources. Free space, or raise spill.disk_max" : "",
      backlog_samples: backlog, backlog_records: round(backlog / 310), disk_bytes: mode === "full" ? 2_140_000_000 : backlog * 2600, reserve_bytes: 0, disk_max_bytes: 2_147_483_648, segment_bytes: 8_388_608,
      written_bytes: backlog * 2600 + 9_400_000, syncs: 41 + (away ? round(since_s * 5) : 0), oldest_age_s: away ? since_s + 31 : draining ? 240 : null, quarantine_records: 1, encrypted: true, locked_segments: 0,
      drain: draining ? { done: drained, total: 400_000, rate_per_s: 3100, left_s: (400_000 - drained) / 3100 } : null,
    },
    store: {
      kind: "cassandra", url: "cassandra://127.0.0.1:9042/pitwire", state: away ? "stalled" : "up",
      detail: away ? "no answer to a write for 12 s; samples go to the spill. Is Cassandra overloaded or stopped?" : "",
      rows_written: round(stored / 14), samples_written: stored, in_flight: away ? 8 : 1,
      latency_ms: { p50: away ? 1840 : 1.42 + 0.2 * Math.sin(up_s), p99: away ? 12_000 : 7.9 },
    },
    deliver: { mode: away ? "spilling" : draining ? "draining" : "direct", durable_within_ms: 1000, flush_after_ms: 200, alarm: mode === "nowhere" ? "neither the store nor the spill takes data: memory holds what comes, up to its bound" : "" },
    process: { resident_bytes: 31_400_000, cpu_s: up_s * 0.031 },
    channels: car.length,
    pipeline: pipeline(state, up_s, since_s, rate),
    preprocess: mode === "stale" ? [] : deeds(up_s, thinned),
    gaps: mode === "nowhere" ? [{ reason: "overflow", events: 3, frames: 0, samples: 4100 }, { reason: "lost", events: 1, frames: 7, samples: 0 }] : [],
    config: config(state),
  };
  if (mode === "nowhere") {
    const queue = (priority, backlog_samples, dropped_samples) => ({ priority, backlog_samples, dropped_samples, disk_bytes: backlog_samples * 10 });
    status.spill.priorities = [queue("high", 12_000, 0), queue("normal", 48_000, 0), queue("low", 3_000, 4_100)];
    status.spill.recovering = { segments_done: 1, segments: 4, bytes_done: 8_388_608, bytes: 33_554_432 };
  }
  return mode === "old" ? asBefore(status) : status;
}

/** A queue is named after what fills it: the input, or the stage before it. */
function queues(state, up_s, since_s) {
  const { mode } = state;
  const away = mode === "spilling" || mode === "full";
  const full = mode === "limited" || mode === "stuck"; // in front of the stage that holds all up
  const queue = (name, items, items_max, items_peak, blocked_ms, empty, full) => ({
    name, items, items_max, bytes: items * (name === "chunk" ? 16_000 : 1100), bytes_max: name === "chunk" ? 16_777_216 : 8_388_608, items_peak, blocked_ms, empty, full,
  });
  return [
    queue("raw", 3 + round(2 * Math.sin(up_s)), 1024, 118, 0, 0.88, 0),
    full ? queue("decode", 512, 512, 512, round(since_s * 850), 0, 0.97) : queue("decode", 1, 512, 44, 0, 0.94, 0),
    queue("preprocess", 1, 512, 40, 0, 0.95, 0),
    away ? queue("chunk", 214, 256, 251, 412, 0.1, 0.02) : queue("chunk", 4, 256, 61, 0, 0.72, 0),
  ];
}

/** What each stage does with its time, and what limits. */
function pipeline({ mode }, up_s, since_s, rate) {
  const stage = (name, per_s, busy, blocked, p50, p99, more = {}) => ({
    name, concurrency: 1, order: "input", taken: round(up_s * per_s), given: round(up_s * per_s) - 1, failed: 0, skipped: 0,
    busy, starved: 1 - busy - blocked, blocked, pool_wait: 0, latency_ms: { p50, p99 }, stands_still_for_s: null, ...more,
  });
  const decode = stage("decode", 124, 0.06 + 0.01 * Math.sin(up_s), 0, 0.05, 0.4);
  const preprocess = stage("preprocess", 124, 0.04, 0, 0.03, 0.21);
  const chunk = stage("chunk", 124, 0.02, 0, 0.02, 0.35, { concurrency: 2, order: "key", pool_wait: 0.01, starved: 0.97 });
  const stages = [decode, preprocess, chunk];
  if (mode === "limited") {
    Object.assign(decode, { busy: 0.11, starved: 0.03, blocked: 0.86 });
    Object.assign(preprocess, { busy: 0.97, starved: 0.02, blocked: 0, pool_wait: 0.01, failed: 2, skipped: 2, latency_ms: { p50: 7.6, p99: 31 } });
    return { stages, verdict: { kind: "stage", stage: "preprocess", text: 'stage "preprocess" limits: its slot is busy 97 % of the time; the queue before it is full 97 % of the time' } };
  }
  if (mode === "stuck") {
    Object.assign(decode, { busy: 0, starved: 0, blocked: 1 });
    Object.assign(preprocess, { busy: 1, starved: 0, taken: round((up_s - since_s) * 124), stands_still_for_s: since_s });
    return { stages, verdict: { kind: "stage", stage: "preprocess", text: 'stage "preprocess" limits: its slot is busy 100 % of the time' } };
  }
  if (mode === "spilling" || mode === "full") {
    Object.assign(chunk, { busy: 0.03, starved: 0.36, blocked: 0.61, pool_wait: 0 });
    return { stages, verdict: { kind: "outlet", stage: "", text: "delivery limits: the queue before it is not emptied in time" } };
  }
  if (mode === "draining") return { stages, verdict: { kind: "source", stage: "", text: `the sources limit: every stage waits for data, ${rate} samples a second come in` } };
  return { stages, verdict: { kind: "idle", stage: "", text: "" } };
}

/** What the steps did, in the agent's order: by name of the step. */
function deeds(up_s, thinned) {
  const deed = (step, rule, reason, samples, last) => ({ step, rule, reason, samples, last });
  return [
    deed("dedup", "", "repeated", 240, "44/gps boot 1, frame 4711 again"),
    deed("calibrate", "damper.*", "applied", round(up_s * 200), ""),
    deed("validate", "driver.brake", "out_of_range", 3, "driver.brake 512 bar, at most 200 bar; dropped"),
    deed("validate", "engine.oil_pressure", "out_of_range", round(up_s * 10), "engine.oil_pressure 5.00 bar, at most 4.5 bar; flagged"),
    deed("validate", "gps.*", "after_gap", 2, "gps.lat after 1.2 s"),
    deed("derive", "wheel.slip_rear", "doubtful_input", 18, "wheel.speed_rl is flagged"),
    deed("anomaly", "tyre.temp_*", "drift", 41, "tyre.temp_rr 121 °C, usually 99 to 112 °C"),
    deed("decimate", "damper.*", "thinned", thinned, "100 Hz to 99 Hz"),
  ];
}

/** Reloads of the configuration; in mode `limited` the last one was refused. */
function config(state) {
  const refused = state.mode === "limited";
  return {
    revision: 2,
    since_us: state.started_us + 431_000_000,
    refused: refused ? 1 : 0,
    refusal: refused ? "pitwire.toml:31: preprocess.validate[0].min: 400 is above max, 200\npitwire.toml:44: preprocess.derive[1].expression: no channel is called wheel.speed_xx" : "",
  };
}

/** The status of an agent that says nothing of its stages, steps and configuration. */
function asBefore({ pipeline, preprocess, config, gaps, ledger: { derived, ...ledger }, spill: { drain, ...spill }, queues, ...status }) {
  return { ...status, ledger, spill, queues: queues.map(({ empty, full, ...queue }) => queue) };
}
