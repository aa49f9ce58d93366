// The live stream of the agent. It says at once when it breaks (an error, or silence: the agent
// sends values twice a second), and comes back by itself. Changing the channels opens the next
// stream before the old one closes, so that nothing on the page flickers.

import type { PointsEvent, Status, ValuesEvent } from "./api";

/** Three times the distance of two `values` events, less than the 2 s after which a value is stale. */
const SILENCE_MS_MAX = 1500;
/** A stream that is open but silent for this long is opened anew. */
const REOPEN_MS = 6000;
const RETRY_MS_MIN = 500;
const RETRY_MS_MAX = 4000;

export type Link = { kind: "connecting" | "live" | "lost"; since_ms: number };

export interface Handlers {
  points(event: PointsEvent): void;
  values(event: ValuesEvent): void;
  status(event: Status): void;
  link(link: Link): void;
}

export class LiveStream {
  private current: EventSource | null = null;
  private next: EventSource | null = null;
  private channels: readonly string[] = [];
  private retry_ms = RETRY_MS_MIN;
  private retryTimer = 0;
  private opened_ms = 0;
  private heard_ms = performance.now();
  private state: Link = { kind: "connecting", since_ms: performance.now() };

  constructor(private readonly handlers: Handlers) {
    setInterval(() => this.watch(), 250);
  }

  /** What the page knows about its own connection. */
  get link(): Link {
    return this.state;
  }

  /** Streams the points of these channels from now on, and the last values of all. */
  open(channels: readonly string[]): void {
    this.channels = channels;
    clearTimeout(this.retryTimer);
    this.next?.close();
    this.opened_ms = performance.now();
    const source = new EventSource(`/api/v1/live?channels=${channels.map(encodeURIComponent).join(",")}`);
    this.next = source;
    this.on(source, "points", (data: PointsEvent) => this.handlers.points(data));
    this.on(source, "values", (data: ValuesEvent) => this.handlers.values(data));
    this.on(source, "status", (data: Status) => this.handlers.status(data));
    source.onerror = () => this.failed(source);
  }

  private on<T>(source: EventSource, name: string, handle: (data: T) => void): void {
    source.addEventListener(name, (event) => {
      if (source !== this.current && source !== this.next) return;
      if (source === this.next) {
        this.current?.close();
        this.current = source;
        this.next = null;
      }
      this.heard_ms = performance.now();
      this.retry_ms = RETRY_MS_MIN;
      let data: T;
      try {
        data = JSON.parse((event as MessageEvent<string>).data) as T;
      } catch {
        return; // an event cut short: the next one comes within half a second
      }
      handle(data);
      this.become("live");
    });
  }

  private failed(source: EventSource): void {
    source.close(); // the browser's own retry neither backs off nor survives an HTTP error
    if (source === this.current) this.current = null;
    else if (source === this.next) this.next = null;
    else return;
    if (this.current === null) this.become("lost");
    if (this.next === null) this.retry();
  }

  private retry(): void {
    clearTimeout(this.retryTimer);
    this.retryTimer = window.setTimeout(() => this.open(this.channels), this.retry_ms);
    this.retry_ms = Math.min(this.retry_ms * 2, RETRY_MS_MAX);
  }

  private watch(): void {
    const now = performance.now();
    if (now - this.heard_ms <= SILENCE_MS_MAX) return;
    if (this.state.kind === "live" || now - this.opened_ms > SILENCE_MS_MAX) this.become("lost");
    if ((this.current ?? this.next) !== null && now - Math.max(this.heard_ms, this.opened_ms) > REOPEN_MS) {
      this.current?.close();
      this.current = null;
      this.open(this.channels);
    }
  }

  private become(kind: Link["kind"]): void {
    if (this.state.kind === kind) return;
    this.state = { kind, since_ms: kind === "lost" ? this.heard_ms : performance.now() };
    this.handlers.link(this.state);
  }
}
