// One strip chart: a head that reads the live values and those at the cursor, and the plot with
// each channel's band between the least and the greatest sample of a bin.

import uPlot from "uplot";
import { join, type Bins } from "./bins";
import { button, el, setHidden, setText } from "./dom";
import { NONE, number, span } from "./format";
import { nextRange, tickDecimals, type Range } from "./scale";
import { colour } from "./theme";
import { age_s, staleAfter_s, type Live } from "./values";

export const WINDOW_S = 30;
/** A line ends where bins are further apart than this, or than three periods of a slow channel. */
const GAP_S_MIN = 0.35;
const GAP_PERIODS = 3.5;
/** Channels without a rate (laps, markers) hold their value this long. */
const GAP_S_UNRATED = 10;

export interface Line {
  key: string;
  name: string;
  unit: string;
  live: Live | undefined;
  bins: Bins;
}

export interface ChartActions {
  remove(key: string): void;
  joinUp: (() => void) | null;
  split: (() => void) | null;
}

export interface Frame {
  left_px: number;
  right_px: number;
}

function gap_s(line: Line): number {
  const rate = line.live?.channel.rate_hz ?? null;
  return rate !== null && rate > 0 ? Math.max(GAP_S_MIN, GAP_PERIODS / rate) : GAP_S_UNRATED;
}

export class Chart {
  readonly node = el("section", "chart");
  private readonly plot = el("div", "plot");
  private readonly readings: Reading[];
  private readonly units: string[];
  private readonly ranges = new Map<string, Range>();
  private u: uPlot | null = null;
  private dirty = true;

  constructor(
    readonly lines: readonly Line[],
    actions: ChartActions,
    private readonly frame: Frame,
  ) {
    this.units = [...new Set(lines.map((line) => line.unit))];
    this.readings = lines.map((line, i) => new Reading(line, i, () => actions.remove(line.key)));
    const list = el("ul", "lines", ...this.readings.map((r) => r.node));
    const acts = el("div", "acts");
    if (actions.split !== null) acts.append(button("act", "Give each channel a chart of its own", actions.split, "split"));
    if (actions.joinUp !== null) acts.append(button("act", "Lay this chart over the one above", actions.joinUp, "join ↑"));
    this.node.append(el("header", "chart-head", list, acts), this.plot);
    this.node.setAttribute("aria-label", `Chart of ${lines.map((line) => line.name).join(" and ")}`);
  }

  /** Where the plot lies, in pixels from the left edge of the chart. */
  get plotBox(): { left: number; width: number; top: number; height: number } {
    return {
      left: this.plot.offsetLeft + this.frame.left_px,
      width: Math.max(1, this.plot.clientWidth - this.frame.left_px - this.frame.right_px),
      top: this.plot.offsetTop,
      height: this.plot.clientHeight,
    };
  }

  get usesRightScale(): boolean {
    return this.units.length > 1;
  }

  /** New bins have come for one of its channels. */
  touch(): void {
    this.dirty = true;
  }

  /** Builds the plot for the place it has, in the colours that are on. */
  mount(): void {
    this.u?.destroy();
    this.u = new uPlot(this.options(), [[]], this.plot);
    this.dirty = true;
  }

  resize(): void {
    this.u?.setSize(this.size());
  }

  /** Draws the window that ends at `edge_s`. */
  draw(edge_s: number): void {
    const u = this.u;
    if (u === null) return;
    u.batch(() => {
      if (this.dirty) {
        const data = join(this.lines.map((line) => ({ bins: line.bins, gap_s: gap_s(line) })));
        u.setData(data as unknown as uPlot.AlignedData, false);
        this.dirty = false;
      }
      u.setScale("x", { min: edge_s - WINDOW_S, max: edge_s });
    });
  }

  /** Brings the head up to date; `cursor_s` is the time under the cursor, if there is one. */
  read(cursor_s: number | null): void {
    for (const reading of this.readings) reading.update(cursor_s);
  }

  destroy(): void {
    this.u?.destroy();
    this.u = null;
    this.node.remove();
  }

