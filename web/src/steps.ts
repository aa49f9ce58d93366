// What the preprocessing did and why: a line for each step, rule and reason, grouped by step in the
// order in which the steps work.

import type { Deed, Status } from "./api";
import { byId, el, Keyed, setAttr, setHidden, setText } from "./dom";
import { number } from "./format";
import { Meter } from "./rates";

const STEPS = ["dedup", "calibrate", "validate", "derive", "anomaly", "decimate"];

interface Group {
  step: string;
  deeds: Deed[];
}

/** Deeds by step in the order of the steps, an unknown step last; within a step as the agent has them. */
export function byStep(deeds: readonly Deed[]): Group[] {
  const groups = new Map<string, Deed[]>(STEPS.map((step) => [step, []]));
  for (const deed of deeds) {
    const group = groups.get(deed.step);
    if (group === undefined) groups.set(deed.step, [deed]);
    else group.push(deed);
  }
  return [...groups].map(([step, of]) => ({ step, deeds: of })).filter(({ deeds: of }) => of.length > 0);
}

function keyOf({ step, rule, reason }: Deed): string {
  return JSON.stringify([step, rule, reason]);
}

class DeedView {
  private readonly samples = el("span", "num");
  private readonly rate = el("span", "num rate");
  private readonly last = el("span", "detail last num");
  readonly node: HTMLElement;

  constructor(deed: Deed) {
    const rule = el("span", deed.rule === "" ? "rule none" : "rule", deed.rule === "" ? "any channel" : deed.rule);
    rule.title = deed.rule;
    this.node = el("li", "deed", rule, el("span", "reason", deed.reason.replaceAll("_", " ")), this.samples, this.rate, this.last);
  }

  update(deed: Deed, per_s: number | undefined): void {
    setText(this.samples, number(deed.samples));
    const rate = Math.max(0, per_s ?? 0);
    setText(this.rate, per_s === undefined ? "–" : `${number(rate, rate > 0 && rate < 10 ? 1 : 0)} /s`);
    this.rate.classList.toggle("zero", rate === 0);
    setText(this.last, deed.last);
    this.last.title = deed.last;
    setHidden(this.last, deed.last === "");
  }
}

class GroupView {
  private readonly list = el("ul", "plain");
  readonly node: HTMLElement;
  readonly deeds: Keyed<Deed, DeedView>;

  constructor({ step }: Group, update: (view: DeedView, deed: Deed) => void) {
    this.node = el("li", "step", el("h3", "label", step), this.list);
    this.deeds = new Keyed(this.list, (deed) => new DeedView(deed), update);
  }
}

export class StepsPanel {
  private readonly none = byId("no-steps");
  private readonly box = byId("steps-box");
  private readonly meter = new Meter();
  private per_s: Record<string, number> | null = null;
  private readonly groups = new Keyed<Group, GroupView>(
    byId("steps"),
    (group) => new GroupView(group, (view, deed) => view.update(deed, this.per_s?.[keyOf(deed)])),
    (view, group) => view.deeds.render(group.deeds, keyOf),
  );

  render({ uptime_s, preprocess }: Status): void {
    const deeds = preprocess ?? [];
    this.per_s = this.meter.see(uptime_s, Object.fromEntries(deeds.map((deed) => [keyOf(deed), deed.samples])));
    this.groups.render(byStep(deeds), ({ step }) => step);
    for (const id of ["steps-head", "steps-view"]) setHidden(byId(id), deeds.length === 0);
    setHidden(this.none, deeds.length > 0);
    const known = preprocess !== undefined;
    setText(this.none, known ? "Nothing to tell: no step has flagged, dropped or changed a sample." : "This agent does not say what its steps do.");
    // Where the lines do not fit, the keyboard must be able to scroll to them.
    setAttr(this.box, "tabindex", this.box.scrollHeight > this.box.clientHeight ? "0" : null);
  }
}
