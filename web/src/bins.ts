// A channel's bins over the last minutes, and how those of several channels become the columns
// that uPlot draws. Pure: no page, no clock.

import type { Point } from "./api";

/** In a column: `undefined` means that only another channel has a bin there, null ends the line. */
export type Cell = number | null | undefined;

export class Bins {
  /** Starts of the bins, in seconds, strictly rising. */
  readonly t_s: number[] = [];
  readonly min: (number | null)[] = [];
  readonly max: (number | null)[] = [];

  /** Takes new bins in; one that is there already has grown and is replaced. */
  merge(points: readonly Point[]): void {
    for (const [t_us, min, max] of points) {
      const t = t_us / 1e6;
      const last = this.t_s.length - 1;
      const at = last < 0 || t > (this.t_s[last] as number) ? last + 1 : lowerBound(this.t_s, t);
      const replaced = this.t_s[at] === t ? 1 : 0;
      this.t_s.splice(at, replaced, t);
      this.min.splice(at, replaced, min);
      this.max.splice(at, replaced, max);
    }
  }

  /** Forgets the bins before a time, but keeps one, so that a line enters the window from the left. */
  trim(before_s: number): void {
    const cut = Math.max(0, lowerBound(this.t_s, before_s) - 1);
    if (cut === 0) return;
    this.t_s.splice(0, cut);
    this.min.splice(0, cut);
    this.max.splice(0, cut);
  }

  /** The bin that holds a time, or the last one before it within `within_s`. */
  at(t_s: number, within_s: number): { min: number | null; max: number | null } | null {
    const after = lowerBound(this.t_s, t_s);
    const i = this.t_s[after] === t_s ? after : after - 1;
    const t = this.t_s[i];
    if (t === undefined || t_s - t > within_s) return null;
    return { min: this.min[i] ?? null, max: this.max[i] ?? null };
  }
}

/** The first index whose time is not before `t`. */
export function lowerBound(times: readonly number[], t: number): number {
  let low = 0;
  let high = times.length;
  while (low < high) {
    const mid = (low + high) >> 1;
    if ((times[mid] as number) < t) low = mid + 1;
    else high = mid;
  }
  return low;
}

/** The columns of several channels over one rising column of times: `[t, max, min, max, min, …]`. */
export function join(series: readonly { bins: Bins; gap_s: number }[]): [number[], ...Cell[][]] {
  const times = new Set<number>();
  const columns = series.map(({ bins, gap_s }) => {
    const cells = new Map<number, [Cell, Cell]>();
    for (let i = 0; i < bins.t_s.length; i += 1) {
      const t = bins.t_s[i] as number;
      const before = bins.t_s[i - 1];
      if (before !== undefined && t - before > gap_s) cells.set((before + t) / 2, [null, null]);
      cells.set(t, [bins.max[i] ?? null, bins.min[i] ?? null]);
    }
    for (const t of cells.keys()) times.add(t);
    return cells;
  });
  const t_s = [...times].sort((a, b) => a - b);
  const out: [number[], ...Cell[][]] = [t_s];
  for (const cells of columns) {
    out.push(
      t_s.map((t) => cells.get(t)?.[0]),
      t_s.map((t) => cells.get(t)?.[1]),
    );
  }
  return out;
}
