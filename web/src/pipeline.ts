// The pipeline in the data's order: what each stage does with its time, how full the queues between
// them are, and what limits the flow, in one sentence.

import type { Pipeline, Queue, Stage, Status, Verdict } from "./api";
import { Bar } from "./bar";
import { byId, el, Keyed, setAttr, setHidden, setText } from "./dom";
import { bytes, millis, number, span, things } from "./format";
import { Meter, type Rates } from "./rates";
import type { Tone } from "./way";

/** What a stage's time goes to, in the order of the bar; what is left of the bar is starved. */
const SHARES = [
  { key: "busy", name: "busy" },
  { key: "pool_wait", name: "pool wait" },
  { key: "blocked", name: "blocked" },
  { key: "starved", name: "starved" },
] as const;

/** What the sentence says where the agent leaves it to the page. */
const SENTENCES: Record<Verdict["kind"], string> = {
  idle: "nothing limits: all stages wait for data",
  source: "the sources limit: every stage waits for data",
  stage: "a stage limits",
  outlet: "what takes the results limits: the store or the spill",
  pool: "the pool of threads limits",
};

/** For how long a stage has stood still though it could work; null if it does not. */
function stillFor_s(stage: Stage): number | null {
  return stage.stands_still_for_s ?? null;
}

/** What limits, in few words, in one sentence, and how it is to be taken. */
export function verdictOf(pipeline: Pipeline): { few: string; chip: string; text: string; tone: Tone } {
  const still = pipeline.stages.find((stage) => stillFor_s(stage) !== null);
  if (still === undefined && pipeline.verdict === null) {
    return { few: "no verdict yet", chip: "–", text: "no verdict yet: the agent has just begun to look", tone: "idle" };
  }
  const { kind, stage, text } = pipeline.verdict ?? { kind: "idle", stage: null, text: "no verdict yet" };
  const sentence = text === "" ? (SENTENCES[kind] ?? kind) : text;
  if (still !== undefined) {
    const few = `${still.name} stands still`;
    return { few, chip: "stands still", text: `stage "${still.name}" has stood still for ${span(stillFor_s(still))}. ${sentence}`, tone: "bad" };
  }
  if (kind === "idle") return { few: "nothing limits", chip: "flows", text: sentence, tone: "ok" };
  if (kind === "source") return { few: "the sources limit", chip: "flows", text: sentence, tone: "ok" };
  const who = kind === "stage" ? stage || "a stage" : kind === "outlet" ? "delivery" : kind === "pool" ? "the pool" : kind;
  return { few: `${who} limits`, chip: "limited", text: sentence, tone: "warn" };
}

type Row = { kind: "source" | "outlet" } | { kind: "stage"; stage: Stage } | { kind: "queue"; queue: Queue };

/** Stages and queues in the data's order: a queue has the name of the input or of the stage that fills it. */
export function inOrder(stages: readonly Stage[], queues: readonly Queue[]): Row[] {
  const isStage = new Set(stages.map((stage) => stage.name));
  const behind = new Map<string, Row[]>([["", []]]);
  let filledBy = "";
  for (const queue of queues) {
    if (isStage.has(queue.name)) filledBy = queue.name;
    const row: Row = { kind: "queue", queue };
    const rows = behind.get(filledBy);
    if (rows === undefined) behind.set(filledBy, [row]);
    else rows.push(row);
  }
  const rows: Row[] = [{ kind: "source" }, ...(behind.get("") ?? [])];
  for (const stage of stages) rows.push({ kind: "stage", stage }, ...(behind.get(stage.name) ?? []));
  return [...rows, { kind: "outlet" }];
}

/** A share of the time, whole percent; what is not all, or not nothing, does not look so. */
function percent(share: number): string {
  const rounded = Math.round(share * 100);
  if (rounded === 100 && share < 1) return `${number(Math.floor(share * 1000) / 10, 1)} %`;
  return rounded === 0 && share > 0 ? "<1 %" : `${rounded} %`;
}