  private size(): { width: number; height: number } {
    return { width: Math.max(1, this.plot.clientWidth), height: Math.max(1, this.plot.clientHeight) };
  }

  private options(): uPlot.Options {
    const ink = colour("--ink-3");
    const grid = { stroke: colour("--grid"), width: 1 };
    const scales: uPlot.Scales = { x: { time: false, auto: false } };
    for (const unit of this.units) {
      scales[`y:${unit}`] = {
        auto: true,
        range: (_u, low, high) => {
          const range = nextRange(this.ranges.get(unit) ?? null, low, high, unit);
          this.ranges.set(unit, range);
          return range;
        },
      };
    }
    const yAxis = (unit: string, right: boolean): uPlot.Axis => ({
      scale: `y:${unit}`,
      side: right ? 1 : 3,
      size: right ? this.frame.right_px : this.frame.left_px,
      stroke: this.units.length > 1 ? colour(`--line-${this.lines.findIndex((line) => line.unit === unit) + 1}`) : ink,
      font: "11px system-ui, sans-serif",
      gap: 6,
      space: 20,
      grid: right ? { show: false } : grid,
      ticks: { show: false },
      values: (_u, splits, _axis, _space, increment) => splits.map((v) => number(v, tickDecimals(increment))),
    });
    const left = yAxis(this.units[0] ?? "", false);
    const right = this.units[1] === undefined ? null : yAxis(this.units[1], true);
    const series: uPlot.Series[] = [{}];
    const bands: uPlot.Band[] = [];
    this.lines.forEach((line, i) => {
      const stroke = colour(`--line-${i + 1}`);
      const edge: uPlot.Series = { scale: `y:${line.unit}`, stroke, width: 1.25, points: { show: false } };
      series.push({ ...edge }, { ...edge });
      bands.push({ series: [2 * i + 1, 2 * i + 2], fill: stroke.replace(/^rgb\((.*)\)$/, "rgba($1, 0.3)") });
    });
    return {
      ...this.size(),
      padding: [8, right === null ? this.frame.right_px : 0, 6, 0],
      legend: { show: false },
      cursor: { show: false },
      scales,
      axes: [
        { scale: "x", size: 0, grid, ticks: { show: false }, values: (_u, splits) => splits.map(() => ""), incrs: [5], space: 1 },
        left,
        ...(right === null ? [] : [right]),
      ],
      series,
      bands,
    };
  }
}

/** One channel's line in a chart's head. */
class Reading {
  readonly node: HTMLLIElement;
  private readonly value = el("output", "value");
  private readonly age = el("span", "age");
  private readonly atCursor = el("output", "at-cursor");

  constructor(
    private readonly line: Line,
    index: number,
    remove: () => void,
  ) {
    const swatch = el("i", `swatch line-${index + 1}`);
    swatch.setAttribute("aria-hidden", "true");
    this.value.setAttribute("aria-live", "off");
    this.atCursor.setAttribute("aria-live", "off");
    this.node = el(
      "li",
      "reading",
      swatch,
      el("span", "name", line.name),
      this.value,
      el("span", "unit", line.unit),
      button("act close", `Take ${line.name} off the chart`, remove, "×"),
      this.age,
      this.atCursor,
    );
  }

  update(cursor_s: number | null): void {
    const live = this.line.live;
    if (live === undefined) {
      setText(this.value, NONE);
      setText(this.age, "unknown to the agent");
      this.node.classList.add("stale");
      return;
    }
    const decimals = live.decimals.count;
    const age = age_s(live);
    const stale = age > staleAfter_s(live.channel.rate_hz);
    setText(this.value, number(live.value, decimals));
    this.node.classList.toggle("stale", stale);
    setText(this.age, stale ? `stale ${span(age)}` : "");
    setHidden(this.atCursor, cursor_s === null);
    setHidden(this.age, cursor_s !== null);
    if (cursor_s === null) return;
    const at = this.line.bins.at(cursor_s, gap_s(this.line));
    const low = number(at?.min, decimals);
    const high = number(at?.max, decimals);
    setText(this.atCursor, at === null ? "no data" : low === high ? low : `${low} … ${high}`);
  }
}
