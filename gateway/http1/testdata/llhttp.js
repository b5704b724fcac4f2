// Reads requests with the parser of Node (llhttp), for node_test.go. A batch on standard input is
// its length (4 bytes), and then streams: the number of their pieces (2 bytes), and each piece
// behind its length (4 bytes). The parser gets each piece by itself. The answer to a batch is its
// length (4 bytes), and for each stream its length (4 bytes) and lines, all in Latin-1:
//
//   M <method> <target> <major>.<minor> <piece> <fields>   a header, whose end is in that piece
//   <name>
//   <value>                                                of each field
//   E <piece> <length>                                     a body, whose end is in that piece
//   I <piece> <length>                                     a body that has not ended
//   <body>
//   X <code>                                               the parser refuses the rest
'use strict';
const fs = require('fs');
// A part of Node's tests: it needs --expose-internals.
const { HTTPParser, allMethods } = require('internal/test/binding').internalBinding('http_parser');

const parser = new HTTPParser();
let text, piece, fields, target, body, open, upgrades;

parser[HTTPParser.kOnHeaders] = (some, url) => { // a part of many, or trailers
  if (!open) {
    fields.push(...some);
    target += url;
  }
};
parser[HTTPParser.kOnHeadersComplete] = (major, minor, some, method, url, status, reason, upgrade) => {
  upgrades = upgrade;
  if (some !== undefined) {
    fields = some;
    target = url;
  }
  text += `M ${allMethods[method]} ${target} ${major}.${minor} ${piece} ${fields.length / 2}\n`;
  for (const part of fields) text += part + '\n';
  fields = [];
  target = body = '';
  open = true;
  return 0;
};
parser[HTTPParser.kOnBody] = (bytes) => { body += bytes.latin1Slice(); };
parser[HTTPParser.kOnMessageComplete] = () => {
  text += `E ${piece} ${body.length}\n${body}\n`;
  open = false;
};

function begin() {
  parser.initialize(HTTPParser.REQUEST, {}, 1 << 20, HTTPParser.kLenientNone);
  upgrades = false;
}

// stream reads the pieces from an offset on, and returns where they end.
function stream(batch, at) {
  begin();
  text = target = body = '';
  fields = [];
  open = false;
  let failed = false;
  const pieces = batch.readUInt16LE(at);
  at += 2;
  for (piece = 0; piece < pieces; piece++) {
    const length = batch.readUInt32LE(at);
    at += 4;
    for (let done = 0; done < length && !failed;) {
      if (upgrades && !open) begin(); // after an offer to upgrade, which nobody took, errors would stay unknown
      const result = parser.execute(batch.subarray(at + done, at + length));
      if (!(result > 0)) { // an error; or it does not go on
        text += `X ${result.code || 'stays'}\n`;
        failed = true;
      } else {
        done += result;
      }
    }
    at += length;
  }
  if (open) text += `I ${piece} ${body.length}\n${body}\n`;
  return at;
}

// read fills a buffer, and reports whether there was so much.
function read(buffer) {
  for (let have = 0; have < buffer.length;) {
    const n = fs.readSync(0, buffer, have, buffer.length - have, null);
    if (n === 0) return false;
    have += n;
  }
  return true;
}

for (const size = Buffer.alloc(4); read(size);) {
  const batch = Buffer.allocUnsafe(size.readUInt32LE());
  if (!read(batch)) break;
  const texts = [];
  let length = 4;
  for (let at = 0; at < batch.length;) {
    at = stream(batch, at);
    texts.push(text);
    length += 4 + text.length;
  }
  const answer = Buffer.allocUnsafe(length);
  let at = answer.writeUInt32LE(length - 4);
  for (const one of texts) {
    at = answer.writeUInt32LE(one.length, at);
    at += answer.latin1Write(one, at);
  }
  for (let done = 0; done < answer.length;) done += fs.writeSync(1, answer, done);
}
