// Sends a call twenty times at once, on one connection of HTTP/2: node http2.cjs URL HEADER BODY.
const http2 = require("node:http2");

const [url, header, body] = process.argv.slice(2);
const { origin, pathname } = new URL(url);
const session = http2.connect(origin);
session.on("error", (err) => { throw err; });

const fields = { ":method": "POST", ":path": pathname };
for (const [name, [value]] of Object.entries(JSON.parse(header))) fields[name.toLowerCase()] = value;

let open = 20;
for (let i = open; i > 0; i--) {
  const stream = session.request(fields);
  let status, text = "";
  stream.setEncoding("utf8");
  stream.on("response", (headers) => { status = headers[":status"]; });
  stream.on("data", (piece) => { text += piece; });
  stream.on("end", () => {
    console.log(status, text.replace(/\s+/g, " "));
    if (--open === 0) session.close();
  });
  stream.on("error", (err) => { throw err; });
  stream.end(body);
}
