// A mock of the agent for work on the page and its tests: dist/ (or fallback/) and the agent's API,
// with a plausible car, under the strictest policy that the page has to live with.
//
//   node mock/server.mjs [--port 8711] [--channels 31] [--mode MODE] [--fallback]
//
// MODE: normal, stale, spilling, full, draining, down, unbalanced; limited (a stage limits, and a reload was
// refused), stuck (a stage stands still), old (an agent that says nothing of stages, steps and configuration).
//
// While it runs: POST /mock {"mode":"stale"}, {"stream":"cut"|"silent"|"on"} changes it.

import { readFile } from "node:fs/promises";
import { createServer } from "node:http";
import { extname } from "node:path";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { makeCar } from "./car.mjs";
import { makeStatus } from "./status.mjs";

const BIN_US = 100_000;
const WINDOW_US = 30_000_000;
const CSP =
  "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";
const TYPES = { ".html": "text/html; charset=utf-8", ".js": "text/javascript", ".css": "text/css", ".svg": "image/svg+xml" };

/** Quality flags: out of range; drift and rate of change; an input that is flagged itself. */
const FLAGGED = [
  ["44/ecu/engine.oil_pressure", 1],
  ["44/tyres/tyre.temp_rr", 1024 | 32],
  ["44/chassis/wheel.slip_rear", 8192],
];

/** Starts the mock; `set` changes what it plays, `url` is where it listens. */
export async function startMock({ port = 0, channels = 31, mode = "normal", fallback = false, skew_s = 0 } = {}) {
  const car = makeCar("44", channels);
  const root = new URL(fallback ? "../fallback/" : "../dist/", import.meta.url);
  const state = { mode, stream: "on", started_us: now_us() - 754_000_000, changed_us: now_us() - 12_400_000, flagged: new Map(FLAGGED) };
  const open = new Set();
  const requests = [];

  /** Until when a device has sent: in mode `stale` all but the GPS fell silent 12 s before. */
  const until_us = (channel, now) => (state.mode === "stale" && channel.device !== "gps" ? Math.min(now, state.changed_us) : now);
  const source_us = (t_us) => t_us - skew_s * 1e6;
  const last = (channel, now) => {
    const period_us = 1e6 / channel.rate_hz;
    const t_us = Math.floor(until_us(channel, now) / period_us) * period_us;
    const quality = state.flagged.get(channel.key) ?? 0;
    return [source_us(t_us), channel.at(t_us / 1e6), quality, Math.max(0.01, (now - t_us) / 1e6)];
  };
  const points = (channel, from, to) => {
    const out = [];
    const end = until_us(channel, to);
    const period_us = 1e6 / channel.rate_hz;
    for (let bin = Math.floor(from / BIN_US) * BIN_US; bin < end; bin += BIN_US) {
      let min = Infinity;
      let max = -Infinity;
      for (let t = Math.ceil(bin / period_us) * period_us; t < bin + BIN_US && t <= end; t += period_us) {
        const v = channel.at(t / 1e6);
        min = Math.min(min, v);
        max = Math.max(max, v);
      }
      if (min <= max) out.push([source_us(bin), min, max]);
    }
    return out;
  };
  const list = (now) =>
    car.map(({ at, ...channel }) => {
      const [t_us, value, quality, age_s] = last({ ...channel, at }, now);
      const derived = state.mode === "old" ? undefined : channel.derived;
      return { ...channel, derived, t_us, value, quality, age_s, samples: Math.round(channel.rate_hz * 754) };
    });

  function live(request, response, url) {
    const wanted = new Set((url.searchParams.get("channels") ?? "").split(",").map(decodeURIComponent));
    const shown = car.filter((c) => wanted.has(c.key));
    response.writeHead(200, { "content-type": "text/event-stream", "cache-control": "no-store", "content-security-policy": CSP });
    const send = (event, data) => {
      if (state.stream !== "silent") response.write(`event: ${event}\ndata: ${JSON.stringify(data)}\n\n`);
    };
    let from = now_us() - WINDOW_US;
    const sendPoints = () => {
      const now = now_us();
      const series = Object.fromEntries(shown.map((c) => [c.key, points(c, from, now)]).filter(([, p]) => p.length > 0));
      from = Math.floor(now / BIN_US) * BIN_US;
      send("points", { now_us: now, series });
    };
    const sendValues = () => {
      const now = now_us();
      send("values", { now_us: now, values: Object.fromEntries(car.map((c) => [c.key, last(c, now)])) });
    };
    const sendStatus = () => send("status", makeStatus(state, car, now_us()));
    sendPoints();
    sendValues();
    sendStatus();
    const timers = [setInterval(sendPoints, 100), setInterval(sendValues, 500), setInterval(sendStatus, 1000)];
    open.add(response);
    request.on("close", () => {
      timers.forEach(clearInterval);
      open.delete(response);
    });
  }

  function set(change) {
    if (change.mode !== undefined && change.mode !== state.mode) Object.assign(state, { mode: change.mode, changed_us: now_us() });
    if (change.stream !== undefined) state.stream = change.stream;
    if (state.stream === "cut") for (const response of open) response.destroy();
  }

  const server = createServer(async (request, response) => {
    const url = new URL(request.url, "http://mock");
    requests.push(url.pathname + url.search);
    const json = (data, code = 200) => {
      response.writeHead(code, { "content-type": "application/json", "cache-control": "no-store" });
      response.end(JSON.stringify(data));
    };
    if (url.pathname === "/mock" && request.method === "POST") {
      let body = "";
      for await (const chunk of request) body += chunk;
      set(JSON.parse(body));
      return json({});
    }
    if (state.stream === "cut" && url.pathname.startsWith("/api/")) return request.socket.destroy();
    if (url.pathname === "/api/v1/status") return json(makeStatus(state, car, now_us()));
    if (url.pathname === "/api/v1/channels") return json(list(now_us()));
    if (url.pathname === "/api/v1/live") return live(request, response, url);
    const name = url.pathname === "/" ? "index.html" : url.pathname.slice(1);
    if (!/^[a-z]+\.(html|js|css|svg)$/.test(name)) return json({ error: "no such page" }, 404);
    try {
      const content = await readFile(fileURLToPath(new URL(name, root)));
      response.writeHead(200, { "content-type": TYPES[extname(name)], "content-security-policy": CSP, "x-content-type-options": "nosniff" });
      response.end(content);
    } catch {
      json({ error: `${name} is not built: run npm run build` }, 404);
    }
  });
  await new Promise((resolve) => server.listen(port, "127.0.0.1", resolve));
  return {
    url: `http://127.0.0.1:${server.address().port}/`,
    requests,
    set,
    async close() {
      for (const response of open) response.destroy();
      server.closeAllConnections();
      await new Promise((resolve) => server.close(resolve));
    },
  };
}

function now_us() {
  return Math.round((performance.timeOrigin + performance.now()) * 1000);
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const { values } = parseArgs({
    options: {
      port: { type: "string", default: "8711" },
      channels: { type: "string", default: "31" },
      mode: { type: "string", default: "normal" },
      fallback: { type: "boolean", default: false },
    },
  });
  const mock = await startMock({ ...values, port: Number(values.port), channels: Number(values.channels) });
  console.log(mock.url);
}
