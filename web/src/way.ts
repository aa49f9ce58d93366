// The way out: delivery, the store and the spill.

import type { Drain, Gap, Priority, Spill, Status, Store } from "./api";
import { Bar } from "./bar";
import { byId, setAttr, setHidden, setText } from "./dom";
import { Facts } from "./facts";
import { bytes, millis, number, span, things } from "./format";
import type { Rates } from "./rates";

export type Tone = "ok" | "warn" | "bad" | "idle";

/** How a state of the store is to be taken. */
export function storeTone(state: Store["state"]): Tone {
  return state === "up" ? "ok" : state === "connecting" ? "idle" : state === "stalled" || state === "holding" ? "warn" : "bad";
}
/** How a state of the spill is to be taken. */
export function spillTone(state: Spill["state"]): Tone {
  return state === "idle" ? "idle" : state === "spilling" || state === "draining" ? "warn" : "bad";
}

function setState(id: string, state: string, tone: Tone): void {
  const node = byId(id);
  setText(node, state);
  setAttr(node, "data-tone", tone);
}

function setDetail(id: string, text: string): void {
  const node = byId(id);
  setHidden(node, text === "");
  setText(node, text);
}

export class WayPanels {
  private readonly store = new Facts(byId("store-facts"));
  private readonly spill = new Facts(byId("spill-facts"));
  private readonly flow = new Facts(byId("flow-facts"));
  private readonly bar = new Bar("Spill's share of its disk budget");
  private readonly drain = new Bar("Backlog brought home", "progress");
  private readonly scan = new Bar("Read of what an earlier run left", "progress");
  private peak = 0;

  constructor() {
    byId("spill-bar").append(this.bar.node);
    byId("spill-drain-detail").before(this.drain.node);
    byId("spill-scan").append(this.scan.node);
  }

  render(status: Status, rates: Rates | null): void {
    this.renderFlow(status, rates);
    this.renderStore(status.store);
    this.renderSpill(status.spill, rates);
  }

  private renderFlow({ deliver, process, gaps }: Status, rates: Rates | null): void {
    setState("deliver-state", deliver.mode, deliver.mode === "direct" ? "ok" : "warn");
    this.flow.set("received", rates === null ? "–" : `${number(rates.received_per_s)} /s`);
    this.flow.set("stored", rates === null ? "–" : `${number(rates.stored_per_s)} /s`);
    this.flow.set("flush after", millis(deliver.flush_after_ms));
    this.flow.set("durable within", millis(deliver.durable_within_ms));
    this.flow.set("gaps declared", gaps === undefined ? null : declared(gaps));
    this.flow.set("agent uses", `${bytes(process.resident_bytes)} · ${span(process.cpu_s)} cpu`);
  }

  private renderStore(store: Store): void {
    setState("store-state", store.state, storeTone(store.state));
    setDetail("store-detail", store.detail);
    this.store.set("write p50 · p99", `${millis(store.latency_ms.p50)} · ${millis(store.latency_ms.p99)}`);
    this.store.set("in flight", number(store.in_flight));
    this.store.set("rows", number(store.rows_written));
    this.store.set("samples", number(store.samples_written));
    setText(byId("store-url"), store.url);
    byId("store-url").title = store.url;
  }

  private renderSpill(spill: Spill, rates: Rates | null): void {
    setState("spill-state", spill.state, spillTone(spill.state));
    setDetail("spill-detail", spill.detail);
    const share = spill.disk_max_bytes > 0 ? spill.disk_bytes / spill.disk_max_bytes : 0;
    this.peak = Math.max(this.peak, share);
    const used = `${bytes(spill.disk_bytes)} of ${bytes(spill.disk_max_bytes)}`;
    this.bar.set(share, this.peak, used);
    this.renderDrain(spill.drain ?? null);
    this.renderScan(spill.recovering ?? null);
    this.spill.set("disk", used);
    this.spill.set("backlog", `${things(spill.backlog_samples, "sample")} · ${things(spill.backlog_records, "record")}`);
    this.spill.set("by priority", byPriority(spill.priorities ?? []));
    this.spill.set("oldest", spill.oldest_age_s === null ? "–" : span(spill.oldest_age_s));
    this.spill.set("trend", trend(spill, rates));
    this.spill.set("written", `${bytes(spill.written_bytes)} · ${things(spill.syncs, "sync")}`);
    this.spill.set("quarantine", things(spill.quarantine_records, "record"));
    this.spill.set("encrypted", encryption(spill));
  }

  private renderScan(scan: Exclude<Spill["recovering"], undefined>): void {
    setHidden(byId("spill-scan"), scan === null);
    if (scan === null) return;
    const text = `${bytes(scan.bytes_done)} of ${bytes(scan.bytes)}`;
    this.scan.set(scan.bytes > 0 ? scan.bytes_done / scan.bytes : 0, 0, text);
    setText(byId("spill-scan-detail"), text);
  }

  private renderDrain(drain: Drain | null): void {
    setHidden(byId("spill-drain"), drain === null);
    if (drain === null) return;
    const { done, total, rate_per_s, left_s } = drain;
    const text = `${number(done)} of ${things(total, "sample")}`;
    this.drain.set(total > 0 ? done / total : 0, 0, text);
    setText(byId("spill-drain-left"), left_s === null ? "–" : `${span(left_s)} left`);
    setText(byId("spill-drain-detail"), `${text} · ${number(rate_per_s)} /s`);
  }
}

/** How many gaps there are and how much is in them: "none" is worth saying. */
export function declared(gaps: readonly Gap[]): string {
  const events = gaps.reduce((sum, gap) => sum + gap.events, 0);
  if (events === 0) return "none";
  const samples = gaps.reduce((sum, gap) => sum + gap.samples, 0);
  const frames = gaps.reduce((sum, gap) => sum + gap.frames, 0);
  const parts = [things(events, "gap"), samples > 0 ? things(samples, "sample") : "", frames > 0 ? things(frames, "frame") : ""];
  return parts.filter((part) => part !== "").join(" · ");
}

/** What lies there of each priority, and what it gave up; null where there is one only. */
export function byPriority(queues: readonly Priority[]): string | null {
  if (queues.length === 0) return null;
  return queues
    .map(({ priority, backlog_samples, dropped_samples }) => {
      const gone = dropped_samples > 0 ? ` (${number(dropped_samples)} given up)` : "";
      return `${priority} ${number(backlog_samples)}${gone}`;
    })
    .join(" · ");
}

/** Whether what is written can be read by others, and what this agent cannot read itself. */
function encryption(spill: Spill): string {
  const locked = spill.locked_segments > 0 ? ` · ${things(spill.locked_segments, "segment")} under another key` : "";
  return `${spill.encrypted ? "yes" : "no"}${locked}`;
}

/** Where the backlog goes, and when it is gone if it goes on so. */
function trend(spill: Spill, rates: Rates | null): string {
  if (rates === null || spill.backlog_samples === 0) return "–";
  const per_s = Math.round(rates.backlog_per_s);
  if (per_s >= 0) return `+${number(per_s)} /s`;
  return `${number(per_s)} /s · empty in ${span(spill.backlog_samples / -per_s)}`;
}
