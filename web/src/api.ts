// The agent's HTTP API as this page reads it. Times are UTC microseconds, unless a name says otherwise.

/** Where every sample is: `received + recovered` equals the sum of the rest. */
export interface Account {
  received: number;
  recovered: number;
  stored: number;
  backlog: number;
  in_flight: number;
  quarantined: number;
  /** By the policy that dropped them. */
  dropped: Record<string, number>;
  duplicate: number;
  balanced: boolean;
}

export interface Ledger extends Account {
  sources?: Record<string, Account>;
  /** What was computed: no part of the sums above. */
  derived?: Account;
}

export interface Device {
  car: string;
  device: string;
  boot: number;
  frames: number;
  frames_lost: number;
  samples: number;
  samples_lost: number;
  duplicate_frames: number;
}

export interface Source {
  name: string;
  kind: string;
  target: string;
  state: "connecting" | "connected" | "down";
  detail: string;
  state_for_s: number;
  connects: number;
  bytes: number;
  messages: number;
  frames: number;
  malformed: number;
  garbage_bytes: number;
  held_frames: number;
  quiet_for_s: number | null;
  devices: Device[];
}

export interface Queue {
  name: string;
  items: number;
  items_max: number;
  bytes: number;
  bytes_max: number;
  items_peak: number;
  blocked_ms: number;
  /** Shares of the time since the last look, 0 to 1. */
  empty?: number;
  full?: number;
}

/** A stage of the pipeline: `busy + starved + blocked + pool_wait` is 1, over the last seconds. */
export interface Stage {
  name: string;
  concurrency: number;
  order: string;
  taken: number;
  given: number;
  failed: number;
  skipped: number;
  busy: number;
  starved: number;
  blocked: number;
  pool_wait: number;
  latency_ms: { p50: number | null; p99: number | null };
  /** For how long it has not worked though it could. */
  stands_still_for_s: number | null;
}

/** What limits the flow: nothing, the sources, a stage, what comes behind the stages, a pool of threads. */
export interface Verdict {
  kind: "idle" | "source" | "stage" | "outlet" | "pool";
  stage?: string | null;
  text: string;
}

export interface Pipeline {
  /** Null before the agent has looked twice. */
  verdict: Verdict | null;
  stages: Stage[];
}

/** What a step did by one rule for one reason. */
export interface Deed {
  step: string;
  /** Empty where no rule was needed. */
  rule: string;
  reason: string;
  samples: number;
  /** The last case, in words; may be empty. */
  last: string;
}

export interface Config {
  revision: number;
  since_us: number;
  /** Reloads that were refused. */
  refused: number;
  /** Why the last reload was refused; empty if it was not. */
  refusal: string;
}

export interface Drain {
  done: number;
  total: number;
  rate_per_s: number;
  left_s: number | null;
}

/** What the spill holds of one priority. */
export interface Priority {
  priority: "high" | "normal" | "low";
  backlog_samples: number;
  dropped_samples: number;
  disk_bytes: number;
}

/** Gaps that were declared for one reason. */
export interface Gap {
  reason: string;
  events: number;
  frames: number;
  samples: number;
}

export interface Spill {
  state: "idle" | "spilling" | "draining" | "full" | "failed";
  detail: string;
  encrypted: boolean;
  locked_segments: number;
  backlog_samples: number;
  backlog_records: number;
  disk_bytes: number;
  reserve_bytes: number;
  disk_max_bytes: number;
  segment_bytes: number;
  written_bytes: number;
  syncs: number;
  oldest_age_s: number | null;
  quarantine_records: number;
  drain?: Drain | null;
  /** Empty where all channels have the same priority. */
  priorities?: Priority[];
  recovering?: { segments_done: number; segments: number; bytes_done: number; bytes: number } | null;
}

export interface Store {
  kind: string;
  url: string;
  state: "connecting" | "up" | "stalled" | "down" | "holding";
  detail: string;
  rows_written: number;
  samples_written: number;
  in_flight: number;
  latency_ms: { p50: number | null; p99: number | null };
}

export interface Status {
  version: string;
  agent: string;
  car: string;
  uptime_s: number;
  now_us: number;
  state: string;
  ledger: Ledger;
  sources: Source[];
  queues: Queue[];
  spill: Spill;
  store: Store;
  deliver: { mode: "direct" | "spilling" | "draining"; durable_within_ms: number; flush_after_ms: number; alarm: string };
  process: { resident_bytes: number; cpu_s: number };
  channels: number;
  // An older agent lacks these.
  pipeline?: Pipeline;
  preprocess?: Deed[];
  gaps?: Gap[];
  config?: Config;
}

export interface Channel {
  key: string;
  car: string;
  device: string;
  channel: string;
  unit: string;
  rate_hz: number | null;
  derived?: boolean;
  t_us: number;
  value: number | null;
  quality: number;
  age_s: number;
  samples: number;
}

/** A bin of 100 ms: its start, the least and the greatest sample in it. */
export type Point = [t_us: number, min: number | null, max: number | null];
export interface PointsEvent {
  now_us: number;
  series: Record<string, Point[]>;
}
/** A channel's last value. `age_s` counts from when the agent last received a sample of it. */
export type LastValue = [t_us: number, value: number | null, quality: number, age_s: number];
export interface ValuesEvent {
  now_us: number;
  values: Record<string, LastValue>;
}

/** The channels that the agent knows, in its order. */
export async function fetchChannels(): Promise<Channel[]> {
  const answer = await fetch("/api/v1/channels", { headers: { accept: "application/json" } });
  if (!answer.ok) throw new Error(`channels: the agent answered ${answer.status}`);
  return (await answer.json()) as Channel[];
}
