// The page in a real browser, against the mock agent: what it shows, and what it says when data stops.

import assert from "node:assert/strict";
import { test } from "node:test";
import { inkOf, rowOf, skip, textOf, untilLive, untilPresent, withBrowser, withPage } from "./harness.mjs";

withBrowser();

test("charts draw the last 30 s and scroll on", { skip }, () =>
  withPage({}, async (page) => {
    await untilLive(page, 4);
    await page.waitForTimeout(1000);
    assert.equal(await page.locator(".chart").count(), 4);
    for (let i = 0; i < 4; i += 1) {
      const first = await untilPresent(page, i);
      assert.ok(first.pixels > 300, `chart ${i} is drawn: ${first.pixels} pixels`);
      await page.waitForTimeout(400);
      assert.notEqual((await inkOf(page, i)).sum, first.sum, `chart ${i} moves`);
    }
  }));

test("the first choice is speed, rpm, throttle with brake, accelerations", { skip }, () =>
  withPage({}, async (page) => {
    await untilLive(page, 4);
    const charts = await page.locator(".chart").evaluateAll((all) => all.map((c) => [...c.querySelectorAll(".name")].map((n) => n.textContent)));
    assert.deepEqual(charts, [["vehicle.speed"], ["engine.rpm"], ["driver.throttle", "driver.brake"], ["accel.lat", "accel.lon"]]);
  }));

test("values update in the table and in the heads of the charts", { skip }, () =>
  withPage({}, async (page) => {
    await untilLive(page, 4);
    for (const read of [() => rowOf(page, "damper.fl").locator(".value").textContent(), () => textOf(page, ".chart:nth-of-type(2) .value")]) {
      const seen = new Set();
      for (let i = 0; i < 30 && seen.size < 4; i += 1) {
        const text = await read();
        assert.match(text, /\d/);
        seen.add(text);
        await page.waitForTimeout(250);
      }
      assert.equal(seen.size, 4, `values seen: ${[...seen].join(" ")}`);
    }
  }));

test("a value that has stopped looks stale in itself, others do not", { skip }, () =>
  withPage({}, async (page, mock) => {
    await untilLive(page, 4);
    const style = (locator) => locator.evaluate((n) => ({ line: getComputedStyle(n).textDecorationLine, color: getComputedStyle(n).color }));
    const row = rowOf(page, "vehicle.speed");
    const fresh = await style(row.locator(".value"));
    assert.equal(fresh.line, "none");
    mock.set({ mode: "stale" });
    await page.waitForFunction(() => /^stale [2-9]/.test(document.querySelector(".reading .age").textContent), null, { timeout: 8000 });
    await page.waitForFunction(() => [...document.querySelectorAll("#channels-body .stale .name")].some((n) => n.textContent === "vehicle.speed"));
    const stale = await style(row.locator(".value"));
    assert.equal(stale.line, "line-through");
    assert.notEqual(stale.color, fresh.color);
    assert.match(await row.locator(".age").textContent(), /^stale \d/);
    assert.equal((await style(page.locator(".reading .value").first())).line, "line-through");
    await page.locator("#search").fill("gps.altitude");
    assert.equal((await style(rowOf(page, "gps.altitude").locator(".value"))).line, "none", "the GPS still sends");
    await page.waitForTimeout(1500);
    assert.ok((await inkOf(page, 0)).reach < 0.92, "the chart shows a gap up to the present");
    mock.set({ mode: "normal" });
    await page.waitForFunction(() => document.querySelector(".reading .age").textContent === "");
  }));

test("a slow channel is not stale before three of its periods", { skip }, () =>
  withPage({ hash: "#charts=44%2Fgps%2Flap.number" }, async (page) => {
    await untilLive(page, 1);
    for (let i = 0; i < 12; i += 1) {
      await page.waitForTimeout(500);
      assert.equal(await textOf(page, ".reading .age"), "");
    }
  }));

