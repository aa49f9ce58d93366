// A list of named facts whose values change.

import { el, setHidden, setText } from "./dom";

export class Facts {
  private readonly cells = new Map<string, { label: HTMLElement; value: HTMLElement }>();
  constructor(private readonly list: HTMLElement) {}

  /** Sets a fact, in the order of the first calls; null hides it. */
  set(label: string, value: string | null): void {
    let cell = this.cells.get(label);
    if (cell === undefined) {
      cell = { label: el("dt", "", label), value: el("dd") };
      this.cells.set(label, cell);
      this.list.append(cell.label, cell.value);
    }
    setHidden(cell.label, value === null);
    setHidden(cell.value, value === null);
    setText(cell.value, value ?? "");
  }
}
