// Choosing what is charted: by keyboard, kept in the address and the storage, within its bounds.

import assert from "node:assert/strict";
import { test } from "node:test";
import { rowOf, skip, textOf, untilLive, withBrowser, withPage } from "./harness.mjs";

withBrowser();

const names = (page) => page.locator(".chart").evaluateAll((all) => all.map((c) => [...c.querySelectorAll(".name")].map((n) => n.textContent).join("+")));

test("a channel is found and charted by keyboard alone, and the choice is kept", { skip }, () =>
  withPage({}, async (page, mock) => {
    await untilLive(page, 4);
    await page.keyboard.press("/");
    await page.keyboard.type("tyre temp");
    await page.keyboard.press("ArrowDown");
    assert.equal(await page.evaluate(() => document.activeElement.id), "channels");
    await page.keyboard.press("ArrowDown");
    await page.keyboard.press("Space");
    await page.waitForFunction(() => document.querySelectorAll(".chart").length === 5);
    assert.equal((await names(page)).at(-1), "tyre.temp_fr");
    assert.equal(await rowOf(page, "tyre.temp_fr").getAttribute("aria-selected"), "true");
    const active = await page.locator("#channels").getAttribute("aria-activedescendant");
    assert.equal(await page.locator(`#${active} .name`).textContent(), "tyre.temp_fr");
    assert.match(page.url(), /#charts=.*tyre\.temp_fr/);
    await page.waitForTimeout(500);
    assert.ok(mock.requests.some((r) => r.startsWith("/api/v1/live") && r.includes("tyre.temp_fr")));
    assert.equal(await page.locator("body").getAttribute("data-link"), "live", "the stream does not break for it");

    await page.goto(mock.url);
    await untilLive(page, 5);
    assert.equal((await names(page)).at(-1), "tyre.temp_fr", "the storage remembers");
    await page.evaluate(() => localStorage.clear());
  }));

test("the address decides what is charted", { skip }, () =>
  withPage({ hash: "#charts=44%2Ftyres%2Ftyre.temp_fl,44%2Ftyres%2Ftyre.temp_fr;44%2Fecu%2Fgearbox.gear" }, async (page) => {
    await untilLive(page, 2);
    await page.waitForFunction(() => document.querySelector(".reading .unit").textContent === "°C");
    assert.deepEqual(await names(page), ["tyre.temp_fl+tyre.temp_fr", "gearbox.gear"]);
  }));

test("charts are joined, split and emptied with their buttons, and the focus is not lost", { skip }, () =>
  withPage({ hash: "#charts=44%2Fecu%2Fgearbox.gear;44%2Ftyres%2Ftyre.temp_fl;44%2Ftyres%2Ftyre.temp_fr" }, async (page) => {
    await untilLive(page, 3);
    await page.waitForFunction(() => [...document.querySelectorAll(".reading .unit")].at(-1).textContent === "°C");
    await page.locator(".chart").nth(2).getByRole("button", { name: "Lay this chart over" }).press("Enter");
    assert.deepEqual(await names(page), ["gearbox.gear", "tyre.temp_fl+tyre.temp_fr"]);
    assert.equal(await page.evaluate(() => document.activeElement.tagName), "BUTTON");
    await page.locator(".chart").nth(1).getByRole("button", { name: "a chart of its own" }).click();
    assert.equal((await names(page)).length, 3);
    for (let left = 2; left >= 0; left -= 1) {
      await page.locator(".close").first().click();
      assert.equal(await page.locator(".chart").count(), left);
    }
    assert.ok(await page.locator("#no-charts").isVisible());
    await page.evaluate(() => localStorage.clear());
  }));

test("a ninth chart is refused with a reason", { skip }, () =>
  withPage({}, async (page) => {
    await untilLive(page, 4);
    await page.locator("#channels").focus();
    await page.locator("#search").fill("wheel");
    for (const name of ["fl", "fr", "rl", "rr"]) await rowOf(page, `wheel.speed_${name}`).click();
    assert.equal(await page.locator(".chart").count(), 8);
    await page.locator("#search").fill("battery");
    await rowOf(page, "battery.voltage").click();
    assert.equal(await page.locator(".chart").count(), 8);
    assert.match(await textOf(page, "#said"), /at most 8 charts/);
    await page.evaluate(() => localStorage.clear());
  }));

test("782 channels stay light: few rows exist, and the page leaves the processor alone", { skip }, () =>
  withPage({ mock: { channels: 782 } }, async (page, mock) => {
    await untilLive(page, 4);
    await page.waitForFunction(() => document.querySelector("#channels-count").textContent === "782");
    assert.ok((await page.locator("#channels-body tr").count()) < 60);
    const cdp = await page.context().newCDPSession(page);
    await cdp.send("Performance.enable");
    const script_s = async () => (await cdp.send("Performance.getMetrics")).metrics.find((m) => m.name === "ScriptDuration").value;
    const before = await script_s();
    await page.waitForTimeout(4000);
    const share = (await script_s()) - before;
    console.log(`    scripts took ${((share / 4) * 100).toFixed(1)} % of the time`);
    assert.ok(share / 4 < 0.5, `scripts took ${share} s of 4 s`);
    await page.locator("#channels").focus();
    await page.keyboard.press("End");
    const active = await page.locator("#channels").getAttribute("aria-activedescendant");
    assert.equal(await page.locator(`#${active} .name`).textContent(), "tyre.temp_rr");
    assert.ok(await page.locator(`#${active}`).isVisible());
    assert.ok(mock.requests.filter((r) => r === "/api/v1/channels").length <= 2, "the list is not asked for again and again");
  }));