for (const how of ["cut", "silent"]) {
  test(`a stream that is ${how} makes everything stale at once, and comes back by itself`, { skip }, () =>
    withPage({ cuts: true }, async (page, mock) => {
      await untilLive(page, 4);
      mock.set({ stream: how });
      await page.waitForSelector('body[data-link="lost"]', { timeout: how === "cut" ? 1500 : 3000 });
      assert.ok(await page.locator("#lost").isVisible());
      const line = (selector) => page.locator(selector).first().evaluate((n) => getComputedStyle(n).textDecorationLine);
      for (const selector of [".reading .value", "#channels-body td.value", "#store-state", "#store-facts dd", "#ledger td:not(.sign)", "#store-chip", "#clock", "#pipeline-verdict", "#pipeline .taken", "#steps .num"]) {
        assert.equal(await line(selector), "line-through", selector);
      }
      await page.waitForTimeout(2500);
      assert.match(await textOf(page, "#link-chip"), /^lost [2-9]/);
      mock.set({ stream: "on" });
      await page.waitForSelector('body[data-link="live"]', { timeout: 10_000 });
      assert.ok(await page.locator("#lost").isHidden());
      assert.equal(await line("#store-state"), "none");
      await untilPresent(page); // the charts go on, and what was missed is filled in
    }));
}

test("a source with a clock of its own is charted by that clock, and the page says so", { skip }, () =>
  withPage({ mock: { skew_s: 3600 } }, async (page) => {
    await untilLive(page, 4);
    await page.waitForTimeout(1500);
    assert.match(await textOf(page, "#shift"), /source time is (1 h 0 min|59 min \d+ s|60 min \d+ s) behind/);
    await untilPresent(page);
  }));

test("the cursor reads every chart, by mouse and by keyboard", { skip }, () =>
  withPage({}, async (page) => {
    await untilLive(page, 4);
    await page.waitForTimeout(500);
    const box = await page.locator("#stack").boundingBox();
    await page.mouse.move(box.x + box.width / 2, box.y + 60);
    await page.waitForTimeout(200);
    const read = await page.locator(".at-cursor").allTextContents();
    assert.equal(read.length, 6);
    for (const text of read) assert.match(text, /\d/);
    assert.match(await textOf(page, "#cursor-time"), /^\d\d:\d\d:\d\d\.\d\d {2}−1\d\.\d s$/);
    await page.mouse.move(5, 5);
    assert.ok(await page.locator("#cursor").isHidden());
    await page.locator("#ruler").focus();
    await page.keyboard.press("PageUp");
    await page.keyboard.press("ArrowLeft");
    await page.waitForTimeout(150);
    assert.equal(await page.locator("#ruler").getAttribute("aria-valuenow"), "-5.1");
    assert.match(await textOf(page, ".at-cursor"), /\d/);
    await page.keyboard.press("Escape");
    assert.ok(await page.locator("#cursor").isHidden());
  }));

test("held charts stand still and say for how long", { skip }, () =>
  withPage({}, async (page) => {
    await untilLive(page, 4);
    await page.waitForTimeout(500);
    await page.keyboard.press("h");
    await page.waitForTimeout(300);
    const first = await inkOf(page, 0);
    await page.waitForTimeout(1200);
    assert.equal((await inkOf(page, 0)).sum, first.sum);
    assert.match(await textOf(page, "#hold"), /^held \d/);
    await page.locator("#hold").click();
    await page.waitForTimeout(400);
    assert.notEqual((await inkOf(page, 0)).sum, first.sum);
  }));

test("the ledger adds up, and says clearly when it does not", { skip }, () =>
  withPage({}, async (page, mock) => {
    await untilLive(page);
    await page.waitForFunction(() => document.querySelector("#ledger-verdict").textContent === "adds up");
    const total = (row) => page.locator("#ledger tr.total").nth(row).locator("td:not(.sign)").first().textContent();
    assert.match(await total(0), /\d{3}/);
    assert.equal(await total(0), await total(1));
    mock.set({ mode: "unbalanced" });
    await page.waitForFunction(() => document.querySelector("#ledger-verdict").dataset.tone === "bad");
    assert.equal(await textOf(page, "#ledger-verdict"), "does not add up: 17 missing");
  }));

