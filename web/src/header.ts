// The head of the page: whose data this is, and the states that decide whether to trust it.

import type { Status } from "./api";
import { byId, setAttr, setHidden, setText } from "./dom";
import { span, timeOfDay } from "./format";
import { verdictOf } from "./pipeline";
import { sourceState } from "./sources";
import type { Link } from "./stream";
import { spillTone, storeTone, type Tone } from "./way";

function chip(id: string, text: string, tone: Tone): void {
  const node = byId(id);
  setText(node, text);
  setAttr(node.parentElement ?? node, "data-tone", tone);
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
    setText(byId("about"), `agent ${status.agent.slice(0, 8)} · version ${status.version} · up ${span(status.uptime_s)}`);
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
