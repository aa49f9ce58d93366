// Which channels are charted, and how they share charts. The choice lives in the address (so that a
// view can be sent to somebody) and in the browser's storage (so that it is there tomorrow).

import type { Channel } from "./api";

/** With six lines each: 48 channels, below the 64 that the agent streams to one page. */
export const CHARTS_MAX = 8;
/** Six lines with their bands are as many as one can tell apart. */
export const LINES_MAX = 6;
/** Two scales: left and right. */
export const UNITS_MAX = 2;
const DEFAULT_CHARTS = 4;
const STORAGE_KEY = "pitwire.charts";

/** Charts from top to bottom, each a list of channel keys. */
export type Charts = string[][];

/** The address's form: channels joined with `,`, charts with `;`. */
export function write(charts: Charts): string {
  return charts.map((chart) => chart.map(encodeURIComponent).join(",")).join(";");
}

/** Reads that form; what is beyond the bounds is left out. */
export function read(text: string): Charts {
  const seen = new Set<string>();
  const charts: Charts = [];
  for (const part of text.split(";")) {
    const chart: string[] = [];
    for (const piece of part.split(",")) {
      let key: string;
      try {
        key = decodeURIComponent(piece);
      } catch {
        continue;
      }
      if (key === "" || seen.has(key) || chart.length >= LINES_MAX) continue;
      seen.add(key);
      chart.push(key);
    }
    if (chart.length > 0 && charts.length < CHARTS_MAX) charts.push(chart);
  }
  return charts;
}

/** What an engineer looks at first: a list of charts, each a list of lines, each the names to try in order. */
const FIRST_CHOICE: readonly (readonly (readonly RegExp[])[])[] = [
  [[/^(?!.*(wheel|gps))(.*[._])?(speed|velocity)(_\w+)?$/i, /^(?!.*wheel)(.*[._])?(speed|velocity)$/i]],
  [[/(^|[._])(engine_?)?rpm$/i, /(^|[._])engine[._]?speed$/i]],
  [
    [/(^|[._])throttle(_\w+)?$/i, /(^|[._])throttle[._]pos\w*$/i],
    [/(^|[._])brake([._](pedal|pos\w*))?$/i, /(^|[._])brake[._]?press\w*([._]f\w*)?$/i],
  ],
  [
    [/(^|[._])(acc\w*|g)[._](lat\w*|y)$|(^|[._])lat\w*[._]?(acc\w*|g)$/i],
    [/(^|[._])(acc\w*|g)[._](lon\w*|x)$|(^|[._])lon\w*[._]?(acc\w*|g)$/i],
  ],
  [[/(^|[._])gear$/i]],
  [[/(^|[._])steer\w*([._]\w+)?$/i]],
];

/** The charts to start with: known names if there are any, else the first channels. */
export function firstChoice(channels: readonly Channel[], car: string): Charts {
  const own = channels.filter((c) => c.car === car);
  const from = own.length > 0 ? own : channels;
  const charts: Charts = [];
  const taken = new Set<string>();
  for (const lines of FIRST_CHOICE) {
    const chart: Channel[] = [];
    for (const patterns of lines) {
      const pattern = patterns.find((p) => from.some((c) => p.test(c.channel) && !taken.has(c.key)));
      const found = from.find((c) => pattern?.test(c.channel) && !taken.has(c.key));
      if (found === undefined) continue;
      taken.add(found.key);
      chart.push(found);
    }
    if (chart.length > 0 && charts.length < DEFAULT_CHARTS) charts.push(chart.map((c) => c.key));
  }
  if (charts.length > 0) return charts;
  return from.slice(0, DEFAULT_CHARTS).map((c) => [c.key]);
}

export class Selection {
  charts: Charts = [];
  /** False as long as the page chose for itself: then better channels may still replace it. */
  chosen = false;

  constructor(private readonly onChange: () => void) {
    this.load();
    addEventListener("hashchange", () => {
      this.load();
      this.onChange();
    });
  }

  /** All charted channels. */
  keys(): string[] {
    return this.charts.flat();
  }

  has(key: string): boolean {
    return this.charts.some((chart) => chart.includes(key));
  }

  /** Chooses for somebody who has not chosen yet. */
  suggest(channels: readonly Channel[], car: string): void {
    if (this.chosen) return;
    const charts = firstChoice(channels, car);
    if (write(charts) === write(this.charts)) return;
    this.charts = charts;
    this.onChange();
  }

  /** Gives a channel a chart of its own, or takes it out. Says why, where it cannot. */
  toggle(key: string): string | null {
    if (this.has(key)) return this.remove(key);
    if (this.charts.length >= CHARTS_MAX) return `at most ${CHARTS_MAX} charts: remove one first, or join two`;
    return this.change([...this.charts, [key]]);
  }

  remove(key: string): null {
    return this.change(this.charts.map((chart) => chart.filter((k) => k !== key)).filter((chart) => chart.length > 0));
  }

  /** Lays a chart over the one above it. */
  joinUp(index: number, unitOf: (key: string) => string): string | null {
    const above = this.charts[index - 1];
    const chart = this.charts[index];
    if (above === undefined || chart === undefined) return null;
    const joined = [...above, ...chart];
    if (joined.length > LINES_MAX) return `at most ${LINES_MAX} channels share a chart`;
    if (new Set(joined.map(unitOf)).size > UNITS_MAX) return `at most ${UNITS_MAX} units share a chart`;
    return this.change(this.charts.flatMap((c, i) => (i === index - 1 ? [joined] : i === index ? [] : [c])));
  }

  /** Gives each channel of a chart its own, as far as there is room. */
  split(index: number): string | null {
    const chart = this.charts[index];
    if (chart === undefined || chart.length < 2) return null;
    if (this.charts.length - 1 + chart.length > CHARTS_MAX) return `at most ${CHARTS_MAX} charts: remove one first`;
    return this.change(this.charts.flatMap((c, i) => (i === index ? c.map((key) => [key]) : [c])));
  }

  private change(charts: Charts): null {
    this.charts = charts;
    this.chosen = true;
    const text = write(charts);
    history.replaceState(null, "", `#charts=${text}`);
    try {
      localStorage.setItem(STORAGE_KEY, text);
    } catch {
      // Storage may be switched off; the address still holds the choice.
    }
    this.onChange();
    return null;
  }

  private load(): void {
    const match = /^#charts=(.*)$/.exec(location.hash);
    let text = match?.[1] ?? null;
    if (text === null) {
      try {
        text = localStorage.getItem(STORAGE_KEY);
      } catch {
        text = null;
      }
    }
    if (text === null) return;
    const charts = read(text);
    if (charts.length === 0) return;
    this.charts = charts;
    this.chosen = true;
  }
}