/** The first or last row: where the data comes from, or goes to. */
class EndView {
  private readonly text = el("span", "num");
  private readonly tag = el("span", "tag", "limits");
  readonly node: HTMLElement;

  constructor(name: string) {
    this.node = el("li", "end", el("span", "who-is", name, " ", this.tag), this.text);
  }

  update(text: string, limits: boolean, tone: Tone): void {
    setText(this.text, text);
    setHidden(this.tag, !limits);
    setAttr(this.tag, "data-tone", tone);
  }
}

class QueueView {
  private readonly bar: Bar;
  private readonly items = el("span", "num");
  private readonly detail = el("span", "detail num");
  readonly node: HTMLElement;

  constructor(queue: Queue) {
    this.bar = new Bar(`Queue ${queue.name}`);
    this.node = el("li", "queue", el("span", "who-is", `queue ${queue.name}`), this.bar.node, this.items, this.detail);
  }

  update(queue: Queue): void {
    const share = Math.max(queue.items / queue.items_max, queue.bytes_max > 0 ? queue.bytes / queue.bytes_max : 0);
    const items = `${number(queue.items)} of ${number(queue.items_max)}`;
    this.bar.set(share, queue.items_peak / queue.items_max, items);
    setText(this.items, items);
    const { empty, full, blocked_ms } = queue;
    const detail = [
      full !== undefined && full > 0 ? `full ${percent(full)} of the time` : "",
      empty !== undefined && !(full !== undefined && full > 0) ? `empty ${percent(empty)} of the time` : "",
      blocked_ms > 0 ? `writer blocked ${blocked_ms < 60_000 ? millis(blocked_ms) : span(blocked_ms / 1000)}` : "",
      `peak ${number(queue.items_peak)}`,
    ];
    setText(this.detail, detail.filter((part) => part !== "").join(" · "));
    this.node.title = queue.bytes_max > 0 ? `${bytes(queue.bytes)} of ${bytes(queue.bytes_max)}` : "";
  }
}

class StageView {
  private readonly tag = el("span", "tag", "limits");
  private readonly how = el("span", "detail");
  private readonly parts = SHARES.filter(({ key }) => key !== "starved").map(({ key }) => ({ key, node: el("i", `share ${key}`) }));
  private readonly words = el("span", "detail num");
  private readonly taken = el("span", "num taken");
  private readonly latency = el("span", "num");
  private readonly faults = el("span", "faults num");
  readonly node: HTMLElement;

  constructor(stage: Stage) {
    const shares = el("span", "shares", ...this.parts.map(({ node }) => node));
    shares.setAttribute("aria-hidden", "true"); // the words below it say the same
    this.node = el(
      "li",
      "stage",
      el("span", "who-is", el("h3", "label", stage.name), " ", this.tag, this.how),
      el("span", "time", shares, this.words),
      el("span", "flow", this.taken, this.latency, this.faults),
    );
  }

  update(stage: Stage, per_s: number | undefined, limits: boolean): void {
    const still = stillFor_s(stage);
    for (const { key, node } of this.parts) node.style.width = `${(Math.min(1, Math.max(0, stage[key])) * 100).toFixed(2)}%`;
    const words = SHARES.filter(({ key }) => stage[key] > 0).map(({ key, name }) => `${name} ${percent(stage[key])}`);
    setText(this.words, still === null ? words.join(" · ") : `stands still for ${span(still)} · ${words.join(" · ")}`);
    setText(this.how, stage.concurrency === 1 ? "one at a time" : `${number(stage.concurrency)} at once, by ${stage.order}`);
    setText(this.taken, per_s === undefined ? "–" : `${number(Math.max(0, per_s))} /s`);
    setText(this.latency, `p50 ${millis(stage.latency_ms.p50)} · p99 ${millis(stage.latency_ms.p99)}`);
    const faults = [stage.failed > 0 ? `${number(stage.failed)} failed` : "", stage.skipped > 0 ? `${number(stage.skipped)} skipped` : ""];
    setText(this.faults, faults.filter((part) => part !== "").join(" · "));
    this.node.title = `${things(stage.taken, "item")} taken, ${number(stage.given)} given`;
    setHidden(this.tag, !limits && still === null);
    setText(this.tag, still === null ? "limits" : "stands still");
    setAttr(this.tag, "data-tone", still === null ? "warn" : "bad");
    this.node.classList.toggle("limits", limits && still === null);
    this.node.classList.toggle("still", still !== null);
  }
}

