// Light, dark or as the system says; and the colours as a canvas needs them.

import { byId, setText } from "./dom";

const STORAGE_KEY = "pitwire.theme";
const ORDER = ["auto", "light", "dark"] as const;
type Theme = (typeof ORDER)[number];

/** A colour of the style sheet, resolved for the theme that is on. */
export function colour(name: string): string {
  const probe = byId("probe");
  probe.style.color = `var(${name})`;
  return getComputedStyle(probe).color;
}

/** Puts the choice of theme on its button. `onChange` runs when the colours have changed. */
export function startTheme(onChange: () => void): void {
  const toggle = byId("theme");
  let theme = stored();
  const apply = (): void => {
    if (theme === "auto") delete document.documentElement.dataset["theme"];
    else document.documentElement.dataset["theme"] = theme;
    setText(toggle, theme);
    toggle.setAttribute("aria-label", `Theme: ${theme}. Change it`);
  };
  apply();
  toggle.addEventListener("click", () => {
    theme = ORDER[(ORDER.indexOf(theme) + 1) % ORDER.length] ?? "auto";
    try {
      localStorage.setItem(STORAGE_KEY, theme);
    } catch {
      // Without storage the choice lasts as long as the page.
    }
    apply();
    onChange();
  });
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", onChange);
}

function stored(): Theme {
  try {
    return ORDER.find((t) => t === localStorage.getItem(STORAGE_KEY)) ?? "auto";
  } catch {
    return "auto";
  }
}
