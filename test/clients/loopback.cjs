// Keeps a Node program on the loopback: it listens nowhere else, and where it would
// look up a name or connect elsewhere it gets an error, and LOOPBACK_LOG a line.
// For NODE_OPTIONS=--require.
"use strict";
const dns = require("node:dns");
const fs = require("node:fs");
const net = require("node:net");

const local = (host) => /^(localhost|127\..*|::1|::ffff:127\..*)$/.test(host);

function stray(host) {
  fs.appendFileSync(process.env.LOOPBACK_LOG, `${process.argv.slice(1, 3).join(" ")}: ${host}\n`);
  return Object.assign(new Error(`${host} is not on the loopback`), { code: "ECONNREFUSED" });
}

const connect = net.Socket.prototype.connect;
net.Socket.prototype.connect = function (...args) {
  const [options] = Array.isArray(args[0]) ? args[0] : net._normalizeArgs(args);
  const host = options.host || "localhost";
  if (options.path || local(host)) return connect.apply(this, args);
  const error = stray(host);
  process.nextTick(() => this.destroy(error));
  return this;
};

const listen = net.Server.prototype.listen;
net.Server.prototype.listen = function (...args) {
  const [options, callback] = net._normalizeArgs(args);
  if (options.port !== undefined && options.port !== null) options.host = "127.0.0.1";
  return listen.call(this, options, callback);
};

for (const [owner, name] of [[dns, "lookup"], [dns, "resolve4"], [dns, "resolve6"], [dns, "resolve"]]) {
  const original = owner[name];
  owner[name] = function (host, ...rest) {
    if (!host || local(host)) return original.call(this, host, ...rest);
    const callback = rest[rest.length - 1];
    process.nextTick(callback, stray(host));
  };
}
