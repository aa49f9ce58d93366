// The pure parts: numbers, bins, the choice of channels, the scales.

import assert from "node:assert/strict";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join as path } from "node:path";
import { after, test } from "node:test";
import { fileURLToPath } from "node:url";
import { buildSync } from "esbuild";

const dir = mkdtempSync(path(tmpdir(), "pitwire-unit-"));
after(() => rmSync(dir, { recursive: true, force: true }));

async function load(name) {
  const outfile = path(dir, `${name}.mjs`);
  buildSync({ entryPoints: [fileURLToPath(new URL(`../src/${name}.ts`, import.meta.url))], outfile, bundle: true, format: "esm", target: "es2022" });
  return import(outfile);
}

const format = await load("format");
const { Bins, join } = await load("bins");
const { nextRange, tickDecimals } = await load("scale");
const { read, write, firstChoice } = await load("selection");
const { staleAfter_s } = await load("values");
const { Meter } = await load("rates");
const { byStep } = await load("steps");
const { derivedText } = await load("ledger");
const { alarmText, refusalText } = await load("header");
const { byPriority, declared } = await load("way");
const { inOrder, verdictOf } = await load("pipeline");

test("numbers keep their decimals, group thousands and never show a negative zero", () => {
  const cases = [
    [1234567, 0, "1\u202f234\u202f567"],
    [-12.345, 2, "\u221212.35"],
    [-0.0001, 2, "0.00"],
    [999.96, 1, "1\u202f000.0"],
    [null, 2, "–"],
    [Number.NaN, 0, "–"],
  ];
  for (const [value, decimals, expected] of cases) assert.equal(format.number(value, decimals), expected);
});

test("bytes and spans of time have a unit that fits", () => {
  assert.equal(format.bytes(0), "0 B");
  assert.equal(format.bytes(2147483648), "2.00 GiB");
  assert.equal(format.bytes(8388608), "8.00 MiB");
  assert.equal(format.span(9.94), "9.9 s");
  assert.equal(format.span(61.5), "1 min 1 s");
  assert.equal(format.span(3 * 86400 + 3600), "3 d 1 h");
});

test("a channel shows whole numbers until it has seen a fraction", () => {
  const gear = new format.Decimals("", "gear");
  gear.see(8);
  assert.equal(gear.count, 0);
  const temp = new format.Decimals("°C", "oil_temp");
  temp.see(92.25);
  assert.equal(temp.count, 2);
  temp.see(101.5);
  assert.equal(temp.count, 1);
  const lat = new format.Decimals("deg", "gps.lat");
  lat.see(45.6);
  assert.equal(lat.count, 6);
});

test("quality flags have the agent's names, unknown ones their bits", () => {
  assert.deepEqual(format.quality(0), { short: "", long: "" });
  assert.equal(format.quality(1).short, "range");
  assert.equal(format.quality(3).short, "range +1");
  assert.equal(format.quality(0x4000).short, "0x4000");
  assert.match(format.quality(0x4001).long, /^out_of_range: .*\nunknown flags 0x4000$/);
  const names = "out_of_range not_finite receive_time conflict provisional_time rate_of_change stuck after_gap implausible_time spike drift flatline rate_drop doubtful_input";
  assert.deepEqual(format.quality(0x3fff).long.split("\n").map((line) => line.split(":")[0]), names.split(" "));
});

test("a bin that grew replaces the one before, a late bin finds its place", () => {
  const bins = new Bins();
  bins.merge([[1e6, 1, 2], [1.1e6, 3, 4], [1.3e6, 7, 8]]);
  bins.merge([[1.3e6, 6, 9], [1.2e6, 5, 5]]);
  assert.deepEqual(bins.t_s, [1, 1.1, 1.2, 1.3]);
  assert.deepEqual(bins.min, [1, 3, 5, 6]);
  assert.deepEqual(bins.max, [2, 4, 5, 9]);
  bins.trim(1.2);
  assert.deepEqual(bins.t_s, [1.1, 1.2, 1.3], "one bin is kept before the window");
  assert.deepEqual(bins.at(1.25, 0.1), { min: 5, max: 5 });
  assert.equal(bins.at(2, 0.35), null);
});

test("channels of different times share columns: a gap ends the line, another channel's bin does not", () => {
  const fast = new Bins();
  fast.merge([[0, 1, 1], [1e5, 2, 2], [9e5, 3, 3]]);
  const slow = new Bins();
  slow.merge([[5e4, 7, 8]]);
  const [t, fastMax, , slowMax, slowMin] = join([{ bins: fast, gap_s: 0.35 }, { bins: slow, gap_s: 3 }]);
  assert.deepEqual(t, [0, 0.05, 0.1, 0.5, 0.9]);
  assert.deepEqual(fastMax, [1, undefined, 2, null, 3]);
  assert.deepEqual(slowMax, [undefined, 8, undefined, undefined, undefined]);
  assert.deepEqual(slowMin, [undefined, 7, undefined, undefined, undefined]);
});

