// The sources: state, what is wrong with them, and what each device on them has lost.

import type { Device, Source } from "./api";
import { byId, el, Keyed, setAttr, setHidden, setText } from "./dom";
import { bytes, number, span } from "./format";
import type { Tone } from "./way";

/** A connected source that has been silent for longer is marked. */
const QUIET_S = 2;

/** How a source's state is to be taken, and what to call it. */
export function sourceState(source: Source): { text: string; tone: Tone } {
  if (source.state !== "connected") return { text: source.state, tone: source.state === "down" ? "bad" : "idle" };
  const quiet = source.quiet_for_s;
  if (quiet !== null && quiet > QUIET_S) return { text: `quiet for ${span(quiet)}`, tone: "warn" };
  return { text: "connected", tone: "ok" };
}

class DeviceView {
  private readonly frames = el("td");
  private readonly lost = el("td");
  private readonly samplesLost = el("td");
  private readonly repeated = el("td");
  private readonly coverage = el("td");
  readonly node = el("tr");
  private readonly name = el("th", "term");

  constructor() {
    this.name.scope = "row";
    this.node.append(this.name, this.frames, this.lost, this.samplesLost, this.repeated, this.coverage);
  }

  update(device: Device): void {
    setText(this.name, `${device.car} / ${device.device}`);
    this.name.title = `boot ${device.boot}`;
    setText(this.frames, number(device.frames));
    setText(this.lost, number(device.frames_lost));
    setText(this.samplesLost, number(device.samples_lost));
    setText(this.repeated, number(device.duplicate_frames));
    const sent = device.samples + device.samples_lost;
    const share = sent === 0 ? 1 : device.samples / sent;
    // Rounded down: 100 % is said only where nothing is lost.
    setText(this.coverage, `${number(Math.floor(share * 10_000) / 100, 2)} %`);
    this.node.classList.toggle("lossy", device.frames_lost > 0 || device.samples_lost > 0);
  }
}

class SourceView {
  private readonly state = el("span", "state");
  private readonly detail = el("p", "advice");
  private readonly counts = el("p", "detail");
  private readonly table: HTMLTableElement;
  private readonly devices: Keyed<Device, DeviceView>;
  readonly node: HTMLElement;

  constructor(source: Source) {
    const body = el("tbody");
    const head = el("tr");
    for (const title of ["device", "frames", "lost", "samples lost", "repeated", "coverage"]) {
      const th = el("th", title === "device" ? "term" : "", title);
      th.scope = "col";
      head.append(th);
    }
    this.table = el("table", "figures", el("thead", "", head), body);
    this.table.setAttribute("aria-label", `Devices on ${source.name}`);
    this.devices = new Keyed(body, () => new DeviceView(), (view, device) => view.update(device));
    const target = el("span", "target", source.target);
    target.title = source.target;
    const name = el("h3", "label", source.name);
    this.node = el("li", "source", el("div", "line", name, target, this.state), this.detail, this.table, this.counts);
  }

  update(source: Source): void {
    const { text, tone } = sourceState(source);
    setText(this.state, text);
    setAttr(this.state, "data-tone", tone);
    setText(this.detail, source.detail);
    setHidden(this.detail, source.detail === "");
    setHidden(this.table, source.devices.length === 0);
    this.devices.render(source.devices, (d) => `${d.car}/${d.device}`);
    const faults = [
      [source.malformed, "malformed"],
      [source.held_frames, "held"],
    ].filter(([n]) => n !== 0);
    const parts = [
      source.kind,
      `${source.state} for ${span(source.state_for_s)}`,
      `${number(source.connects)} × connected`,
      bytes(source.bytes),
      source.messages > 0 ? `${number(source.messages)} messages` : "",
      ...faults.map(([n, what]) => `${number(n as number)} ${what}`),
      source.garbage_bytes > 0 ? `${bytes(source.garbage_bytes)} garbage` : "",
    ];
    setText(this.counts, parts.filter((p) => p !== "").join(" · "));
  }
}

export class SourcesPanel {
  private readonly none = byId("no-sources");
  private readonly list = new Keyed<Source, SourceView>(
    byId("sources"),
    (source) => new SourceView(source),
    (view, source) => view.update(source),
  );

  render(sources: readonly Source[]): void {
    setHidden(this.none, sources.length > 0);
    this.list.render(sources, (source) => source.name);
  }
}
