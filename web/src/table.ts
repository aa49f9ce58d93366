// The table of all channels: last value, unit, age, flags; and the picker of what is charted. Only
// the rows in sight exist, so 782 channels cost as much as thirty. The focus stays on the table
// itself and an active row moves within it: rows may come and go under it.

import { byId, el, setAttr, setHidden, setText } from "./dom";
import { number, quality, spanShort } from "./format";
import type { Selection } from "./selection";
import { age_s, staleAfter_s, type Live, type Values } from "./values";

const ROW_PX = 26;
/** Rows kept ready above and below those in sight. */
const SPARE_ROWS = 6;

type Entry = { kind: "group"; label: string; count: number } | { kind: "channel"; live: Live };

export class ChannelTable {
  private readonly view = byId("channels-view");
  private readonly grid = byId("channels");
  private readonly body = byId("channels-body");
  private readonly top = el("tr", "spacer");
  private readonly bottom = el("tr", "spacer");
  private readonly search = byId("search") as HTMLInputElement;
  private readonly count = byId("channels-count");
  private entries: Entry[] = [];
  private rows: Row[] = [];
  private active = -1;

  constructor(
    private readonly values: Values,
    private readonly selection: Selection,
    private readonly say: (text: string) => void,
  ) {
    for (const spacer of [this.top, this.bottom]) {
      spacer.setAttribute("aria-hidden", "true");
      spacer.append(el("td"));
    }
    this.body.append(this.top, this.bottom);
    this.search.addEventListener("input", () => {
      this.active = -1;
      this.view.scrollTop = 0;
      this.list();
    });
    this.search.addEventListener("keydown", (event) => {
      if (event.key === "ArrowDown" || event.key === "Enter") {
        this.grid.focus();
        this.moveTo(this.nextChannel(0, 1));
      } else if (event.key === "Escape" && this.search.value !== "") {
        this.search.value = "";
        this.list();
      } else return;
      event.preventDefault();
    });
    this.grid.addEventListener("keydown", (event) => this.key(event));
    this.grid.addEventListener("focus", () => {
      if (this.active < 0) this.moveTo(this.nextChannel(0, 1));
    });
    this.body.addEventListener("click", (event) => {
      const row = this.rows.find((r) => r.node.contains(event.target as Node));
      if (row?.entry?.kind !== "channel") return;
      this.setActive(row.index);
      this.toggle(row.entry.live);
    });
    this.view.addEventListener("scroll", () => this.render(), { passive: true });
    new ResizeObserver(() => this.render()).observe(this.view);
  }

  /** Lists the channels anew: the search, the set of channels or the choice has changed. */
  list(): void {
    const words = this.search.value.toLowerCase().split(/\s+/).filter((w) => w !== "");
    const all = [...this.values.byKey.values()];
    const found = all.filter(({ channel }) => {
      const text = `${channel.key} ${channel.unit} ${channel.derived === true ? "derived" : ""}`.toLowerCase();
      return words.every((word) => text.includes(word));
    });
    const groups = new Map<string, Live[]>();
    for (const live of found) {
      const label = `${live.channel.car} / ${live.channel.device}`;
      const group = groups.get(label);
      if (group === undefined) groups.set(label, [live]);
      else group.push(live);
    }
    this.entries = [];
    for (const label of [...groups.keys()].sort(naturally)) {
      const group = groups.get(label) ?? [];
      group.sort((a, b) => naturally(a.channel.channel, b.channel.channel));
      this.entries.push({ kind: "group", label, count: group.length });
      for (const live of group) this.entries.push({ kind: "channel", live });
    }
    if (this.active >= this.entries.length) this.active = -1;
    setText(this.count, found.length === all.length ? `${all.length}` : `${found.length} of ${all.length}`);
    const none = byId("no-channels");
    setHidden(none, found.length > 0);
    setText(none, all.length === 0 ? "No channel yet: the agent has not decoded a frame." : "No channel matches.");
    setAttr(this.grid, "aria-rowcount", String(this.entries.length + 1));
    this.render();
  }

  /** Brings the rows in sight up to date. */
  refresh(): void {
    for (const row of this.rows) row.update(this.selection);
  }

  private render(): void {
    const first = Math.max(0, Math.floor(this.view.scrollTop / ROW_PX) - SPARE_ROWS);
    const shown = Math.ceil(this.view.clientHeight / ROW_PX) + 2 * SPARE_ROWS;
    const end = Math.min(this.entries.length, first + shown);
    const start = Math.max(0, Math.min(first, end));
    while (this.rows.length < end - start) {
      const row = new Row();
      this.rows.push(row);
      this.bottom.before(row.node);
    }
    while (this.rows.length > end - start) this.rows.pop()?.node.remove();
    this.rows.forEach((row, i) => {
      row.show(start + i, this.entries[start + i] as Entry);
      row.node.classList.toggle("active", start + i === this.active);
      row.update(this.selection);
    });
    this.space(this.top, start);
    this.space(this.bottom, this.entries.length - end);
    const visible = this.active >= start && this.active < end;
    setAttr(this.grid, "aria-activedescendant", visible ? `row-${this.active}` : null);
  }

