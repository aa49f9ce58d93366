// The time axis that all charts share, and the cursor's handle for the keyboard (a slider).

import { byId, setAttr } from "./dom";
import { timeOfDay } from "./format";
import { colour } from "./theme";

const TICK_S = 5;
const LABEL_PX_MIN = 74;

export class Ruler {
  private readonly node = byId("ruler");
  private readonly canvas = this.node.querySelector("canvas") as HTMLCanvasElement;
  private ink = "";

  /** `move` takes a step of the cursor in seconds, or null to put it away. */
  constructor(
    private readonly window_s: number,
    move: (step_s: number | null) => void,
  ) {
    this.node.addEventListener("keydown", (event) => {
      const step = ({ ArrowLeft: -0.1, ArrowRight: 0.1, PageUp: -5, PageDown: 5, Home: -window_s, End: window_s } as const)[
        event.key as "ArrowLeft"
      ];
      if (step !== undefined) move(event.shiftKey ? step * 10 : step);
      else if (event.key === "Escape") move(null);
      else return;
      event.preventDefault();
    });
    this.node.addEventListener("blur", () => move(null));
  }

  /** Takes the colours of the theme that is on. */
  paint(): void {
    this.ink = colour("--ink-3");
  }

  /** Says to assistive technology where the cursor is. */
  say(cursor_s: number | null, edge_s: number): void {
    const back = cursor_s === null ? 0 : Math.round((cursor_s - edge_s) * 10) / 10;
    setAttr(this.node, "aria-valuenow", String(back));
    setAttr(this.node, "aria-valuetext", cursor_s === null ? "no cursor" : `${timeOfDay(cursor_s, 1)}, ${Math.abs(back)} s ago`);
  }

  draw(edge_s: number, left_px: number, width_px: number): void {
    const ratio = devicePixelRatio;
    const width = this.node.clientWidth;
    const height = this.node.clientHeight;
    if (this.canvas.width !== Math.round(width * ratio) || this.canvas.height !== Math.round(height * ratio)) {
      this.canvas.width = Math.round(width * ratio);
      this.canvas.height = Math.round(height * ratio);
    }
    const context = this.canvas.getContext("2d");
    if (context === null) return;
    context.setTransform(ratio, 0, 0, ratio, 0, 0);
    context.clearRect(0, 0, width, height);
    context.fillStyle = this.ink;
    context.font = "11px system-ui, sans-serif";
    context.textAlign = "center";
    context.textBaseline = "middle";
    const px_per_s = width_px / this.window_s;
    const every = Math.ceil(LABEL_PX_MIN / (TICK_S * px_per_s)) * TICK_S;
    const start_s = edge_s - this.window_s;
    for (let t = Math.ceil(start_s / TICK_S) * TICK_S; t <= edge_s; t += TICK_S) {
      const x = left_px + (t - start_s) * px_per_s;
      context.fillRect(x, 0, 1, 4);
      if (t % every === 0 && x > 28 && x < width - 28) context.fillText(timeOfDay(t), x, 13);
    }
  }
}
