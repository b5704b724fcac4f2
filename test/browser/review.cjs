// Opens the pages of mcp-bootstrap review in a browser, and prints as JSON what is wrong with
// them. Its input is JSON on stdin:
//
//   browser   the program
//   small     the file of a page at which axe looks, at several widths and in both schemes
//   large     the file of a page with many clients and servers
//   pictures  a folder for pictures, or ""
const fs = require("node:fs");
const path = require("node:path");
const { createRequire } = require("node:module");
const { pathToFileURL } = require("node:url");

const modules = createRequire(path.join(process.argv[2], "node_modules", "x.js"));
const { chromium } = modules("playwright-core");
const axe = fs.readFileSync(modules.resolve("axe-core/axe.min.js"), "utf8");
const input = JSON.parse(fs.readFileSync(0, "utf8"));
const findings = [];

async function open(browser, file, name, options) {
  const page = await (await browser.newContext({ viewport: { width: 1280, height: 740 }, ...options })).newPage();
  page.on("console", (m) => findings.push(`${name}: console: ${m.text()}`));
  page.on("pageerror", (e) => findings.push(`${name}: error: ${e.message}`));
  page.on("request", (r) => { if (!r.isNavigationRequest()) findings.push(`${name}: loads ${r.url()}`); });
  await page.goto(pathToFileURL(file).href);
  return page;
}

async function picture(page, name) {
  if (input.pictures) await page.screenshot({ path: path.join(input.pictures, `review-${name}.png`) });
}

// fits looks whether the page itself, other than the tables in it, scrolls sideways.
async function fits(page, name) {
  const wide = await page.evaluate(() => document.documentElement.scrollWidth - document.documentElement.clientWidth);
  if (wide > 0) findings.push(`${name}: is ${wide} px too wide`);
}

async function small(browser) {
  const page = await open(browser, input.small, "small", {});
  await page.evaluate(axe);
  for (const width of [360, 1280]) {
    for (const colorScheme of ["light", "dark"]) {
      const name = `small, ${width} px, ${colorScheme}`;
      await page.setViewportSize({ width, height: 740 });
      await page.emulateMedia({ colorScheme });
      await fits(page, name);
      await picture(page, `small-${width}-${colorScheme}`);
      const result = await page.evaluate(() => window.axe.run(document, { resultTypes: ["violations"] }));
      for (const rule of result.violations) findings.push(`${name}: axe: ${rule.id}: ${rule.nodes[0].target.join(" ")}: ${rule.nodes[0].failureSummary}`);
    }
  }
  const first = () => page.locator(".matrix tbody th").first().textContent();
  const before = await first();
  const head = page.locator(".matrix thead th").first();
  await head.click();
  await head.press("Enter");
  if (await first() === before) findings.push("small: the rows are not sorted by the key");
  if (await head.getAttribute("aria-sort") !== "descending") findings.push("small: the heading does not say how it is sorted");
}

async function plain(browser) {
  const page = await open(browser, input.small, "without script", { javaScriptEnabled: false });
  await picture(page, "without-script");
  if (await page.locator(".matrix tbody tr").count() !== 10) findings.push("without script: the matrix has not 10 rows");
  if (await page.locator(".find").count() !== 0) findings.push("without script: there is a field that does nothing");
}

async function large(browser) {
  const page = await open(browser, input.large, "large", {});
  await fits(page, "large");
  const at = await page.evaluate(() => {
    const matrix = document.querySelector(".matrix");
    matrix.scrollTo(900, 2000);
    const box = matrix.getBoundingClientRect();
    const head = matrix.querySelectorAll("thead th")[60].getBoundingClientRect();
    const name = matrix.querySelectorAll("tbody th")[150].getBoundingClientRect();
    return { top: head.top - box.top, left: name.left - box.left };
  });
  if (Math.abs(at.top) > 2) findings.push(`large: the head of the matrix has gone ${at.top} px`);
  if (Math.abs(at.left) > 2) findings.push(`large: the names of the clients have gone ${at.left} px`);
  await page.locator("#matrix .find").fill("client-499");
  const rows = await page.locator(".matrix tbody tr:visible").count();
  if (rows !== 1) findings.push(`large: ${rows} rows are left for one name`);
  await picture(page, "large");
}

async function main() {
  const browser = await chromium.launch({ executablePath: input.browser, args: ["--no-sandbox", "--disable-gpu"] });
  await Promise.all([small, plain, large].map((look) => look(browser)));
  await browser.close();
  console.log(JSON.stringify(findings));
}

main().catch((e) => { console.error(e); process.exit(1); });
