// Takes a picture of a running agent's page:
//   node tests/picture.mjs URL OUT.png [--dark] [--phone] [--after SECONDS] [--full]

import { parseArgs } from "node:util";
import { openBrowser, PHONE, WIDE } from "./browser.mjs";

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    dark: { type: "boolean", default: false },
    phone: { type: "boolean", default: false },
    full: { type: "boolean", default: false },
    after: { type: "string", default: "3" },
  },
});
const [url, out] = positionals;
const after_s = Number(values.after);
if (url === undefined || out === undefined || !(after_s >= 0)) {
  console.error("usage: picture.mjs URL OUT.png [--dark] [--phone] [--after SECONDS] [--full]");
  process.exit(2);
}

const browser = await openBrowser({
  viewport: values.phone ? PHONE : WIDE,
  deviceScaleFactor: values.phone ? 2 : 1,
  colorScheme: values.dark ? "dark" : "light",
});
try {
  const page = await browser.context.newPage();
  await page.goto(url);
  await page.waitForTimeout(after_s * 1000);
  await page.screenshot({ path: out, fullPage: values.full });
} catch (error) {
  console.error(`picture of ${url}: ${error.message}`);
  process.exitCode = 1;
} finally {
  await browser.close();
}
