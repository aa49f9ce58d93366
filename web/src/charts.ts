// The stack of strip charts over one time axis. Its right edge is the agent's clock, so a channel
// that lags or has stopped shows a gap at the edge; it scrolls by whole device pixels.

import type { PointsEvent } from "./api";
import { Bins } from "./bins";
import { Chart, WINDOW_S, type Frame, type Line } from "./chart";
import type { AgentClock } from "./clock";
import { byId, setHidden, setText } from "./dom";
import { span, timeOfDay } from "./format";
import { Ruler } from "./ruler";
import type { Selection } from "./selection";
import { age_s, type Values } from "./values";

/** Held charts keep the bins of this time; then they run on by themselves. */
const HOLD_S_MAX = 300;
/** Source time this far from the agent's clock is a clock of its own: the axis follows it. */
const SHIFT_S_MIN = 5;

export class Charts {
  private readonly stack = byId("stack");
  private readonly line = byId("cursor");
  private readonly badge = byId("cursor-time");
  private readonly hold = byId("hold") as HTMLButtonElement;
  private readonly ruler = new Ruler(WINDOW_S, (step) => this.moveCursor(step));
  private readonly bins = new Map<string, Bins>();
  private charts: Chart[] = [];
  private frame: Frame = { left_px: 56, right_px: 12 };
  private held_s: number | null = null;
  private shift_s = 0;
  /** The cursor's place in the window, 0 to 1. */
  private cursor: number | null = null;
  private narrow = false;
  private drawn_s = 0;
  private dirty = true;
  private read_ms = 0;

  constructor(
    private readonly values: Values,
    private readonly selection: Selection,
    private readonly clock: AgentClock,
    private readonly say: (text: string) => void,
  ) {
    this.hold.addEventListener("click", () => this.toggleHold());
    this.stack.addEventListener("pointermove", (event) => this.pointAt(event));
    this.stack.addEventListener("pointerdown", (event) => this.pointAt(event));
    this.stack.addEventListener("pointerleave", (event) => {
      if (event.pointerType === "mouse") this.setCursor(null);
    });
    new ResizeObserver(() => {
      if (this.isNarrow() !== this.narrow) this.rebuild();
      else for (const chart of this.charts) chart.resize();
      this.dirty = true;
    }).observe(this.stack);
    const loop = (): void => {
      this.tick();
      requestAnimationFrame(loop);
    };
    requestAnimationFrame(loop);
  }

  /** Builds the charts anew: the choice, the channels or the colours have changed. */
  rebuild(): void {
    const focus = focusWithin(this.stack);
    for (const chart of this.charts) chart.destroy();
    const cars = new Set([...this.values.byKey.values()].map((live) => live.channel.car));
    const wanted = new Set(this.selection.keys());
    for (const key of this.bins.keys()) if (!wanted.has(key)) this.bins.delete(key);
    const unitOf = (key: string): string => this.values.byKey.get(key)?.channel.unit ?? "";
    const all = this.selection.charts.map((keys) => keys.map((key) => this.lineOf(key, cars.size > 1)));
    this.narrow = this.isNarrow();
    const narrow = this.narrow;
    const twoScales = all.some((lines) => new Set(lines.map((line) => line.unit)).size > 1);
    this.frame = { left_px: narrow ? 46 : 56, right_px: twoScales ? (narrow ? 40 : 48) : 12 };
    const told = (why: string | null): void => {
      if (why !== null) this.say(why);
    };
    this.charts = all.map(
      (lines, i) =>
        new Chart(
          lines,
          {
            remove: (key) => this.selection.remove(key),
            joinUp: i === 0 ? null : () => told(this.selection.joinUp(i, unitOf)),
            split: lines.length < 2 ? null : () => told(this.selection.split(i)),
          },
          this.frame,
        ),
    );
    this.line.before(...this.charts.map((chart) => chart.node));
    setHidden(byId("no-charts"), this.charts.length > 0);
    for (const chart of this.charts) chart.mount();
    this.ruler.paint();
    this.dirty = true;
    focus();
  }

  /** Takes the bins of an event in. */
  points(event: PointsEvent): void {
    for (const [key, points] of Object.entries(event.series)) {
      let bins = this.bins.get(key);
      if (bins === undefined) {
        if (!this.selection.has(key)) continue;
        bins = new Bins();
        this.bins.set(key, bins);
      }
      bins.merge(points);
      for (const chart of this.charts) if (chart.lines.some((line) => line.key === key)) chart.touch();
    }
    this.dirty = true;
  }

