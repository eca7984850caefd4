import assert from "node:assert/strict";
import { test } from "node:test";
import { type Frame, SseParser } from "../src/index.js";

interface Read {
  frames: Frame[];
  lastEventId: string;
  retry: number | undefined;
}

function read(...pieces: Uint8Array[]): Read {
  const parser = new SseParser();
  const frames = pieces.flatMap((piece) => [...parser.push(piece)]);
  return { frames, lastEventId: parser.lastEventId, retry: parser.retry };
}

/** Reads the text whole, and cut at every byte, and at every two bytes: it must come out the same. */
function readEverywhere(text: string): Read {
  const bytes = new TextEncoder().encode(text);
  const whole = read(bytes);
  for (let first = 0; first <= bytes.length; first++) {
    for (let second = first; second <= bytes.length; second++) {
      const cut = read(bytes.subarray(0, first), bytes.subarray(first, second), bytes.subarray(second));
      assert.deepEqual(cut, whole, `cut at ${first} and ${second}`);
    }
  }
  assert.deepEqual(read(...[...bytes].map((byte) => Uint8Array.of(byte))), whole, "byte by byte");
  return whole;
}

const message = (data: string, type = "message"): Frame => ({ type, data });

test("the examples of the standard", () => {
  assert.deepEqual(readEverywhere("data: YHOO\ndata: +2\ndata: 10\n\n").frames, [message("YHOO\n+2\n10")]);
  const stream = ": test stream\n\ndata: first event\nid: 1\n\ndata:second event\nid\n\ndata:  third event\n\n";
  const { frames, lastEventId } = readEverywhere(stream);
  assert.deepEqual(frames, [message("first event"), message("second event"), message(" third event")]);
  assert.equal(lastEventId, "");
  assert.deepEqual(readEverywhere("data\n\ndata\ndata\n\ndata:").frames, [message(""), message("\n")]);
  assert.deepEqual(readEverywhere("data:test\n\ndata: test\n\n").frames, [message("test"), message("test")]);
});

test("lines end with LF, CR or CRLF, also mixed and cut in two", () => {
  for (const end of ["\n", "\r", "\r\n"]) {
    const text = ["event: a", "data: 1", "data: 2", "", "data: 3", "", ""].join(end);
    assert.deepEqual(readEverywhere(text).frames, [message("1\n2", "a"), message("3")], JSON.stringify(end));
  }
  assert.deepEqual(readEverywhere("data: 1\rdata: 2\r\ndata: 3\n\r\ndata: 4\n\r").frames, [message("1\n2\n3"), message("4")]);
  assert.deepEqual(readEverywhere("data: 1\r\r\n\ndata: 2\n\n").frames, [message("1"), message("2")]);
});

test("a byte order mark counts at the beginning only", () => {
  assert.deepEqual(readEverywhere("\uFEFFdata: 1\n\n").frames, [message("1")]);
  assert.deepEqual(readEverywhere("\n\uFEFFdata: 1\n\n").frames, []);
  assert.deepEqual(readEverywhere("\uFEFF\uFEFFdata: 1\n\n").frames, []);
});

test("characters may be cut in two", () => {
  assert.deepEqual(readEverywhere("data: é€😀\n\n").frames, [message("é€😀")]);
});

test("comments and unknown fields say nothing", () => {
  const text = ":\n: comment\nfoo: bar\ndata : 1\nData: 1\n\nevent: x\n\n:data: 1\n\ndata: :1\n\n";
  assert.deepEqual(readEverywhere(text).frames, [message(":1")]);
});

test("an id lasts, one with a null does not count, and what is not complete does not move it", () => {
  assert.equal(readEverywhere("id: 7\n\n").lastEventId, "7");
  assert.equal(readEverywhere("id: 7\ndata: 1\n\ndata: 2\n\n").lastEventId, "7");
  assert.equal(readEverywhere("id: 7\n\nid: 8\0\n\n").lastEventId, "7");
  const incomplete = readEverywhere("id: 7\ndata: 1\n\nid: 8\ndata: 2\n");
  assert.deepEqual([incomplete.lastEventId, incomplete.frames], ["7", [message("1")]]);
});

test("a retry is digits and nothing else", () => {
  assert.equal(readEverywhere("retry: 1500\n").retry, 1500);
  for (const bad of ["", "-1", "1.5", "1e3", " 5", "0x1", "٣"]) assert.equal(readEverywhere(`retry: ${bad}\n`).retry, undefined, bad);
});
