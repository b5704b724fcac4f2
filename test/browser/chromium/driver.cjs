// Drives a browser for the tests: it reads commands from stdin, JSON on one line each, and
// answers each with one line. Arguments: the folder of the npm packages, the browser's
// program, and JSON with "hosts" (names to addresses).
const path = require("node:path");
const readline = require("node:readline");
const { createRequire } = require("node:module");

const [folder, program, options] = process.argv.slice(2);
const { chromium } = createRequire(path.join(folder, "node_modules", "x.js"))("playwright-core");
const { hosts, patience } = JSON.parse(options);

const windows = [];
const tabs = [];

const commands = {
  // A window has cookies of its own. No page in it runs a script.
  async window(browser, { header }) {
    const context = await browser.newContext({ javaScriptEnabled: false, extraHTTPHeaders: header ?? {} });
    context.setDefaultTimeout(patience);
    windows.push(context);
    return windows.length - 1;
  },

  async forget(_, { window }) { await windows[window].clearCookies(); },

  async tab(_, { window }) {
    const page = await windows[window].newPage();
    const tab = { page, visits: [], trouble: [] };
    // What the browser goes to, links to other programs among it.
    page.on("request", (r) => { if (r.isNavigationRequest()) tab.visits.push(r.url()); else tab.trouble.push(`loads ${r.url()}`); });
    // The browser's own line about the status of an error page is no mistake.
    page.on("console", (m) => { if (!m.text().startsWith("Failed to load resource: the server responded")) tab.trouble.push(m.text()); });
    tabs.push(tab);
    return tabs.length - 1;
  },

  async open(_, { tab, url }) { await tabs[tab].page.goto(url, { waitUntil: "commit" }).catch(only(/ERR_ABORTED/)); },
  async fill(_, { tab, label, text }) { await (await front(tab)).getByLabel(label).fill(text); },
  async choose(_, { tab, label }) { await (await front(tab)).getByLabel(label, { exact: true }).check(); },
  async press(_, { tab, name }) { await (await front(tab)).getByRole("button", { name, exact: true }).click(); },

  async see(_, { tab }) {
    const { page, visits, trouble } = tabs[tab];
    const seen = { url: page.url(), heading: "", text: "", visits, trouble };
    try {
      // A page that has come in part would show a part of its text.
      Object.assign(seen, await page.evaluate(() => document.readyState === "loading" ? {} : {
        url: location.href,
        heading: document.querySelector("h1")?.innerText ?? "",
        text: document.body?.innerText ?? "",
      }));
    } catch (e) {
      only(/Execution context was destroyed|navigat/)(e); // another page is on its way
    }
    return seen;
  },
};

// front is a tab's page, with the tab before the others of its window, as a person has it.
async function front(tab) {
  const { page } = tabs[tab];
  await page.bringToFront();
  return page;
}

// only swallows the errors that match.
function only(pattern) {
  return (e) => { if (!pattern.test(e.message)) throw e; };
}

async function main() {
  const rules = Object.entries(hosts ?? {}).map(([name, address]) => `MAP ${name} ${address}`).join(", ");
  const args = ["--no-sandbox", "--disable-gpu", "--ignore-certificate-errors"];
  if (rules) args.push(`--host-resolver-rules=${rules}`);
  const browser = await chromium.launch({ executablePath: program, args });
  for await (const line of readline.createInterface({ input: process.stdin })) {
    const command = JSON.parse(line);
    let answer;
    try {
      answer = { result: (await commands[command.do](browser, command)) ?? null };
    } catch (e) {
      answer = { error: e.message };
    }
    process.stdout.write(JSON.stringify(answer) + "\n");
  }
  await browser.close();
}

main().catch((e) => { console.error(e); process.exit(1); });
