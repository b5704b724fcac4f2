// Opens pages in a browser, at several widths and in both colour schemes, and prints as
// JSON what is wrong with them. Its input is JSON on stdin:
//
//   browser   the program
//   pages     [{name, url, deep}]; deep: with all that is folded away, in every view
//   views     [{width, scheme}]; the first alone for pages that are not deep
//   pictures  a folder for a picture of every view, or ""
const fs = require("node:fs");
const path = require("node:path");
const { createRequire } = require("node:module");

const modules = createRequire(path.join(process.argv[2], "node_modules", "x.js"));
const { chromium } = modules("playwright-core");
const axe = fs.readFileSync(modules.resolve("axe-core/axe.min.js"), "utf8");
const input = JSON.parse(fs.readFileSync(0, "utf8"));

// made is what is wrong with the page as it came, whatever its size.
function made() {
  const found = [];
  for (const e of document.querySelectorAll("script, img, iframe, object, embed, link, [style]")) found.push(`has ${e.outerHTML.slice(0, 100)}`);
  for (const e of document.querySelectorAll("*")) {
    for (const a of e.attributes) if (a.name.startsWith("on")) found.push(`has ${a.name} at ${e.tagName}`);
  }
  if (document.querySelectorAll("h1").length !== 1) found.push("has not one h1");
  return found;
}

// wide is what does not fit into the width of the page.
function wide() {
  const found = [];
  const root = document.documentElement;
  if (root.scrollWidth > root.clientWidth) found.push(`scrolls sideways: ${root.scrollWidth} > ${root.clientWidth}`);
  for (const e of document.querySelectorAll("*")) {
    const box = e.getBoundingClientRect();
    if (box.width > 0 && box.right > root.clientWidth + 1) found.push(`${e.tagName} ends at ${box.right}`);
  }
  return found.slice(0, 3);
}

// undecided are the cases in which axe cannot tell a contrast: a link of one letter, and
// what lies under the bar that stays in view.
const undecided = ["shortTextContent", "bgOverlap"];

// obstacles are what axe finds, and what it could not decide.
async function obstacles(page) {
  const result = await page.evaluate(() => window.axe.run(document, { resultTypes: ["violations", "incomplete"] }));
  const found = [];
  for (const kind of ["violations", "incomplete"]) {
    for (const rule of result[kind]) {
      const nodes = rule.nodes.filter((n) => !n.any.some((c) => c.data && undecided.includes(c.data.messageKey)));
      for (const node of nodes.slice(0, 3)) found.push(`axe, ${kind}: ${rule.id}: ${node.target.join(" ")}: ${node.failureSummary || rule.help}`);
    }
  }
  return found;
}

async function main() {
  const browser = await chromium.launch({ executablePath: input.browser, args: ["--no-sandbox", "--disable-gpu"] });
  const findings = [];
  const context = await browser.newContext();
  const page = await context.newPage();
  let messages = [];
  // The browser's own line about the status of an error page is no mistake.
  page.on("console", (m) => { if (!m.text().startsWith("Failed to load resource: the server responded")) messages.push(`console: ${m.text()}`); });
  page.on("pageerror", (e) => messages.push(`error: ${e.message}`));
  page.on("request", (r) => { if (!r.isNavigationRequest()) messages.push(`loads ${r.url()}`); });
  for (const one of input.pages) {
    messages = [];
    const views = one.deep ? input.views : input.views.slice(0, 1);
    await page.goto(one.url);
    for (const text of await page.evaluate(made)) findings.push(`${one.name}: ${text}`);
    await page.evaluate(axe);
    for (const view of views) {
      await page.setViewportSize({ width: view.width, height: 740 });
      await page.emulateMedia({ colorScheme: view.scheme });
      if (input.pictures) await page.screenshot({ path: path.join(input.pictures, `${one.name}-${view.width}-${view.scheme}.png`), fullPage: !one.name.includes("500") });
      if (one.deep) await page.evaluate(() => document.querySelectorAll("details").forEach((d) => { d.open = true; }));
      if (input.pictures && one.name.startsWith("root")) await page.screenshot({ path: path.join(input.pictures, `${one.name}-open-${view.width}-${view.scheme}.png`), fullPage: true });
      for (const text of [...await page.evaluate(wide), ...await obstacles(page)]) findings.push(`${one.name}, ${view.width} px, ${view.scheme}: ${text}`);
      if (one.deep) await page.evaluate(() => document.querySelectorAll("details").forEach((d) => { d.open = false; }));
    }
    for (const text of messages) findings.push(`${one.name}: ${text}`);
  }
  await browser.close();
  console.log(JSON.stringify(findings));
}

main().catch((e) => { console.error(e); process.exit(1); });
