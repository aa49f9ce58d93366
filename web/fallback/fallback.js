// The page of an agent that was built without Node.js: plain values, asked for once a second.
// No build step, no dependency. The page with charts is in ../src.
"use strict";

const PERIOD_MS = 1000;
/** An answer that takes longer counts as none. */
const ANSWER_MS_MAX = 1500;
/** As on the page with charts: older than this, or than three periods, is stale. */
const STALE_S = 2;

const byId = (id) => document.getElementById(id);
const count = (n) => (n === null || n === undefined ? "–" : n.toLocaleString("en").replaceAll(",", "\u202f"));
const mebibytes = (n) => `${(n / 1048576).toFixed(1)} MiB`;

const millis = (ms) => (ms === null ? "–" : `${ms.toFixed(ms >= 100 ? 0 : 1)} ms`);

function value(v) {
  if (v === null) return "–";
  return Number.isInteger(v) ? count(v) : v.toFixed(Math.abs(v) >= 1000 ? 0 : Math.abs(v) >= 100 ? 1 : 3);
}

function make(tag, text, className = "") {
  const node = document.createElement(tag);
  node.textContent = text;
  node.className = className;
  return node;
}

/** Writes named facts into a list: `[name, value]` each; rows are made once and then only changed. */
function facts(id, pairs) {
  const list = byId(id);
  while (list.children.length > 2 * pairs.length) list.lastChild.remove();
  pairs.forEach(([name, text], i) => {
    if (list.children.length <= 2 * i) list.append(make("dt", ""), make("dd", ""));
    const [label, cell] = [list.children[2 * i], list.children[2 * i + 1]];
    if (label.textContent !== name) label.textContent = name;
    if (cell.textContent !== text) cell.textContent = text;
    cell.title = text;
  });
}

function chips(pairs) {
  byId("chips").replaceChildren(
    ...pairs.map(([what, is, good]) => {
      const chip = make("li", "", "chip");
      chip.dataset.tone = good === null ? "idle" : good ? "ok" : "bad";
      chip.append(make("span", what, "what"), make("span", is, "is live"));
      return chip;
    }),
  );
}

/** What limits the flow, in the agent's words. */
function verdict({ verdict, stages }) {
  const still = stages.filter((stage) => typeof stage.stands_still_for_s === "number");
  const { kind, text } = verdict ?? { kind: "idle", text: "no verdict yet" };
  const calm = text === "" ? (kind === "idle" ? "nothing limits: all stages wait for data" : `${kind} limits`) : text;
  return [...still.map((stage) => `${stage.name} STANDS STILL for ${Math.floor(stage.stands_still_for_s)} s`), calm].join("; ");
}

