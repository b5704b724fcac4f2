// Opens pages in a browser, at several widths and in both colour schemes, and prints as
// JSON what is wrong with them. Its input is JSON on stdin:
//
//   browser   the program
//   pages     [{name, url, views}]: in how many of the views axe looks at it
//   views     [{width, scheme}]
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

// look returns what is wrong with a page.
async function look(page, one) {
  const findings = (await page.evaluate(made)).map((text) => `${one.name}: ${text}`);
  const unfold = (open) => page.evaluate((open) => document.querySelectorAll("details").forEach((d) => { d.open = open; }), open);
  const picture = async (view, state) => {
    if (!input.pictures) return;
    await page.screenshot({ path: path.join(input.pictures, `${one.name}${state}-${view.width}-${view.scheme}.png`), fullPage: !one.name.includes("500") });
  };
  await page.evaluate(axe);
  for (const [n, view] of input.views.entries()) {
    await page.setViewportSize({ width: view.width, height: 740 });
    await page.emulateMedia({ colorScheme: view.scheme });
    await picture(view, "");
    await unfold(true);
    if (one.name.startsWith("root")) await picture(view, "-open");
    const found = await page.evaluate(wide);
    if (n < one.views) found.push(...await obstacles(page));
    findings.push(...found.map((text) => `${one.name}, ${view.width} px, ${view.scheme}: ${text}`));
    await unfold(false);
  }
  return findings;
}

// workers is how many pages are looked at at once.
const workers = 2;

async function main() {
  const browser = await chromium.launch({ executablePath: input.browser, args: ["--no-sandbox", "--disable-gpu"] });
  const findings = [];
  const waiting = [...input.pages];
  await Promise.all(Array.from({ length: workers }, async () => {
    const page = await (await browser.newContext()).newPage();
    let messages = [];
    // The browser's own line about the status of an error page is no mistake.
    page.on("console", (m) => { if (!m.text().startsWith("Failed to load resource: the server responded")) messages.push(`console: ${m.text()}`); });
    page.on("pageerror", (e) => messages.push(`error: ${e.message}`));
    page.on("request", (r) => { if (!r.isNavigationRequest()) messages.push(`loads ${r.url()}`); });
    for (let one; (one = waiting.shift());) {
      messages = [];
      await page.goto(one.url);
      findings.push(...await look(page, one), ...messages.map((text) => `${one.name}: ${text}`));
    }
  }));
  await browser.close();
  console.log(JSON.stringify(findings));
}

main().catch((e) => { console.error(e); process.exit(1); });
