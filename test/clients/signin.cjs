// An application on the official TypeScript SDK that signs its person in. It is told on stdin,
// and tells on stdout, a line of JSON each:
//
//   call             calls the tool echo; {"answer": text}, or {"open": url} if somebody has
//                    to sign in first
//   back URL         the browser has come back to URL; {"answer": ""}
//
// Its arguments are the folder of the modules and the server's URL.
"use strict";
const path = require("node:path");
const readline = require("node:readline");
const { createRequire } = require("node:module");

const [folder, url] = process.argv.slice(2);
const { Client, StreamableHTTPClientTransport, UnauthorizedError } =
  createRequire(path.join(folder, "node_modules", "x.js"))("@modelcontextprotocol/client");

const say = (line) => process.stdout.write(JSON.stringify(line) + "\n");

// kept is what an application would keep on disk.
const kept = {};
const provider = {
  redirectUrl: "http://localhost:8091/callback",
  clientMetadata: {
    client_name: "TypeScript SDK",
    redirect_uris: ["http://localhost:8091/callback"],
    grant_types: ["authorization_code", "refresh_token"],
    response_types: ["code"],
    token_endpoint_auth_method: "none",
  },
  state: () => (kept.state = crypto.randomUUID()),
  clientInformation: () => kept.client,
  saveClientInformation: (client) => void (kept.client = client),
  tokens: () => kept.tokens,
  saveTokens: (tokens) => void (kept.tokens = tokens),
  saveCodeVerifier: (verifier) => void (kept.verifier = verifier),
  codeVerifier: () => kept.verifier,
  discoveryState: () => kept.discovery,
  saveDiscoveryState: (state) => void (kept.discovery = state),
  redirectToAuthorization: (to) => void (kept.open = String(to)),
  invalidateCredentials: (scope) => {
    if (scope === "all" || scope === "tokens") delete kept.tokens;
    if (scope === "all" || scope === "client") delete kept.client;
  },
};

let client, transport;

async function connect() {
  transport = new StreamableHTTPClientTransport(new URL(url), { authProvider: provider });
  client = new Client({ name: "typescript-sdk", version: "1" });
  await client.connect(transport);
}

async function call() {
  try {
    if (!client) await connect();
    const result = await client.callTool({ name: "echo", arguments: { message: "hi" } });
    say({ answer: result.content.map((part) => part.text).join("\n") });
  } catch (error) {
    client = undefined;
    if (!(error instanceof UnauthorizedError) || !kept.open) throw error;
    say({ open: kept.open });
  }
}

async function back(to) {
  const { searchParams } = new URL(to);
  if (searchParams.get("state") !== kept.state) throw new Error("another state");
  delete kept.open;
  await transport.finishAuth(searchParams);
  say({ answer: "" });
}

readline.createInterface({ input: process.stdin }).on("line", async (line) => {
  const [command, argument] = line.split(" ");
  try {
    await (command === "call" ? call() : back(argument));
  } catch (error) {
    say({ error: String(error.stack || error) });
  }
});
