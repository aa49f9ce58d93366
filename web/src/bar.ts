// A bar that fills: a meter, which is the worse the fuller it is and has a tick at its peak; or a progress.

import { el, setAttr } from "./dom";

/** From here on a bar is marked as filling up, and as nearly full. */
const WARN = 0.6;
const BAD = 0.9;

export class Bar {
  private readonly fill = el("i", "fill");
  private readonly tick = el("i", "tick");
  readonly node = el("div", "bar", this.fill, this.tick);

  constructor(
    label: string,
    private readonly kind: "meter" | "progress" = "meter",
  ) {
    this.node.classList.add(kind);
    this.node.setAttribute("role", kind === "meter" ? "meter" : "progressbar");
    this.node.setAttribute("aria-label", label);
    this.node.setAttribute("aria-valuemin", "0");
    this.node.setAttribute("aria-valuemax", "100");
  }

  /** Shares from 0 to 1; `text` is what the bar says in words. */
  set(share: number, peak: number, text: string): void {
    const at = clamp(share);
    const top = clamp(peak);
    this.fill.style.transform = `scaleX(${at.toFixed(4)})`;
    this.tick.style.left = `${(top * 100).toFixed(2)}%`;
    this.tick.hidden = top === 0;
    if (this.kind === "meter") setAttr(this.node, "data-tone", at >= BAD ? "bad" : at >= WARN ? "warn" : "ok");
    setAttr(this.node, "aria-valuenow", String(Math.round(at * 100)));
    setAttr(this.node, "aria-valuetext", text);
  }
}

function clamp(share: number): number {
  return Number.isFinite(share) ? Math.min(1, Math.max(0, share)) : 0;
}