export class PipelinePanel {
  private readonly state = byId("pipeline-state");
  private readonly verdict = byId("pipeline-verdict");
  private readonly meter = new Meter();
  private per_s: Record<string, number> | null = null;
  private ends: { source: string; outlet: string; limits: Verdict | null } = { source: "", outlet: "", limits: null };
  private still: string | null = null;
  private readonly rows = new Keyed<Row, { node: HTMLElement; update: (row: Row) => void }>(
    byId("pipeline"),
    (row) => this.make(row),
    (view, row) => view.update(row),
  );

  /** `alarm` hears when a stage stands still, and when it goes on. */
  constructor(private readonly alarm: (text: string) => void) {}

  render(status: Status, flow: Rates | null): void {
    const { pipeline, sources, deliver } = status;
    const stages = pipeline?.stages ?? [];
    this.per_s = this.meter.see(status.uptime_s, Object.fromEntries(stages.map((stage) => [stage.name, stage.taken])));
    const rate = (per_s: number | undefined, what: string): string =>
      per_s === undefined ? "" : ` · ${number(Math.max(0, per_s))} samples/s ${what}`;
    const connected = sources.filter((source) => source.state === "connected").length;
    this.ends = {
      source: `${connected} of ${sources.length} connected${rate(flow?.received_per_s, "received")}`,
      outlet: `${deliver.mode}${rate(flow?.stored_per_s, "stored")}`,
      limits: pipeline?.verdict ?? null,
    };
    this.rows.render(inOrder(stages, status.queues), (row) =>
      row.kind === "stage" ? `stage ${row.stage.name}` : row.kind === "queue" ? `queue ${row.queue.name}` : row.kind,
    );
    setHidden(this.state, pipeline === undefined);
    setHidden(byId("pipeline-legend"), pipeline === undefined);
    if (pipeline === undefined) {
      setText(this.verdict, "This agent does not say what its stages do.");
      setAttr(this.verdict, "data-tone", "idle");
      return;
    }
    const { few, text, tone } = verdictOf(pipeline);
    setText(this.state, few);
    setAttr(this.state, "data-tone", tone);
    setText(this.verdict, text);
    setAttr(this.verdict, "data-tone", tone);
    const still = stages.find((stage) => stillFor_s(stage) !== null)?.name ?? null;
    if (still !== this.still) this.alarm(still === null ? `stage ${this.still} goes on` : `stage ${still} stands still`);
    this.still = still;
  }

  private make(row: Row): { node: HTMLElement; update: (row: Row) => void } {
    if (row.kind === "queue") {
      const view = new QueueView(row.queue);
      return { node: view.node, update: (now) => now.kind === "queue" && view.update(now.queue) };
    }
    if (row.kind === "stage") {
      const view = new StageView(row.stage);
      const limits = (name: string): boolean => this.ends.limits?.stage === name && ["stage", "pool"].includes(this.ends.limits.kind);
      return {
        node: view.node,
        update: (now) => now.kind === "stage" && view.update(now.stage, this.per_s?.[now.stage.name], limits(now.stage.name)),
      };
    }
    const { kind } = row;
    const view = new EndView(kind === "source" ? "sources" : "delivery");
    return { node: view.node, update: () => view.update(this.ends[kind], this.ends.limits?.kind === kind, kind === "source" ? "ok" : "warn") };
  }
}