  private space(spacer: HTMLTableRowElement, rows: number): void {
    setHidden(spacer, rows === 0);
    const height = `${rows * ROW_PX}px`;
    if (spacer.style.height !== height) spacer.style.height = height;
  }

  private key(event: KeyboardEvent): void {
    const page = Math.max(1, Math.floor(this.view.clientHeight / ROW_PX) - 2);
    const last = this.entries.length - 1;
    const at = Math.max(0, this.active);
    if (event.key === "ArrowDown") this.moveTo(this.nextChannel(at + 1, 1));
    else if (event.key === "ArrowUp") {
      if (this.nextChannel(at - 1, -1) < 0) this.search.focus();
      else this.moveTo(this.nextChannel(at - 1, -1));
    } else if (event.key === "PageDown") this.moveTo(this.nextChannel(Math.min(last, at + page), -1));
    else if (event.key === "PageUp") this.moveTo(this.nextChannel(Math.max(0, at - page), 1));
    else if (event.key === "Home") this.moveTo(this.nextChannel(0, 1));
    else if (event.key === "End") this.moveTo(this.nextChannel(last, -1));
    else if (event.key === " " || event.key === "Enter") {
      const entry = this.entries[this.active];
      if (entry?.kind === "channel") this.toggle(entry.live);
    } else return;
    event.preventDefault();
  }

  private nextChannel(from: number, step: 1 | -1): number {
    for (let i = from; i >= 0 && i < this.entries.length; i += step) if (this.entries[i]?.kind === "channel") return i;
    return -1;
  }

  private moveTo(index: number): void {
    if (index < 0) return;
    const head = ROW_PX; // the sticky head covers the first row's height
    const y = index * ROW_PX;
    if (y < this.view.scrollTop + head) this.view.scrollTop = Math.max(0, y - head);
    const below = y + head + ROW_PX - this.view.clientHeight;
    if (below > this.view.scrollTop) this.view.scrollTop = below;
    this.setActive(index);
  }

  private setActive(index: number): void {
    this.active = index;
    this.render();
  }

  private toggle(live: Live): void {
    const why = this.selection.toggle(live.channel.key);
    const on = this.selection.has(live.channel.key);
    this.say(why ?? `${live.channel.channel} ${on ? "is charted" : "is off the charts"}`);
  }
}

class Row {
  readonly node = el("tr");
  index = -1;
  entry: Entry | null = null;
  private readonly mark = el("i", "mark");
  private readonly name = el("span", "name");
  private readonly value = el("td", "value");
  private readonly unit = el("td", "unit");
  private readonly age = el("td", "age");
  private readonly flags = el("td", "flags");
  private readonly derived = el("span", "derived-mark", el("span", "", "ƒ"), el("span", "visually-hidden", "derived "));
  private readonly nameCell = el("td", "channel", this.derived, this.mark, this.name);

  constructor() {
    this.mark.setAttribute("aria-hidden", "true");
    this.derived.firstElementChild?.setAttribute("aria-hidden", "true");
    this.node.append(this.nameCell, this.value, this.unit, this.flags, this.age);
  }

  show(index: number, entry: Entry): void {
    if (this.index === index && this.entry === entry) return;
    this.index = index;
    this.entry = entry;
    this.node.id = `row-${index}`;
    setAttr(this.node, "aria-rowindex", String(index + 2));
    const group = entry.kind === "group";
    this.nameCell.colSpan = group ? 4 : 1;
    for (const cell of [this.value, this.unit, this.flags]) setHidden(cell, group);
    this.node.className = group ? "group" : "row";
    setHidden(this.derived, group || entry.live.channel.derived !== true);
    if (group) {
      setText(this.name, entry.label);
      setText(this.age, String(entry.count));
      setAttr(this.node, "aria-selected", null);
      this.node.title = "";
    } else {
      setText(this.name, entry.live.channel.channel);
      setText(this.unit, entry.live.channel.unit);
    }
  }

  update(selection: Selection): void {
    if (this.entry?.kind !== "channel") return;
    const { live } = this.entry;
    const { channel } = live;
    const age = age_s(live);
    const stale = age > staleAfter_s(channel.rate_hz);
    setText(this.value, number(live.value, live.decimals.count));
    setText(this.age, stale ? `stale ${spanShort(age)}` : spanShort(age));
    const { short, long } = quality(live.quality);
    setText(this.flags, short);
    const rate = channel.rate_hz === null ? "no fixed rate" : `${number(channel.rate_hz, channel.rate_hz < 10 ? 1 : 0)} Hz`;
    const derived = channel.derived === true ? "derived: computed by the agent" : "";
    const title = [channel.key, rate, derived, long].filter((part) => part !== "").join("\n");
    if (this.node.title !== title) this.node.title = title;
    const on = selection.has(channel.key);
    setAttr(this.node, "aria-selected", String(on));
    this.node.classList.toggle("on", on);
    this.node.classList.toggle("stale", stale);
    this.node.classList.toggle("flagged", live.quality !== 0);
  }
}

const collator = new Intl.Collator("en", { numeric: true });
function naturally(a: string, b: string): number {
  return collator.compare(a, b);
}
