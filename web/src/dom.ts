// Making and changing elements. Text and attributes are written only when they differ, so that a
// quiet page costs nothing; nothing here takes markup, so no text from a car can become any.

type Child = Node | string;

/** An element with a class and children. */
export function el<K extends keyof HTMLElementTagNameMap>(
  tag: K,
  className = "",
  ...children: Child[]
): HTMLElementTagNameMap[K] {
  const node = document.createElement(tag);
  if (className !== "") node.className = className;
  node.append(...children);
  return node;
}

/** Sets an element's text, if it differs. The element holds nothing but text. */
export function setText(node: Element, text: string): void {
  const first = node.firstChild;
  if (first instanceof Text && first.nextSibling === null) {
    if (first.data !== text) first.data = text;
  } else if (first !== null || text !== "") {
    node.textContent = text;
  }
}

/** Sets an attribute, if it differs; null takes it away. */
export function setAttr(node: Element, name: string, value: string | null): void {
  if (node.getAttribute(name) === value) return;
  if (value === null) node.removeAttribute(name);
  else node.setAttribute(name, value);
}

/** Shows or hides an element. */
export function setHidden(node: HTMLElement, hidden: boolean): void {
  if (node.hidden !== hidden) node.hidden = hidden;
}

/** The element with this id, which `index.html` holds. */
export function byId(id: string): HTMLElement {
  const node = document.getElementById(id);
  if (node === null) throw new Error(`index.html lacks #${id}`);
  return node;
}

/** A button that cannot submit anything. */
export function button(className: string, label: string, onClick: () => void, ...children: Child[]): HTMLButtonElement {
  const node = el("button", className, ...children);
  node.type = "button";
  node.title = label;
  node.setAttribute("aria-label", label);
  node.addEventListener("click", onClick);
  return node;
}

/** Keeps one node per key, in order: makes the new ones, drops those that are gone. */
export class Keyed<T, V extends { node: HTMLElement }> {
  private readonly views = new Map<string, V>();
  constructor(
    private readonly parent: HTMLElement,
    private readonly make: (item: T) => V,
    private readonly update: (view: V, item: T) => void,
  ) {}

  render(items: readonly T[], keyOf: (item: T) => string): void {
    const seen = new Set<string>();
    let place = this.parent.firstElementChild;
    for (const item of items) {
      const key = keyOf(item);
      if (seen.has(key)) continue;
      seen.add(key);
      let view = this.views.get(key);
      if (view === undefined) {
        view = this.make(item);
        this.views.set(key, view);
      }
      if (view.node === place) place = place.nextElementSibling;
      else this.parent.insertBefore(view.node, place);
      this.update(view, item);
    }
    for (const [key, view] of this.views) {
      if (seen.has(key)) continue;
      view.node.remove();
      this.views.delete(key);
    }
  }
}