test("what was derived stands beside the sum, not in it, and every policy that drops is named", { skip }, () =>
  withPage({}, async (page) => {
    await untilLive(page);
    await page.waitForSelector("#ledger-derived:visible");
    assert.match(await textOf(page, "#ledger-derived"), /^derived, apart from the sum: [\d\u202f]+ computed = [\d\u202f]+ stored \+ 24 in flight$/);
    assert.equal(await page.locator("#ledger", { hasText: "derived" }).count(), 0);
    const policies = await page.locator("#ledger-drops .policy").allTextContents();
    assert.deepEqual(policies.map((p) => p.split(" ")[0]), ["damaged", "decimate", "memory", "overflow", "validate"]);
    assert.equal(await page.locator("#ledger-drops .loss").count(), 0, "nothing is lost");
    assert.equal(await textOf(page, "#ledger-verdict"), "adds up");
  }));

test("a drain shows how far it is, how fast, and when it is over", { skip }, () =>
  withPage({ mock: { mode: "draining" } }, async (page, mock) => {
    await untilLive(page);
    await page.waitForSelector("#spill-drain:visible");
    const bar = page.getByRole("progressbar");
    assert.match(await bar.getAttribute("aria-valuetext"), /^[\d\u202f]+ of 400\u202f000 samples$/);
    const at = async () => Number((await bar.getAttribute("aria-valuetext")).split(" ")[0].replaceAll("\u202f", ""));
    const first = await at();
    assert.ok(first > 30_000);
    await page.waitForTimeout(1500);
    assert.ok((await at()) > first, "it goes on");
    assert.match(await textOf(page, "#spill-drain-left"), /^1 min \d+ s left$/);
    assert.match(await textOf(page, "#spill-drain-detail"), / · 3\u202f100 \/s$/);
    mock.set({ mode: "normal" });
    await page.waitForSelector("#spill-drain", { state: "hidden" });
  }));

test("spilling shows in the header, the spill, the queue and the store", { skip }, () =>
  withPage({ mock: { mode: "spilling" } }, async (page) => {
    await untilLive(page);
    await page.waitForFunction(() => /\/s/.test(document.querySelector("#spill-facts").textContent));
    assert.equal(await textOf(page, "#spill-chip"), "spilling");
    assert.equal(await textOf(page, "#deliver-state"), "spilling");
    assert.match(await textOf(page, "#spill-facts"), /of 2\.00 GiB.*samples.*\+\d/);
    assert.match(await textOf(page, "#store-detail"), /no answer/);
    const meter = page.locator('#pipeline [aria-label="Queue chunk"]');
    assert.equal(await meter.getAttribute("aria-valuenow"), "84");
    assert.equal(await meter.getAttribute("data-tone"), "warn");
  }));

test("the pipeline stands in the data's order, and says calmly that nothing limits", { skip }, () =>
  withPage({}, async (page) => {
    await untilLive(page);
    await page.waitForFunction(() => /\d \/s/.test(document.querySelector("#pipeline .taken").textContent));
    const rows = await page.locator("#pipeline > li").evaluateAll((all) => all.map((n) => n.querySelector(".label")?.textContent ?? n.querySelector(".who-is").firstChild.textContent));
    assert.deepEqual(rows, ["sources", "queue raw", "decode", "queue decode", "preprocess", "queue preprocess", "chunk", "queue chunk", "delivery"]);
    assert.equal(await textOf(page, "#pipeline-verdict"), "nothing limits: all stages wait for data");
    assert.equal(await textOf(page, "#pipeline-chip"), "flows");
    assert.equal(await page.locator("#pipeline .tag:visible").count(), 0);
    assert.match(await textOf(page, "#pipeline .stage .time"), /^busy \d %.*starved 9\d %$/);
    assert.match(await textOf(page, "#pipeline .stage .flow"), /p50 0\.05 ms · p99 0\.40 ms/);
  }));

