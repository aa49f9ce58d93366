// What flows: counters of successive status events become rates.

import type { Status } from "./api";

/** Rates are taken over this long: calm to read, quick enough to see a drain begin. */
const OVER_S = 5;

export interface Rates {
  received_per_s: number;
  stored_per_s: number;
  /** Above zero it grows. */
  backlog_per_s: number;
}

export class RateMeter {
  private history: { t_s: number; received: number; stored: number; backlog: number }[] = [];

  /** Takes a status in; null until there are two of the same run of the agent. */
  see(status: Status): Rates | null {
    const at = {
      t_s: status.uptime_s,
      received: status.ledger.received,
      stored: status.ledger.stored,
      backlog: status.spill.backlog_samples,
    };
    const last = this.history.at(-1);
    if (last !== undefined && at.t_s < last.t_s) this.history = []; // another run
    this.history.push(at);
    while (this.history.length > 2 && at.t_s - (this.history[0]?.t_s ?? 0) > OVER_S) this.history.shift();
    const first = this.history[0];
    if (first === undefined || at.t_s <= first.t_s) return null;
    const per = (now: number, then: number): number => (now - then) / (at.t_s - first.t_s);
    return {
      received_per_s: per(at.received, first.received),
      stored_per_s: per(at.stored, first.stored),
      backlog_per_s: per(at.backlog, first.backlog),
    };
  }
}

