// The agent's queues: how full (by items or bytes, whichever is fuller), how full they have been,
// and for how long they have held their writer up.

import type { Queue } from "./api";
import { Bar } from "./bar";
import { byId, el, Keyed, setText } from "./dom";
import { bytes, millis, number } from "./format";

class QueueView {
  private readonly bar: Bar;
  private readonly items = el("span", "num");
  private readonly detail = el("span", "detail");
  readonly node: HTMLElement;

  constructor(queue: Queue) {
    this.bar = new Bar(`Queue ${queue.name}`);
    const head = el("div", "line", el("span", "label", queue.name), this.items);
    this.node = el("li", "queue", head, this.bar.node, this.detail);
  }

  update(queue: Queue): void {
    const share = Math.max(queue.items / queue.items_max, queue.bytes_max > 0 ? queue.bytes / queue.bytes_max : 0);
    const items = `${number(queue.items)} of ${number(queue.items_max)}`;
    this.bar.set(share, queue.items_peak / queue.items_max, items);
    setText(this.items, items);
    const size = queue.bytes_max > 0 ? ` · ${bytes(queue.bytes)} of ${bytes(queue.bytes_max)}` : "";
    const blocked = queue.blocked_ms > 0 ? `writer blocked ${millis(queue.blocked_ms)} · ` : "";
    setText(this.detail, `${blocked}peak ${number(queue.items_peak)}${size}`);
  }
}

export class QueuesPanel {
  private readonly list = new Keyed<Queue, QueueView>(
    byId("queues"),
    (queue) => new QueueView(queue),
    (view, queue) => view.update(queue),
  );

  render(queues: readonly Queue[]): void {
    this.list.render(queues, (queue) => queue.name);
  }
}