test("a scale holds still while the data is well within it", () => {
  const first = nextRange(null, 10, 90, "km/h");
  assert.ok(first[0] <= 10 && first[1] >= 90);
  assert.equal(nextRange(first, 20, 80, "km/h"), first);
  const wider = nextRange(first, 10, 200, "km/h");
  assert.ok(wider[1] >= 200);
  assert.notEqual(nextRange(wider, 10, 20, "km/h"), wider);
  assert.deepEqual(nextRange(null, 0, 63, "%"), [-4, 104]);
  const flat = nextRange(null, 5, 5, "bar");
  assert.ok(flat[0] < 5 && flat[1] > 5);
  assert.deepEqual(nextRange(null, null, null, ""), [0, 1]);
  assert.deepEqual([100, 20, 1, 0.5, 0.02].map(tickDecimals), [0, 0, 0, 1, 2]);
});

test("a choice survives the address, whatever its keys hold, and is bounded", () => {
  const charts = [["44/ecu/a,b;c", "44/ecu/ü"], ["7/x/y"]];
  assert.deepEqual(read(write(charts)), charts);
  assert.deepEqual(read("%zz;;a,a,b"), [["a", "b"]]);
  assert.equal(read(Array.from({ length: 20 }, (_, i) => `c${i}`).join(";")).length, 8);
  assert.equal(read(Array.from({ length: 20 }, (_, i) => `c${i}`).join(","))[0].length, 6);
});

test("the first choice knows the usual names, and else takes the first four", () => {
  const channel = (name, car = "44") => ({ key: `${car}/d/${name}`, car, channel: name });
  const known = ["wheel_speed_fl", "throttle", "rpm", "speed", "brake", "gear"].map((n) => channel(n));
  assert.deepEqual(firstChoice(known, "44"), [["44/d/speed"], ["44/d/rpm"], ["44/d/throttle", "44/d/brake"], ["44/d/gear"]]);
  const dotted = ["gps.speed", "wheel.fl.speed", "brake.pressure.front", "brake.pedal", "chassis.accel.long", "chassis.accel.lat", "engine.throttle", "engine.rpm", "chassis.speed"];
  assert.deepEqual(firstChoice(dotted.map((n) => channel(n)), "44"), [
    ["44/d/chassis.speed"],
    ["44/d/engine.rpm"],
    ["44/d/engine.throttle", "44/d/brake.pedal"],
    ["44/d/chassis.accel.lat", "44/d/chassis.accel.long"],
  ]);
  const plain = ["a", "b", "c", "d", "e"].map((n) => channel(n));
  assert.deepEqual(firstChoice(plain, "44"), [["44/d/a"], ["44/d/b"], ["44/d/c"], ["44/d/d"]]);
  assert.deepEqual(firstChoice([channel("rpm", "7"), channel("rpm", "44")], "44"), [["44/d/rpm"]]);
});

test("stale is two seconds, or three periods of a slow channel", () => {
  assert.equal(staleAfter_s(50), 2);
  assert.equal(staleAfter_s(0.2), 15);
  assert.equal(staleAfter_s(null), 2);
});

test("counters become rates: a new one began at 0, another run of the agent begins anew", () => {
  const meter = new Meter();
  assert.equal(meter.see(10, { a: 100 }), null);
  assert.deepEqual(meter.see(12, { a: 300, b: 8 }), { a: 100, b: 4 });
  assert.deepEqual(meter.see(20, { a: 300, b: 8 }), { a: 0, b: 0 }, "what is older than the window is forgotten");
  assert.equal(meter.see(1, { a: 5 }), null);
  assert.deepEqual(meter.see(2, { a: 7 }), { a: 2 });
});

test("queues stand behind the input or the stage that fills them", () => {
  const order = (stages, queues) =>
    inOrder(stages.map((name) => ({ name })), queues.map((name) => ({ name }))).map((r) => r.stage?.name ?? r.queue?.name ?? r.kind).join(" ");
  assert.equal(order(["A", "B"], ["in", "A", "B"]), "source in A A B B outlet");
  assert.equal(order([], ["raw", "x"]), "source raw x outlet", "an older agent names no stage");
  assert.equal(order(["A", "B"], ["i1", "i2", "A", "side"]), "source i1 i2 A A side B outlet");
});

