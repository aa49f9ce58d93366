// The pit wall: puts the parts together. Data comes in by one stream; each part renders by itself.

import "./styles/index.css";
import { AgentClock } from "./clock";
import { Charts } from "./charts";
import { byId, setText } from "./dom";
import { Header } from "./header";
import { LedgerPanel } from "./ledger";
import { PipelinePanel } from "./pipeline";
import { RateMeter } from "./rates";
import { Selection } from "./selection";
import { SourcesPanel } from "./sources";
import { StepsPanel } from "./steps";
import { LiveStream } from "./stream";
import { ChannelTable } from "./table";
import { startTheme } from "./theme";
import { Values } from "./values";
import { WayPanels } from "./way";

/** How often ages and the clock count on between two events. */
const TICK_MS = 250;

function start(): void {
  /** Says something once, on the page and to assistive technology. */
  let quiet = 0;
  const say = (text: string): void => {
    setText(byId("said"), text);
    clearTimeout(quiet);
    quiet = window.setTimeout(() => setText(byId("said"), ""), 6000);
  };

  const clock = new AgentClock();
  const header = new Header(say);
  const ledger = new LedgerPanel(say);
  const pipeline = new PipelinePanel(say);
  const steps = new StepsPanel();
  const way = new WayPanels();
  const sources = new SourcesPanel();
  const rates = new RateMeter();
  let car = "";
  /** How many channels the agent last said that it knows. */
  let known = -1;

  const selection = new Selection(() => chosen());
  const values = new Values(() => {
    selection.suggest([...values.byKey.values()].map((live) => live.channel), car);
    charts.rebuild();
    table.list();
  });
  const charts = new Charts(values, selection, clock, say);
  const table = new ChannelTable(values, selection, say);

  const stream = new LiveStream({
    points(event) {
      clock.see(event.now_us);
      charts.points(event);
    },
    values(event) {
      clock.see(event.now_us);
      values.see(event);
      charts.follow();
      table.refresh();
    },
    status(status) {
      clock.see(status.now_us);
      car = status.car;
      const flow = rates.see(status);
      header.render(status);
      ledger.render(status.ledger);
      pipeline.render(status, flow);
      steps.render(status);
      way.render(status, flow);
      sources.render(status.sources);
      if (status.channels !== known) void values.refresh();
      known = status.channels;
    },
    link: (link) => header.setLink(link),
  });

  /** The streamed channels follow the charted ones; the order does not matter to the agent. */
  let streamed: string | null = null;
  function chosen(): void {
    charts.rebuild();
    table.refresh();
    const keys = selection.keys().sort();
    if (keys.join("\n") === streamed) return;
    streamed = keys.join("\n");
    stream.open(keys);
  }

  startTheme(() => charts.rebuild());
  document.addEventListener("keydown", (event) => {
    const typing = event.target instanceof HTMLInputElement;
    if (typing || event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.key === "/") byId("search").focus();
    else if (event.key === "h") charts.toggleHold();
    else return;
    event.preventDefault();
  });
  setInterval(() => {
    header.tick(clock.now_s());
    table.refresh();
  }, TICK_MS);

  void values.refresh();
  chosen();
}

start();
