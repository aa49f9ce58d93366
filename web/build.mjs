// Bundles the page into dist/: index.html, app.js, app.css, favicon.svg. Nothing is fetched at run time.
import { copyFileSync, mkdirSync, rmSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { build } from "esbuild";

const here = (path) => fileURLToPath(new URL(path, import.meta.url));

rmSync(here("dist"), { recursive: true, force: true });
mkdirSync(here("dist"), { recursive: true });

await build({
  absWorkingDir: here("."),
  entryPoints: { app: "src/main.ts" },
  outdir: "dist",
  bundle: true,
  minify: true,
  format: "iife",
  target: ["chrome123", "firefox121", "safari17.5"], // the first with `light-dark()`
  legalComments: "none",
  banner: { js: "/* Pitwire pit wall. Contains uPlot, (c) Leon Sorokin, MIT licence. */" },
  logLevel: "warning",
});
copyFileSync(here("src/index.html"), here("dist/index.html"));
copyFileSync(here("fallback/favicon.svg"), here("dist/favicon.svg"));