  /** Follows a source whose clock is far from the agent's; called with the last values. */
  follow(): void {
    this.readings();
    const now_s = this.clock.now_s();
    if (now_s === null) return;
    let lag_s: number | null = null;
    for (const key of this.selection.keys()) {
      const live = this.values.byKey.get(key);
      if (live === undefined || age_s(live) > 2) continue;
      const lag = now_s - live.t_us / 1e6;
      if (lag_s === null || Math.abs(lag) < Math.abs(lag_s)) lag_s = lag;
    }
    if (lag_s === null) return; // nothing is live: the axis stays where it was and runs on
    const wanted = Math.abs(lag_s) < SHIFT_S_MIN ? 0 : lag_s;
    if (Math.abs(wanted - this.shift_s) > 1) this.shift_s = wanted;
    const note = byId("shift");
    setHidden(note, this.shift_s === 0);
    const side = this.shift_s > 0 ? "behind" : "ahead of";
    if (this.shift_s !== 0) setText(note, `source time is ${span(Math.abs(this.shift_s))} ${side} the agent’s clock`);
  }

  /** Whether the scales have to be slim. */
  private isNarrow(): boolean {
    return this.stack.clientWidth < 600;
  }

  private lineOf(key: string, withCar: boolean): Line {
    let bins = this.bins.get(key);
    if (bins === undefined) {
      bins = new Bins();
      this.bins.set(key, bins);
    }
    const live = this.values.byKey.get(key);
    const name = live === undefined ? key : withCar ? `${live.channel.car} ${live.channel.channel}` : live.channel.channel;
    return { key, name, unit: live?.channel.unit ?? "", live, bins };
  }

  private edge_s(): number | null {
    const now_s = this.clock.now_s();
    if (now_s === null) return null;
    const running = now_s - this.shift_s;
    if (this.held_s === null) return running;
    if (running - this.held_s > HOLD_S_MAX) this.toggleHold();
    return this.held_s ?? running;
  }

  private tick(): void {
    const edge = this.edge_s();
    const first = this.charts[0];
    if (edge === null || first === undefined) return;
    const box = first.plotBox;
    const step = WINDOW_S / (box.width * devicePixelRatio);
    const calm = matchMedia("(prefers-reduced-motion: reduce)").matches ? Math.max(step, 0.5) : step;
    const snapped = Math.ceil(edge / calm) * calm;
    const moved = snapped !== this.drawn_s;
    if (moved || (this.dirty && calm === step)) {
      this.drawn_s = snapped;
      this.dirty = false;
      const cut = (this.held_s ?? edge) - WINDOW_S - 1;
      for (const bins of this.bins.values()) bins.trim(cut);
      for (const chart of this.charts) if (isVisible(chart.node)) chart.draw(snapped);
      this.ruler.draw(snapped, box.left, box.width);
    }
    const now = performance.now();
    if (now - this.read_ms >= 100) {
      this.read_ms = now;
      this.readings();
    }
  }

  private readings(): void {
    const at = this.cursor === null ? null : this.drawn_s - WINDOW_S * (1 - this.cursor);
    for (const chart of this.charts) chart.read(at);
    this.ruler.say(at, this.drawn_s);
    if (at !== null) setText(this.badge, `${timeOfDay(at, 2)}  −${(this.drawn_s - at).toFixed(1)} s`);
    if (this.held_s !== null) {
      const running = (this.clock.now_s() ?? 0) - this.shift_s;
      setText(this.hold, `held ${span(running - this.held_s)} · run on`);
    }
  }

  private pointAt(event: PointerEvent): void {
    const box = this.charts[0]?.plotBox;
    if (box === undefined) return;
    const x = (event.clientX - this.stack.getBoundingClientRect().left - box.left) / box.width;
    this.setCursor(x >= 0 && x <= 1 ? x : null);
  }

  private moveCursor(step_s: number | null): void {
    if (step_s === null) this.setCursor(null);
    else this.setCursor(Math.min(1, Math.max(0, (this.cursor ?? 1) + step_s / WINDOW_S)));
  }

  private setCursor(cursor: number | null): void {
    this.cursor = cursor;
    const box = this.charts[0]?.plotBox;
    setHidden(this.line, cursor === null || box === undefined);
    if (cursor !== null && box !== undefined) {
      this.line.style.transform = `translateX(${Math.round(box.left + cursor * box.width)}px)`;
      this.line.classList.toggle("flip", cursor > 0.5);
    }
    this.readings();
  }

  /** Stops the scrolling, to read; it says for how long, so that nobody takes it for live. */
  toggleHold(): void {
    const now_s = this.clock.now_s();
    this.held_s = this.held_s === null && now_s !== null ? now_s - this.shift_s : null;
    this.hold.setAttribute("aria-pressed", String(this.held_s !== null));
    if (this.held_s === null) setText(this.hold, "hold");
    this.stack.classList.toggle("held", this.held_s !== null);
    this.dirty = true;
  }
}

function isVisible(node: HTMLElement): boolean {
  const box = node.getBoundingClientRect();
  return box.bottom > 0 && box.top < innerHeight;
}

/** Remembers which button of a list has the focus, to give it back when the list is built anew. */
function focusWithin(parent: HTMLElement): () => void {
  const buttons = [...parent.querySelectorAll("button")];
  const index = buttons.indexOf(document.activeElement as HTMLButtonElement);
  if (index < 0) return () => undefined;
  return () => {
    const now = [...parent.querySelectorAll("button")];
    (now[Math.min(index, now.length - 1)] ?? byId("search")).focus();
  };
}
