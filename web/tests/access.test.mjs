// For everybody, on every screen: axe's rules in both themes and in bad states, phone width, theme,
// and the page of an agent that was built without Node.js.

import { AxeBuilder } from "@axe-core/playwright";
import assert from "node:assert/strict";
import { test } from "node:test";
import { PHONE, WIDE } from "./browser.mjs";
import { skip, textOf, untilLive, withBrowser, withPage } from "./harness.mjs";

withBrowser();

async function assertAccessible(page, what) {
  const { violations } = await new AxeBuilder({ page }).analyze();
  const found = violations.map((v) => `${v.id}: ${v.help}: ${v.nodes.map((n) => n.target.join(" ")).slice(0, 3).join(", ")}`);
  assert.deepEqual(found, [], what);
}

async function assertFits(page) {
  const [content, window] = await page.evaluate(() => [document.documentElement.scrollWidth, innerWidth]);
  assert.ok(content <= window, `${content} px of content in a window of ${window} px`);
}

for (const scheme of ["light", "dark"]) {
  for (const [size, viewport] of [["wide", WIDE], ["phone", PHONE]]) {
    for (const mode of ["normal", "stale", "full", "draining", "down", "unbalanced", "limited", "stuck"]) {
      test(`no axe violation and no sideways scrolling: ${scheme}, ${size}, ${mode}`, { skip }, () =>
        withPage({ mock: { mode }, scheme, viewport }, async (page) => {
          await untilLive(page, 4);
          await page.waitForTimeout(600);
          await assertFits(page);
          await assertAccessible(page, `${scheme} ${size} ${mode}`);
        }));
    }
  }
  test(`no axe violation when the stream is lost: ${scheme}`, { skip }, () =>
    withPage({ scheme, cuts: true }, async (page, mock) => {
      await untilLive(page, 4);
      mock.set({ stream: "cut" });
      await page.waitForSelector('body[data-link="lost"]');
      await assertAccessible(page, scheme);
    }));
  test(`the page without charts shows the values, is accessible and fits a phone: ${scheme}`, { skip }, () =>
    withPage({ mock: { fallback: true, mode: "stale" }, scheme, viewport: PHONE }, async (page) => {
      await page.waitForSelector("#channels tr.stale");
      assert.match(await textOf(page, "main"), /install Node\.js, then make web/);
      assert.match(await textOf(page, "#channels tr.stale .age"), /^stale \d+ s$/);
      assert.match(await textOf(page, "#ledger"), /adds up/);
      await assertFits(page);
      await assertAccessible(page, scheme);
    }));
}

test("the page without charts says when the agent is gone", { skip }, () =>
  withPage({ mock: { fallback: true }, cuts: true }, async (page, mock) => {
    await page.waitForSelector("#channels tr");
    mock.set({ stream: "cut" });
    await page.waitForSelector('body[data-link="lost"]', { timeout: 5000 });
    assert.ok(await page.locator("#lost").isVisible());
    mock.set({ stream: "on" });
    await page.waitForSelector('body[data-link="live"]', { timeout: 5000 });
  }));

test("the page without charts says what limits and why a reload was refused, and does without either", { skip }, () =>
  withPage({ mock: { fallback: true, mode: "limited" } }, async (page, mock) => {
    await page.waitForSelector("#channels tr");
    assert.match(await textOf(page, "#queues"), /what limitsstage "preprocess" limits/);
    assert.match(await textOf(page, "#refusal"), /was refused:\npitwire\.toml:31/);
    assert.match(await textOf(page, "#ledger"), /apart: derived/);
    await assertFits(page);
    await assertAccessible(page, "limited");
    mock.set({ mode: "old" });
    await page.waitForSelector("#refusal", { state: "hidden" });
    assert.doesNotMatch(await textOf(page, "#queues"), /what limits/);
    assert.equal(await page.locator("body").getAttribute("data-link"), "live");
  }));

for (const width of [701, 901, 1181, 1421, 2560]) {
  test(`nothing scrolls sideways or is cut off in the pipeline at ${width} px`, { skip }, () =>
    withPage({ mock: { mode: "limited" }, viewport: { width, height: 900 } }, async (page) => {
      await untilLive(page);
      await page.waitForSelector("#pipeline .faults:not(:empty)");
      await assertFits(page);
      const cut = await page.locator("#pipeline :is(.faults, .taken, .who-is, .time, .queue .num)").evaluateAll((all) => all.filter((n) => n.getClientRects().length > 0).filter((n) => n.scrollWidth > n.clientWidth + 1 || n.getBoundingClientRect().right > n.closest(".panel").getBoundingClientRect().right).map((n) => n.textContent));
      assert.deepEqual(cut, []);
    }));
}

test("nothing jumps: panels stay where they are while values change and the stream is lost", { skip }, () =>
  withPage({ cuts: true }, async (page, mock) => {
    await untilLive(page, 4);
    await page.waitForTimeout(1500);
    const places = () => page.locator(".panel, .chart, .reading, .chip, #pipeline > li, .deed").evaluateAll((all) => all.map((n) => `${n.className} ${Object.values(n.getBoundingClientRect().toJSON()).map(Math.round)}`));
    const before = await places();
    await page.waitForTimeout(1500);
    assert.deepEqual(await places(), before);
    mock.set({ stream: "cut" });
    await page.waitForSelector('body[data-link="lost"]');
    const shape = (list) => list.map((p) => p.split(" ").at(-1));
    const chips = await page.locator(".chip").count(); // the page's own has another text now
    assert.deepEqual(shape(await places()).slice(chips), shape(before).slice(chips));
  }));

test("the theme's button goes round, and the choice is kept", { skip }, () =>
  withPage({ scheme: "light" }, async (page) => {
    await untilLive(page, 4);
    const ground = () => page.evaluate(() => getComputedStyle(document.body).backgroundColor);
    const auto = await ground();
    await page.locator("#theme").click();
    assert.equal(await ground(), auto, "light is what the system says");
    await page.locator("#theme").click();
    const dark = await ground();
    assert.notEqual(dark, auto);
    await page.reload();
    await untilLive(page, 4);
    assert.equal(await ground(), dark);
    await page.evaluate(() => localStorage.clear());
  }));
