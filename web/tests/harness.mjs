// What every test of the page needs: a mock agent, a page in a real browser, and what went wrong in it.

import assert from "node:assert/strict";
import { after, before } from "node:test";
import { startMock } from "../mock/server.mjs";
import { findChromium, openBrowser, WIDE } from "./browser.mjs";

/** Why the tests cannot run here, or false; said loudly, because a skipped test proves nothing. */
export const skip = findChromium() === null ? "SKIPPED: no Chromium here. Install the package chromium, or set PITWIRE_CHROMIUM" : false;
if (skip) console.error(`\n*** ${skip} ***\n`);

let browser = null;

/** Opens one browser for all tests of a file. */
export function withBrowser() {
  before(async () => {
    if (!skip) browser = await openBrowser({ viewport: WIDE });
  });
  after(async () => {
    await browser?.close();
  });
}

/** What it says about the tests' own reading of the canvas. */
const READBACK = /willReadFrequently/;
/** What a browser says about a connection that was cut: expected where a test cuts it. */
const CUT = /net::ERR_|Failed to load resource/;

/**
 * Runs `test` with a page on a mock of its own. Afterwards: nothing in the console, nothing refused
 * by the policy, no request to anywhere else.
 */
export async function withPage({ mock: options = {}, viewport = WIDE, scheme = "light", cuts = false, hash = "" }, test) {
  const mock = await startMock(options);
  const page = await browser.context.newPage();
  const faults = [];
  const elsewhere = [];
  page.on("console", (message) => {
    if (!["error", "warning"].includes(message.type())) return;
    if (!READBACK.test(message.text()) && !(cuts && CUT.test(message.text()))) faults.push(`${message.type()}: ${message.text()}`);
  });
  page.on("pageerror", (error) => faults.push(`uncaught: ${error.message}`));
  page.on("request", (request) => {
    if (!request.url().startsWith(mock.url)) elsewhere.push(request.url());
  });
  await page.addInitScript(() => {
    document.addEventListener("securitypolicyviolation", (event) => console.error(`csp: ${event.violatedDirective} ${event.blockedURI}`));
  });
  try {
    await page.emulateMedia({ colorScheme: scheme });
    await page.setViewportSize(viewport);
    await page.goto(mock.url + hash);
    await test(page, mock);
    assert.deepEqual(faults, [], "the console is clean");
    assert.deepEqual(elsewhere, [], "nothing is asked of another host");
  } finally {
    await page.close();
    await mock.close();
  }
}

/** Waits until the page is live and its charts are there. */
export async function untilLive(page, charts = 1) {
  await page.waitForSelector('body[data-link="live"]');
  await page.waitForFunction((n) => document.querySelectorAll(".chart canvas").length >= n, charts);
}

/** What a chart's canvas shows of its first line: how many pixels, and how far right they reach (0 to 1 of the plot). */
export function inkOf(page, index = 0) {
  return page.evaluate((i) => {
    const chart = document.querySelectorAll(".chart")[i];
    const canvas = chart.querySelector("canvas");
    const { width, height } = canvas;
    const swatch = getComputedStyle(chart.querySelector(".swatch")).backgroundColor.match(/\d+/g).map(Number);
    const { data } = canvas.getContext("2d").getImageData(0, 0, width, height);
    const over = chart.querySelector(".u-over");
    const left = parseFloat(over.style.left);
    const plot = parseFloat(over.style.width);
    let pixels = 0;
    let right = 0;
    let sum = 0;
    for (let y = 0; y < height; y += 1) {
      for (let x = Math.ceil(left); x < width; x += 1) {
        const at = 4 * (y * width + x);
        if (data[at + 3] < 200 || swatch.some((c, k) => Math.abs(c - data[at + k]) > 40)) continue;
        pixels += 1;
        right = Math.max(right, x);
        sum = (sum * 31 + x * 7 + y) % 1_000_000_007;
      }
    }
    return { pixels, reach: (right - left) / plot, sum };
  }, index);
}

/** Waits until a chart's line reaches the present; on a busy machine an event may be late. */
export async function untilPresent(page, index = 0) {
  let ink = await inkOf(page, index);
  for (let tries = 0; tries < 25 && ink.reach <= 0.97; tries += 1) {
    await page.waitForTimeout(200);
    ink = await inkOf(page, index);
  }
  assert.ok(ink.reach > 0.97, `chart ${index} reaches the present: ${ink.reach}`);
  return ink;
}

/** The text of the first element that a selector finds. */
export const textOf = (page, selector) => page.locator(selector).first().textContent();

/** The row of the table of channels that shows this channel. */
export const rowOf = (page, channel) => page.locator("#channels-body tr.row", { has: page.locator(`.name:text-is("${channel}")`) });