function showStatus(s) {
  byId("car").textContent = s.car;
  byId("clock").textContent = `${new Date(s.now_us / 1000).toISOString().slice(11, 19)} UTC`;
  const connected = s.sources.filter((x) => x.state === "connected").length;
  chips([
    ["agent", s.state, s.state === "running"],
    ["sources", `${connected} of ${s.sources.length}`, connected === s.sources.length],
    ["store", s.store.state, s.store.state === "up"],
    ["spill", s.spill.state, s.spill.state === "idle" ? null : s.spill.state === "draining"],
  ]);
  const l = s.ledger;
  const dropped = Object.values(l.dropped).reduce((a, b) => a + b, 0);
  const left = l.received + l.recovered;
  const right = l.stored + l.backlog + l.in_flight + l.quarantined + dropped + l.duplicate;
  facts("ledger", [
    ["received", count(l.received)],
    ["+ recovered", count(l.recovered)],
    ["= came in", count(left)],
    ["stored", count(l.stored)],
    ["+ backlog", count(l.backlog)],
    ["+ in flight", count(l.in_flight)],
    ["+ quarantined", count(l.quarantined)],
    ["+ dropped", count(dropped)],
    ["+ duplicate", count(l.duplicate)],
    ["= accounted for", count(right)],
    ["verdict", l.balanced && left === right ? "adds up" : "DOES NOT ADD UP"],
    ...(l.derived === undefined ? [] : [["apart: derived", `${count(l.derived.received)}, of these stored ${count(l.derived.stored)}`]]),
  ]);
  facts("store", [
    ["state", s.store.state],
    ["url", s.store.url],
    ...(s.store.detail === "" ? [] : [["why", s.store.detail]]),
    ["samples", count(s.store.samples_written)],
    ["latency p50 · p99", `${millis(s.store.latency_ms.p50)} · ${millis(s.store.latency_ms.p99)}`],
  ]);
  facts("spill", [
    ["state", s.spill.state],
    ...(s.spill.detail === "" ? [] : [["why", s.spill.detail]]),
    ["backlog", `${count(s.spill.backlog_samples)} samples`],
    ["disk", `${mebibytes(s.spill.disk_bytes)} of ${mebibytes(s.spill.disk_max_bytes)}`],
    ["written", mebibytes(s.spill.written_bytes)],
    ...(s.spill.drain ? [["drained", `${count(s.spill.drain.done)} of ${count(s.spill.drain.total)}`]] : []),
  ]);
  facts("queues", [
    ...(s.pipeline === undefined ? [] : [["what limits", verdict(s.pipeline)]]),
    ...s.queues.map((q) => [`queue ${q.name}`, `${count(q.items)} of ${count(q.items_max)}, peak ${count(q.items_peak)}`]),
  ]);
  const spillDown = s.spill.state === "full" || s.spill.state === "failed";
  const alarm = s.deliver.alarm ? `Alarm: ${s.deliver.alarm}.` : spillDown ? `The spill: ${s.spill.state}. ${s.spill.detail}` : "";
  byId("alarm").textContent = alarm;
  byId("alarm").hidden = alarm === "";
  const refusal = s.config?.refusal ?? "";
  byId("refusal").textContent = refusal === "" ? "" : `The last reload of the configuration was refused:\n${refusal}`;
  byId("refusal").hidden = refusal === "";
  facts(
    "sources",
    s.sources.flatMap((x) => [
      [x.name, x.detail === "" ? `${x.state}, ${count(x.frames)} frames` : `${x.state}: ${x.detail}`],
      ...x.devices.map((d) => [`${d.car} / ${d.device}`, `${count(d.frames)} frames, ${count(d.frames_lost)} lost`]),
    ]),
  );
}

const rows = new Map();
function showChannels(channels) {
  const keys = new Set(channels.map((c) => c.key));
  for (const [key, row] of rows) {
    if (keys.has(key)) continue;
    row.remove();
    rows.delete(key);
  }
  for (const c of channels) {
    let row = rows.get(c.key);
    if (row === undefined) {
      row = document.createElement("tr");
      const name = make("th", `${c.device} ${c.channel}${c.derived ? " ƒ" : ""}`, "term");
      name.scope = "row";
      name.title = c.derived ? "derived: computed by the agent" : "";
      row.append(name, make("td", "", "value"), make("td", c.unit, "term"), make("td", "", "age"));
      rows.set(c.key, row);
      byId("channels").append(row);
    }
    const stale = c.age_s > Math.max(STALE_S, c.rate_hz > 0 ? 3 / c.rate_hz : 0);
    row.className = stale ? "stale" : "";
    row.title = c.quality === 0 ? "" : `quality flags 0x${c.quality.toString(16)}`;
    row.children[1].textContent = (c.quality === 0 ? "" : "! ") + value(c.value);
    row.children[3].textContent = stale ? `stale ${Math.floor(c.age_s)} s` : `${c.age_s.toFixed(1)} s`;
  }
}

async function get(path) {
  const answer = await fetch(path, { signal: AbortSignal.timeout(ANSWER_MS_MAX) });
  if (!answer.ok) throw new Error(`${path}: the agent answered ${answer.status}`);
  return answer.json();
}

async function tick() {
  let live = true;
  try {
    const [status, channels] = await Promise.all([get("/api/v1/status"), get("/api/v1/channels")]);
    showStatus(status);
    showChannels(channels);
  } catch {
    live = false; // what it was does not matter here: what is on the page is old now
  }
  document.body.dataset.link = live ? "live" : "lost";
  byId("lost").hidden = live;
  setTimeout(tick, PERIOD_MS);
}

tick();
