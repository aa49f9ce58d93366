// Numbers as an engineer reads them: a fixed count of decimals per channel, thin spaces between
// thousands, a true minus, so that digits stay in their place while values change.

const THIN = "\u202f";
const MINUS = "\u2212";
/** What stands where there is no number. */
export const NONE = "–";

/** A number with this many decimals. */
export function number(value: number | null | undefined, decimals = 0): string {
  if (value === null || value === undefined || !Number.isFinite(value)) return NONE;
  if (Math.abs(value) >= 1e15) return value.toExponential(3);
  const fixed = Math.abs(value).toFixed(decimals);
  const negative = value < 0 && Number(fixed) !== 0;
  const dot = fixed.indexOf(".");
  const whole = dot < 0 ? fixed : fixed.slice(0, dot);
  const rest = dot < 0 ? "" : fixed.slice(dot);
  return (negative ? MINUS : "") + whole.replace(/\B(?=(\d{3})+$)/g, THIN) + rest;
}

/** A count of things, in the singular where there is one. */
export function things(count: number, singular: string): string {
  return `${number(count)} ${singular}${count === 1 ? "" : "s"}`;
}

/** Bytes in binary units, three digits. */
export function bytes(count: number | null | undefined): string {
  if (count === null || count === undefined || !Number.isFinite(count)) return NONE;
  const units = ["B", "KiB", "MiB", "GiB", "TiB"];
  let value = count;
  let unit = 0;
  while (value >= 1000 && unit < units.length - 1) {
    value /= 1024;
    unit += 1;
  }
  return `${number(value, unit === 0 || value >= 100 ? 0 : value >= 10 ? 1 : 2)} ${units[unit]}`;
}

/** A span of time, in its two greatest units. */
export function span(seconds: number | null | undefined): string {
  if (seconds === null || seconds === undefined || !Number.isFinite(seconds)) return NONE;
  const s = Math.max(0, seconds);
  if (s < 9.95) return `${s.toFixed(1)} s`;
  if (s < 60) return `${Math.floor(s)} s`;
  if (s < 3600) return `${Math.floor(s / 60)} min ${Math.floor(s % 60)} s`;
  if (s < 86_400) return `${Math.floor(s / 3600)} h ${Math.floor((s % 3600) / 60)} min`;
  return `${Math.floor(s / 86_400)} d ${Math.floor((s % 86_400) / 3600)} h`;
}

/** A span of time in its greatest unit, where there is little room. */
export function spanShort(seconds: number): string {
  const s = Math.max(0, seconds);
  if (s < 9.95) return `${s.toFixed(1)} s`;
  if (s < 100) return `${Math.floor(s)} s`;
  if (s < 6000) return `${Math.floor(s / 60)} min`;
  if (s < 172_800) return `${Math.floor(s / 3600)} h`;
  return `${Math.floor(s / 86_400)} d`;
}

/** Milliseconds, three digits. */
export function millis(ms: number | null | undefined): string {
  if (ms === null || ms === undefined || !Number.isFinite(ms)) return NONE;
  return ms >= 1000 ? `${number(ms / 1000, 2)} s` : `${number(ms, ms >= 100 ? 0 : ms >= 10 ? 1 : 2)} ms`;
}

/** The time of day in UTC, of seconds since 1970. */
export function timeOfDay(seconds: number, decimals = 0): string {
  if (!Number.isFinite(seconds)) return NONE;
  const ms = Math.floor(seconds * 1000 + 1e-3);
  const iso = new Date(Math.min(Math.max(ms, 0), 8.64e15)).toISOString();
  return iso.slice(11, decimals === 0 ? 19 : 20 + Math.min(decimals, 3));
}

/** How many decimals a channel shows, from its unit and the values seen so far: it only grows calmer. */
export class Decimals {
  private whole = true;
  private greatest = 0;
  private readonly position: boolean;
  constructor(
    private readonly unit: string,
    channel: string,
  ) {
    this.position = /^(deg|°)$/.test(unit) && /(^|[._])(lat|lon|lng)(itude|gitude)?$/i.test(channel);
  }

  see(value: number | null): void {
    if (value === null || !Number.isFinite(value)) return;
    if (!Number.isInteger(value)) this.whole = false;
    this.greatest = Math.max(this.greatest, Math.abs(value));
  }

  get count(): number {
    if (this.whole) return 0;
    if (this.position) return 6;
    if (this.unit === "%") return 1;
    if (this.greatest >= 1000) return 0;
    if (this.greatest >= 100) return 1;
    if (this.greatest >= 1) return 2;
    if (this.greatest >= 0.01) return 3;
    if (this.greatest >= 0.001) return 4;
    return 6;
  }
}

/** The quality flags, with the agent's names for them. */
const FLAGS: readonly [bit: number, name: string, short: string, long: string][] = [
  [1 << 0, "out_of_range", "range", "outside the range that the configuration declares"],
  [1 << 1, "not_finite", "nan", "not a number, or infinite"],
  [1 << 2, "receive_time", "rx t", "timed by the gateway: the source sent no time"],
  [1 << 3, "conflict", "confl", "another value exists for the same sample"],
  [1 << 4, "provisional_time", "prov", "timed by a gateway clock that was not known to be right"],
  [1 << 5, "rate_of_change", "jump", "changed faster than the configuration declares possible"],
  [1 << 6, "stuck", "stuck", "has not changed for longer than the configuration declares possible"],
  [1 << 7, "after_gap", "gap", "the first after samples that never came"],
  [1 << 8, "implausible_time", "time", "its time cannot be: backwards, or far from the gateway's clock"],
  [1 << 9, "spike", "spike", "far outside the channel's recent spread"],
  [1 << 10, "drift", "drift", "the channel's level has moved away from its usual one"],
  [1 << 11, "flatline", "flat", "the channel stands still though it usually moves"],
  [1 << 12, "rate_drop", "slow", "the channel comes much slower than usual"],
  [1 << 13, "doubtful_input", "input", "computed from an input that carries a flag of its own"],
];

/**
 * The flags that are set: the first in short, with how many more, and all by name in full, a line
 * each. Both are empty where the sample is good.
 */
export function quality(bits: number): { short: string; long: string } {
  if (bits === 0) return { short: "", long: "" };
  const set = FLAGS.filter(([bit]) => (bits & bit) !== 0);
  const short = set.map(([, , s]) => s);
  const long = set.map(([, name, , l]) => `${name}: ${l}`);
  const unknown = FLAGS.reduce((rest, [bit]) => rest & ~bit, bits);
  if (unknown !== 0) {
    short.push(`0x${unknown.toString(16)}`);
    long.push(`unknown flags 0x${unknown.toString(16)}`);
  }
  return { short: short.length === 1 ? `${short[0]}` : `${short[0]} +${short.length - 1}`, long: long.join("\n") };
}
