// The head of the page: whose data this is, and the states that decide whether to trust it.

import type { Config, Status } from "./api";
import { byId, setAttr, setHidden, setText } from "./dom";
import { number, span, things, timeOfDay } from "./format";
import { verdictOf } from "./pipeline";
import { sourceState } from "./sources";
import type { Link } from "./stream";
import { spillTone, storeTone, type Tone } from "./way";

function chip(id: string, text: string, tone: Tone): void {
  const node = byId(id);
  setText(node, text);
  setAttr(node.parentElement ?? node, "data-tone", tone);
}

/** Which configuration holds, and since when; the day is said where it is not today's. */
function holds({ revision, since_us }: Config, now_us: number): string {
  const day = (us: number): string => new Date(us / 1000).toISOString().slice(0, 10);
  const date = day(since_us) === day(now_us) ? "" : `${day(since_us)} `;
  return `revision ${number(revision)} since ${date}${timeOfDay(since_us / 1e6)} UTC`;
}

/** A refusal names every fault; more than these lines are counted only: the log has them all. */
const REFUSAL_LINES_MAX = 4;

/** Why the last reload was refused, and what holds instead; empty if it was not. */
export function refusalText({ config, now_us }: Pick<Status, "config" | "now_us">): string {
  if (config === undefined || config.refusal === "") return "";
  const lines = config.refusal.split("\n").filter((line) => line.trim() !== "");
  const more = lines.length - REFUSAL_LINES_MAX;
  const shown = more > 0 ? [...lines.slice(0, REFUSAL_LINES_MAX), `and ${things(more, "line")} more, see the log`] : lines;
  return [`The last reload of the configuration was refused: ${holds(config, now_us)} stays in force.`, ...shown].join("\n");
}

/** What somebody has to do something about at once: nothing can be written, or the spill takes nothing; else empty. */
export function alarmText({ deliver, spill }: Pick<Status, "deliver" | "spill">): string {
  if (deliver.alarm !== undefined && deliver.alarm !== "") return `Alarm: ${deliver.alarm}.`;
  if (spill.state === "full" || spill.state === "failed") return `The spill ${spill.state === "full" ? "is full" : "has failed"}: ${spill.detail}.`;
  return "";
}

export class Header {
  private link: Link = { kind: "connecting", since_ms: performance.now() };

  constructor(private readonly announce: (text: string) => void) {}

  render(status: Status): void {
    setText(byId("car"), status.car);
    const title = `${status.car} · Pitwire`;
    if (document.title !== title) document.title = title;
    chip("agent-chip", status.state, status.state === "running" ? "ok" : "warn");
    chip("store-chip", status.store.state, storeTone(status.store.state));
    chip("spill-chip", status.spill.state, spillTone(status.spill.state));
    const flow = status.pipeline === undefined ? { chip: "–", tone: "idle" as const } : verdictOf(status.pipeline);
    chip("pipeline-chip", flow.chip, flow.tone);
    const states = status.sources.map(sourceState);
    const good = states.filter((s) => s.tone === "ok").length;
    const worst = states.some((s) => s.tone === "bad") ? "bad" : states.some((s) => s.tone !== "ok") ? "warn" : "ok";
    chip("sources-chip", `${good} of ${states.length}`, states.length === 0 ? "idle" : worst);
    const about = [`agent ${status.agent.slice(0, 8)}`, `version ${status.version}`, `up ${span(status.uptime_s)}`];
    if (status.config !== undefined) {
      about.push(`configuration ${holds(status.config, status.now_us)}`);
      if (status.config.refused > 0) about.push(`${things(status.config.refused, "reload")} refused`);
    }
    setText(byId("about"), about.join(" · "));
    const alarm = alarmText(status);
    setHidden(byId("alarm"), alarm === "");
    setText(byId("alarm"), alarm);
    // It stays until a reload is accepted: what was asked for is not what runs.
    const refusal = refusalText(status);
    setHidden(byId("refusal"), refusal === "");
    setText(byId("refusal"), refusal);
  }

  /** The page's own connection: where it breaks, everything on the page is old, and looks it. */
  setLink(link: Link): void {
    if (this.link.kind !== link.kind) {
      if (link.kind === "live" && this.link.kind === "lost") this.announce("The connection to the agent is back.");
    }
    this.link = link;
    document.body.dataset["link"] = link.kind;
    this.tick(null);
  }

  /** Goes on counting; `now_s` is the agent's clock. */
  tick(now_s: number | null): void {
    const { kind, since_ms } = this.link;
    const gone = (performance.now() - since_ms) / 1000;
    const text = kind === "live" ? "live" : kind === "lost" ? `lost ${span(gone)}` : "connecting";
    chip("link-chip", text, kind === "live" ? "ok" : kind === "lost" ? "bad" : "idle");
    const banner = byId("lost");
    setHidden(banner, kind !== "lost");
    if (kind === "lost") setText(byId("lost-for"), ` for ${span(gone)}`);
    if (kind === "live" && now_s !== null) setText(byId("clock"), `${timeOfDay(now_s)} UTC`);
  }
}
