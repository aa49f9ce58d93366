// The agent's clock, as this page can know it: the charts scroll by it between two events.

/** How quickly the estimate follows an event: a twentieth takes out the jitter of the network. */
const FOLLOW = 0.05;
/** A difference beyond this is a step of the clock, not jitter. */
const STEP_MS = 1000;

export class AgentClock {
  private offset_ms: number | null = null;

  /** An event that the agent stamped `now_us` has just come. */
  see(now_us: number, local_ms: number = performance.now()): void {
    const offset = now_us / 1000 - local_ms;
    if (this.offset_ms === null || Math.abs(offset - this.offset_ms) > STEP_MS) this.offset_ms = offset;
    else this.offset_ms += (offset - this.offset_ms) * FOLLOW;
  }

  /** Seconds since 1970 on the agent's clock, or null before its first event. */
  now_s(local_ms: number = performance.now()): number | null {
    return this.offset_ms === null ? null : (this.offset_ms + local_ms) / 1000;
  }
}
