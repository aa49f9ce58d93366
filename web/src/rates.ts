// What flows: counters of successive status events become rates.

import type { Status } from "./api";

/** Rates are taken over this long: calm to read, quick enough to see a drain begin. */
const OVER_S = 5;

/** Turns counters into rates per second. */
export class Meter {
  private history: { t_s: number; counts: Record<string, number> }[] = [];

  /**
   * Takes the counters at `t_s` of the agent's uptime in; null until there are two of one run. A
   * counter that is new began at 0.
   */
  see(t_s: number, counts: Record<string, number>): Record<string, number> | null {
    const last = this.history.at(-1);
    if (last !== undefined && t_s < last.t_s) this.history = []; // another run
    this.history.push({ t_s, counts });
    while (this.history.length > 2 && t_s - (this.history[0]?.t_s ?? 0) > OVER_S) this.history.shift();
    const first = this.history[0];
    if (first === undefined || t_s <= first.t_s) return null;
    const per = ([name, now]: [string, number]) => [name, (now - (first.counts[name] ?? 0)) / (t_s - first.t_s)] as const;
    return Object.fromEntries(Object.entries(counts).map(per));
  }
}

export interface Rates {
  received_per_s: number;
  stored_per_s: number;
  /** Above zero it grows. */
  backlog_per_s: number;
}

export class RateMeter {
  private readonly meter = new Meter();

  /** Takes a status in; null until there are two of the same run of the agent. */
  see({ uptime_s, ledger, spill }: Status): Rates | null {
    const { received, stored } = ledger;
    const per_s = this.meter.see(uptime_s, { received, stored, backlog: spill.backlog_samples });
    if (per_s === null) return null;
    return { received_per_s: per_s["received"] ?? 0, stored_per_s: per_s["stored"] ?? 0, backlog_per_s: per_s["backlog"] ?? 0 };
  }
}
