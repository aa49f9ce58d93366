// The range of a chart's scale: round, and calm. It changes when the data leaves it, or fills only
// a small part of it; not with every sample.

/** Below this share of the range, the data is worth a closer look. */
const FILL_MIN = 0.35;
const PADDING = 0.08;

export type Range = [low: number, high: number];

/** The next range for data between `low` and `high` (null: there is none), given the one before. */
export function nextRange(before: Range | null, low: number | null, high: number | null, unit: string): Range {
  if (low === null || high === null || !Number.isFinite(low) || !Number.isFinite(high)) return before ?? [0, 1];
  if (unit === "%" && low >= 0 && high <= 100) return [-4, 104];
  const magnitude = Math.max(Math.abs(low), Math.abs(high));
  const least = magnitude > 0 ? magnitude * 0.01 : 1; // a flat line sits in the middle, its noise stays small
  const span = Math.max(high - low, least);
  if (before !== null && low >= before[0] && high <= before[1] && span >= (before[1] - before[0]) * FILL_MIN) return before;
  const middle = (low + high) / 2;
  const step = 10 ** Math.floor(Math.log10(span)) / 2;
  const bottom = Math.floor((middle - span * (0.5 + PADDING)) / step) * step;
  const top = Math.ceil((middle + span * (0.5 + PADDING)) / step) * step;
  return low >= 0 && bottom < 0 ? [-0.04 * top, top] : [bottom, top];
}

/** The decimals that tell two neighbouring ticks apart. */
export function tickDecimals(increment: number): number {
  return Math.min(8, Math.max(0, Math.ceil(-Math.log10(increment) - 1e-9)));
}