test("a verdict is calm where data is waited for, a warning where something limits, an alarm where a stage stands still", () => {
  const of = (kind, text, still = null, stage = "s") => verdictOf({ verdict: { kind, stage, text }, stages: [{ name: "s", stands_still_for_s: still }] });
  const cases = [
    [of("idle", ""), "nothing limits", "ok", "nothing limits: all stages wait for data"],
    [of("source", "x"), "the sources limit", "ok", "x"],
    [of("stage", "x"), "s limits", "warn", "x"],
    [of("outlet", ""), "delivery limits", "warn", "what takes the results limits: the store or the spill"],
    [of("pool", "x"), "the pool limits", "warn", "x"],
    [of("news", "x"), "news limits", "warn", "x"],
    [of("stage", "x", 12), "s stands still", "bad", 'stage "s" has stood still for 12 s. x'],
  ];
  const early = verdictOf({ verdict: null, stages: [{ name: "s" }] });
  assert.deepEqual([early.few, early.tone], ["no verdict yet", "idle"], "an agent that has just begun");
  for (const [verdict, few, tone, text] of cases) assert.deepEqual([verdict.few, verdict.tone, verdict.text], [few, tone, text]);
});

test("deeds stand in the order of the steps, whatever order they come in", () => {
  const deed = (step, rule) => ({ step, rule, reason: "r", samples: 1, last: "" });
  const groups = byStep([deed("anomaly", "a"), deed("news", "n"), deed("decimate", "b"), deed("dedup", "d"), deed("anomaly", "c")]);
  assert.deepEqual(groups.map(({ step, deeds }) => [step, deeds.map((d) => d.rule).join("")]), [["dedup", "d"], ["anomaly", "ac"], ["decimate", "b"], ["news", "n"]]);
  assert.deepEqual(byStep([]), []);
});

test("a refused reload is told with what holds instead, and with the day where it is another", () => {
  const now_us = Date.UTC(2026, 4, 2, 12) * 1000;
  const config = { revision: 2, since_us: now_us - 3600e6, refused: 1, refusal: "pitwire.toml:7: min is above max" };
  assert.equal(refusalText({ now_us }), "", "an older agent");
  assert.equal(refusalText({ now_us, config: { ...config, refusal: "" } }), "", "a good one came since");
  assert.equal(refusalText({ now_us, config }), "The last reload of the configuration was refused: revision 2 since 11:00:00 UTC stays in force.\npitwire.toml:7: min is above max");
  assert.match(refusalText({ now_us, config: { ...config, since_us: now_us - 86_400e6 } }), /since 2026-05-01 12:00:00 UTC stays/);
  const many = refusalText({ now_us, config: { ...config, refusal: Array.from({ length: 9 }, (_, i) => `line ${i}`).join("\n") } });
  assert.match(many, /\nline 3\nand 5 lines more, see the log$/);
});

test("an alarm says what is the matter, first of all that nothing can be written", () => {
  const spill = { state: "full", detail: "5 of 4 bytes are used" };
  assert.equal(alarmText({ deliver: { alarm: "" }, spill: { ...spill, state: "draining" } }), "");
  assert.equal(alarmText({ deliver: { alarm: "" }, spill }), "The spill is full: 5 of 4 bytes are used.");
  assert.equal(alarmText({ deliver: {}, spill: { ...spill, state: "failed" } }), "The spill has failed: 5 of 4 bytes are used.", "an older agent");
  assert.equal(alarmText({ deliver: { alarm: "nothing takes data" }, spill }), "Alarm: nothing takes data.");
});

test("gaps are summed over their reasons, and priorities are shown where there are several", () => {
  assert.equal(declared([]), "none");
  assert.equal(declared([{ events: 1, frames: 7, samples: 0 }]), "1 gap · 7 frames");
  assert.equal(declared([{ events: 3, frames: 0, samples: 4100 }, { events: 1, frames: 1, samples: 2 }]), "4 gaps · 4\u202f102 samples · 1 frame");
  assert.equal(byPriority([]), null);
  const queue = (priority, backlog_samples, dropped_samples) => ({ priority, backlog_samples, dropped_samples });
  assert.equal(byPriority([queue("high", 5, 0), queue("low", 0, 1200)]), "high 5 · low 0 (1\u202f200 given up)");
});

test("the derived line is an identity of its own, and shows when it does not hold", () => {
  const line = { received: 900, recovered: 0, stored: 880, backlog: 0, in_flight: 20, quarantined: 0, dropped: { validate: 0 }, duplicate: 0, balanced: true };
  assert.equal(derivedText(line), "900 computed = 880 stored + 20 in flight");
  assert.equal(derivedText({ ...line, received: 0, stored: 0, in_flight: 0 }), "0 computed = 0");
  assert.equal(derivedText({ ...line, recovered: 5, backlog: 3, dropped: { validate: 2 } }), "900 computed + 5 recovered = 880 stored + 3 backlog + 20 in flight + 2 dropped");
  assert.match(derivedText({ ...line, stored: 879 }), /^900 computed ≠ 879 stored/);
});