test("the stage that limits is marked, with what it fails on and the queue in front of it", { skip }, () =>
  withPage({ mock: { mode: "limited" } }, async (page) => {
    await untilLive(page);
    await page.waitForSelector("#pipeline .limits");
    assert.match(await textOf(page, "#pipeline-verdict"), /^stage "preprocess" limits: .*97 % of the time/);
    assert.equal(await textOf(page, "#pipeline-chip"), "limited");
    const stage = page.locator("#pipeline .limits");
    assert.equal(await stage.count(), 1);
    assert.equal(await stage.locator(".label").textContent(), "preprocess");
    assert.ok(await stage.locator(".tag").isVisible());
    assert.equal(await stage.locator(".faults").textContent(), "2 failed · 2 skipped");
    assert.match(await stage.locator(".time").textContent(), /busy 97 % · pool wait 1 % · starved 2 %/);
    const widths = await stage.locator(".share").evaluateAll((all) => all.map((n) => n.style.width));
    assert.deepEqual(widths, ["97%", "1%", "0%"]);
    assert.match(await page.locator("#pipeline .queue", { hasText: "queue decode" }).textContent(), /512 of 512.*full 97 % of the time.*writer blocked/);
  }));

test("a stage that stands still is an alarm, said once, and over when it goes on", { skip }, () =>
  withPage({}, async (page, mock) => {
    await untilLive(page);
    await page.waitForSelector("#pipeline .stage");
    mock.set({ mode: "stuck" });
    await page.waitForFunction(() => document.querySelector("#said").textContent === "stage preprocess stands still");
    assert.equal(await page.locator("#pipeline-chip").locator("..").getAttribute("data-tone"), "bad");
    assert.match(await textOf(page, "#pipeline-verdict"), /^stage "preprocess" has stood still for \d/);
    assert.match(await textOf(page, "#pipeline .still .time"), /stands still for \d/);
    mock.set({ mode: "normal" });
    await page.waitForFunction(() => document.querySelector("#said").textContent === "stage preprocess goes on");
    assert.equal(await page.locator("#pipeline .still").count(), 0);
  }));

test("where delivery limits, the end of the way is marked", { skip }, () =>
  withPage({ mock: { mode: "spilling" } }, async (page) => {
    await untilLive(page);
    await page.waitForSelector("#pipeline .end");
    assert.ok(await page.locator("#pipeline .end").last().locator(".tag").isVisible());
    assert.equal(await textOf(page, "#pipeline-state"), "delivery limits");
  }));

test("an older agent's page shows its queues, and that nothing is known of its stages", { skip }, () =>
  withPage({ mock: { mode: "old" } }, async (page) => {
    await untilLive(page, 4);
    await page.waitForSelector("#pipeline .queue");
    assert.equal(await page.locator("#pipeline .queue").count(), 4);
    assert.match(await textOf(page, "#pipeline-verdict"), /does not say/);
    assert.equal(await textOf(page, "#pipeline-chip"), "–");
  }));

test("the steps say what they did and why, by step, with the rate and the last case", { skip }, () =>
  withPage({}, async (page) => {
    await untilLive(page);
    await page.waitForFunction(() => /\d \/s/.test(document.querySelector("#steps .rate")?.textContent ?? ""));
    assert.deepEqual(await page.locator("#steps .label").allTextContents(), ["dedup", "calibrate", "validate", "derive", "anomaly", "decimate"]);
    const deed = page.locator("#steps .deed", { hasText: "engine.oil_pressure" });
    assert.match(await deed.textContent(), /^engine\.oil_pressureout of range[\d\u202f]+(9\.\d|10\.\d|1\d|\d\.\d) \/sengine\.oil_pressure 5\.00 bar/);
    assert.equal(await page.locator("#steps .deed").first().locator(".rule").textContent(), "any channel");
    await page.locator("#steps-box").focus();
    await page.keyboard.press("End");
    assert.ok(await page.locator("#steps .deed").last().isVisible());
  }));

test("where no step did anything, one line says so", { skip }, () =>
  withPage({ mock: { mode: "stale" } }, async (page) => {
    await untilLive(page);
    await page.waitForSelector("#no-steps:visible");
    assert.match(await textOf(page, "#no-steps"), /^Nothing to tell/);
    assert.ok(await page.locator("#steps-head").isHidden());
  }));

