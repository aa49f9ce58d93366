// A real Chromium for the tests and the picture: the machine's own, or PITWIRE_CHROMIUM.

import { existsSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { chromium } from "playwright-core";

const PLACES = [process.env.PITWIRE_CHROMIUM, "/usr/bin/chromium", "/usr/bin/chromium-browser", "/usr/bin/google-chrome"];
const ARGS = [
  "--no-sandbox",
  "--disable-gpu",
  "--no-first-run",
  "--disable-background-networking",
  "--disable-component-update",
  "--disable-sync",
];

/** Where a Chromium is, or null. */
export function findChromium() {
  return PLACES.find((path) => path !== undefined && existsSync(path)) ?? null;
}

/** Opens a browser with a profile of its own, which is gone after `close`. */
export async function openBrowser(options = {}) {
  const executablePath = findChromium();
  if (executablePath === null) throw new Error("no Chromium: install the package chromium, or set PITWIRE_CHROMIUM");
  const profile = mkdtempSync(join(tmpdir(), "pitwire-web-"));
  const context = await chromium.launchPersistentContext(profile, { executablePath, args: ARGS, ...options });
  return {
    context,
    async close() {
      await context.close();
      rmSync(profile, { recursive: true, force: true, maxRetries: 5 });
    },
  };
}

export const WIDE = { width: 1600, height: 1000 };
export const PHONE = { width: 390, height: 844 };
