// The channels that the agent knows and the last value of each, with its age on this page's clock.

import { fetchChannels, type Channel, type ValuesEvent } from "./api";
import { Decimals } from "./format";

/** A value older than this is stale; for slow channels, older than three periods. */
const STALE_S = 2;
const STALE_PERIODS = 3;
/** The list of channels is asked for at most this often. */
const REFRESH_MS_MIN = 2000;

export interface Live {
  channel: Channel;
  decimals: Decimals;
  value: number | null;
  quality: number;
  t_us: number;
  age_s: number;
  /** When `age_s` was true, by `performance.now()`. */
  at_ms: number;
}

/** The age after which a channel's value is stale. */
export function staleAfter_s(rate_hz: number | null): number {
  return rate_hz !== null && rate_hz > 0 ? Math.max(STALE_S, STALE_PERIODS / rate_hz) : STALE_S;
}

/** A value's age now. */
export function age_s(live: Live, now_ms: number = performance.now()): number {
  return live.age_s + (now_ms - live.at_ms) / 1000;
}

export class Values {
  readonly byKey = new Map<string, Live>();
  private asked_ms = -Infinity;
  private asking = false;

  /** `onList` is called when the set of channels or what they are has changed. */
  constructor(private readonly onList: () => void) {}

  /** Asks the agent for its channels, unless it was asked a moment ago. */
  async refresh(): Promise<void> {
    const now = performance.now();
    if (this.asking || now - this.asked_ms < REFRESH_MS_MIN) return;
    this.asking = true;
    this.asked_ms = now;
    try {
      this.take(await fetchChannels());
    } catch {
      // The stream tells of a lost agent; the list is asked for again with the next event.
    } finally {
      this.asking = false;
    }
  }

  /** Takes the last values of an event; asks for the list where a channel is new. */
  see(event: ValuesEvent): void {
    const now = performance.now();
    let count = 0;
    let unknown = false;
    for (const [key, [t_us, value, quality, age]] of Object.entries(event.values)) {
      count += 1;
      const live = this.byKey.get(key);
      if (live === undefined) {
        unknown = true;
        continue;
      }
      live.t_us = t_us;
      live.value = value;
      live.quality = quality;
      live.age_s = age;
      live.at_ms = now;
      live.decimals.see(value);
    }
    if (unknown || count < this.byKey.size) void this.refresh();
  }

  private take(list: Channel[]): void {
    const now = performance.now();
    let changed = list.length !== this.byKey.size;
    const keys = new Set<string>();
    for (const channel of list) {
      keys.add(channel.key);
      const known = this.byKey.get(channel.key);
      if (known !== undefined) {
        const { unit, rate_hz, derived } = known.channel;
        if (unit !== channel.unit || rate_hz !== channel.rate_hz || derived !== channel.derived) changed = true;
        known.channel = channel;
        continue;
      }
      changed = true;
      const decimals = new Decimals(channel.unit, channel.channel);
      decimals.see(channel.value);
      this.byKey.set(channel.key, {
        channel,
        decimals,
        value: channel.value,
        quality: channel.quality,
        t_us: channel.t_us,
        age_s: channel.age_s,
        at_ms: now,
      });
    }
    for (const key of this.byKey.keys()) if (!keys.has(key)) this.byKey.delete(key);
    if (changed) this.onList();
  }
}