test("when nothing can be written the page says so on top, and what is known of it", { skip }, () =>
  withPage({}, async (page, mock) => {
    await untilLive(page);
    assert.ok(await page.locator("#alarm").isHidden());
    mock.set({ mode: "nowhere" });
    await page.waitForSelector("#alarm:visible");
    assert.match(await textOf(page, "#alarm"), /^Alarm: neither the store nor the spill takes data/);
    assert.match(await textOf(page, "#flow-facts"), /gaps declared4 gaps · 4.100 samples · 7 frames/);
    assert.match(await textOf(page, "#spill-facts"), /by priorityhigh 12.000 · normal 48.000 · low 3.000 \(4.100 given up\)/);
    assert.match(await textOf(page, "#spill-scan"), /earlier run left.*8\.00 MiB of 32\.0 MiB/);
    mock.set({ mode: "full" });
    await page.waitForFunction(() => document.querySelector("#alarm").textContent.startsWith("The spill is full: "));
    mock.set({ mode: "normal" });
    await page.waitForSelector("#alarm", { state: "hidden" });
    assert.ok(await page.locator("#spill-scan").isHidden());
  }));

test("a refused reload is a warning until the next good one", { skip }, () =>
  withPage({}, async (page, mock) => {
    await untilLive(page);
    await page.waitForFunction(() => /configuration revision 2 since .*\d\d:\d\d:\d\d UTC$/.test(document.querySelector("#about").textContent));
    assert.ok(await page.locator("#refusal").isHidden());
    mock.set({ mode: "limited" });
    await page.waitForSelector("#refusal:visible");
    assert.match(await textOf(page, "#refusal"), /was refused: revision 2 since .* stays in force\.\npitwire\.toml:31: /);
    mock.set({ mode: "normal" });
    await page.waitForSelector("#refusal", { state: "hidden" });
  }));

test("a source that is down says why, and a device's losses are counted", { skip }, () =>
  withPage({ mock: { mode: "down" } }, async (page) => {
    await untilLive(page);
    await page.waitForSelector(".source");
    const source = page.locator(".source").first();
    assert.equal(await source.locator(".state").textContent(), "down");
    assert.match(await source.locator(".advice").textContent(), /no such device/);
    assert.deepEqual((await source.locator("tbody tr").first().locator("td").allTextContents()).slice(1, 3), ["3", "36"]);
    assert.equal(await source.locator("tbody tr").first().locator("td").last().textContent(), "99.98 %");
  }));

test("quality flags are named beside the value, several of them counted and all told", { skip }, () =>
  withPage({}, async (page) => {
    await untilLive(page);
    const row = rowOf(page, "engine.oil_pressure");
    assert.equal(await row.locator(".flags").textContent(), "range");
    assert.match(await row.getAttribute("title"), /\nout_of_range: outside the range/);
    await page.locator("#search").fill("tyre.temp_rr");
    const two = rowOf(page, "tyre.temp_rr");
    assert.equal(await two.locator(".flags").textContent(), "jump +1");
    assert.match(await two.getAttribute("title"), /\nrate_of_change: .*\ndrift: /);
    const fits = await two.locator(".flags").evaluate((n) => n.scrollWidth <= n.clientWidth);
    assert.ok(fits, "nothing is cut off");
  }));

test("derived channels are marked, and found by that", { skip }, () =>
  withPage({}, async (page) => {
    await untilLive(page);
    const mark = (channel) => rowOf(page, channel).locator(".derived-mark");
    assert.ok(await mark("wheel.slip_rear").isVisible());
    assert.ok(await mark("vehicle.speed").isHidden());
    assert.match(await rowOf(page, "wheel.slip_rear").getAttribute("title"), /derived: computed by the agent\ndoubtful_input: /);
    await page.locator("#search").fill("derived");
    assert.equal(await textOf(page, "#channels-count"), "2 of 31");
  }));
