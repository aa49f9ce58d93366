// The ledger as a sum that must come out: what came in stands above, where it is below, and the
// two totals are computed here from the terms, beside the agent's own verdict.

import type { Account, Ledger } from "./api";
import { byId, el, Keyed, setAttr, setHidden, setText } from "./dom";
import { number } from "./format";

type Term = { sign: string; label: string; of: (a: Account) => number; kind: "term" | "total"; title: string };

/** All policies' drops. */
function dropped(a: Account): number {
  return Object.values(a.dropped ?? {}).reduce((sum, n) => sum + n, 0);
}
/** The left side of the identity. */
export function cameIn(a: Account): number {
  return a.received + a.recovered;
}
/** The right side of the identity. */
export function accountedFor(a: Account): number {
  return a.stored + a.backlog + a.in_flight + a.quarantined + dropped(a) + a.duplicate;
}

const TERMS: readonly Term[] = [
  { sign: "", label: "received", of: (a) => a.received, kind: "term", title: "samples that the sources delivered" },
  { sign: "+", label: "recovered", of: (a) => a.recovered, kind: "term", title: "samples found in the spill at start" },
  { sign: "=", label: "came in", of: cameIn, kind: "total", title: "received + recovered" },
  { sign: "", label: "stored", of: (a) => a.stored, kind: "term", title: "acknowledged by the store" },
  { sign: "+", label: "backlog", of: (a) => a.backlog, kind: "term", title: "in the spill on disk" },
  { sign: "+", label: "in flight", of: (a) => a.in_flight, kind: "term", title: "between the source and the store" },
  { sign: "+", label: "quarantined", of: (a) => a.quarantined, kind: "term", title: "set aside: could not be stored" },
  { sign: "+", label: "dropped", of: dropped, kind: "term", title: "dropped by a named policy" },
  { sign: "+", label: "duplicate", of: (a) => a.duplicate, kind: "term", title: "came more than once" },
  { sign: "=", label: "accounted for", of: accountedFor, kind: "total", title: "stored + backlog + in flight + quarantined + dropped + duplicate" },
];

/** What the policies mean. Those that are losses are marked where they struck. */
const POLICIES: Record<string, { title: string; loss: boolean }> = {
  damaged: { title: "a record of the spill was damaged on disk", loss: true },
  decimate: { title: "thinned out, as the configuration asks", loss: false },
  memory: { title: "nothing could be written, and memory was full", loss: true },
  overflow: { title: "the disk budget of the spill was used up", loss: true },
  validate: { title: "implausible, as the configuration says", loss: false },
};

class PolicyView {
  private readonly count = el("span", "num");
  readonly node: HTMLElement;

  constructor(private readonly name: string) {
    this.node = el("li", "policy", `${name} `, this.count);
    this.node.title = POLICIES[name]?.title ?? "";
  }

  update(samples: number): void {
    setText(this.count, number(samples));
    this.node.classList.toggle("loss", samples > 0 && POLICIES[this.name]?.loss === true);
  }
}

/** The line of what was computed, as an identity of its own; terms that are zero are left out. */
export function derivedText(a: Account): string {
  const terms: [number, string][] = [
    [a.stored, "stored"],
    [a.backlog, "backlog"],
    [a.in_flight, "in flight"],
    [a.quarantined, "quarantined"],
    [dropped(a), "dropped"],
    [a.duplicate, "duplicate"],
  ];
  const right = terms.filter(([n]) => n !== 0).map(([n, what]) => `${number(n)} ${what}`);
  const recovered = a.recovered === 0 ? "" : ` + ${number(a.recovered)} recovered`;
  const sign = a.balanced && cameIn(a) === accountedFor(a) ? "=" : "≠";
  return `${number(a.received)} computed${recovered} ${sign} ${right.length === 0 ? "0" : right.join(" + ")}`;
}

/** Sources that get a column of their own; more are only in the total. */
const COLUMNS_MAX = 4;

export class LedgerPanel {
  private readonly table = byId("ledger");
  private readonly verdict = byId("ledger-verdict");
  private readonly derived = byId("ledger-derived");
  private readonly drops = new Keyed<[string, number], PolicyView>(
    byId("ledger-drops"),
    ([name]) => new PolicyView(name),
    (view, [, samples]) => view.update(samples),
  );
  private columns = "";
  private cells: HTMLElement[][] = [];

  /** `alarm` hears when the ledger stops adding up, and when it does again. */
  constructor(private readonly alarm: (text: string) => void) {}

  render(ledger: Ledger): void {
    const sources = Object.entries(ledger.sources ?? {});
    const own = sources.length > 1 && sources.length <= COLUMNS_MAX ? sources : [];
    const accounts: [string, Account][] = [["all", ledger], ...own];
    const columns = accounts.map(([name]) => name).join("\n");
    if (columns !== this.columns) this.build(accounts.map(([name]) => name));
    this.columns = columns;
    TERMS.forEach((term, row) => {
      accounts.forEach(([, account], column) => {
        const cell = this.cells[row]?.[column];
        if (cell === undefined) return;
        const value = term.of(account);
        setText(cell, number(value));
        cell.classList.toggle("zero", value === 0);
      });
    });
    const off = cameIn(ledger) - accountedFor(ledger);
    const { derived } = ledger;
    const checked: [string, Account][] = derived === undefined ? sources : [...sources, ["derived", derived]];
    const bad = checked.filter(([, a]) => !a.balanced || cameIn(a) !== accountedFor(a)).map(([name]) => name);
    const balanced = ledger.balanced && off === 0 && bad.length === 0;
    const where = bad.length > 0 ? ` (${bad.join(", ")})` : "";
    const text = balanced
      ? "adds up"
      : off !== 0
        ? `does not add up: ${number(Math.abs(off))} ${off > 0 ? "missing" : "too many"}${where}`
        : `the agent reports an imbalance${where}`;
    if (this.verdict.dataset["tone"] !== (balanced ? "ok" : "bad") && this.verdict.dataset["tone"] !== undefined) {
      this.alarm(`ledger ${text}`);
    }
    setAttr(this.verdict, "data-tone", balanced ? "ok" : "bad");
    setText(this.verdict, text);
    // Where the sources' columns do not fit, the keyboard must be able to scroll to them.
    const box = this.table.parentElement as HTMLElement;
    setAttr(box, "tabindex", box.scrollWidth > box.clientWidth ? "0" : null);
    const policies = Object.entries(ledger.dropped ?? {});
    setHidden(byId("ledger-dropped"), policies.length === 0);
    this.drops.render(policies, ([name]) => name);
    setHidden(this.derived, derived === undefined);
    if (derived === undefined) return;
    const line = byId("ledger-derived-line");
    setText(line, derivedText(derived));
    line.classList.toggle("off", bad.includes("derived"));
  }

  private build(names: string[]): void {
    const head = el("tr", "", el("td", "sign"), el("th", "term", "samples"));
    for (const name of names) {
      const th = el("th", "", name);
      th.scope = "col";
      head.append(th);
    }
    this.cells = [];
    const rows = TERMS.map((term) => {
      const label = el("th", "term", term.label);
      label.scope = "row";
      const cells = names.map(() => el("td"));
      this.cells.push(cells);
      const sign = el("td", "sign", term.sign);
      const row = el("tr", term.kind, sign, label, ...cells);
      row.title = term.title;
      return row;
    });
    this.table.classList.toggle("many", names.length > 1);
    this.table.replaceChildren(el("thead", "", head), el("tbody", "", ...rows));
  }
}
