import assert from "node:assert/strict";
import { test } from "node:test";
import { z } from "zod";
import { ToolgateError } from "../src/index.js";
import { lines } from "../src/lists.js";
import { Transport } from "../src/transport.js";

/** An answer of these chunks; it then goes on without a further one. */
function answering(chunks: string[]): Transport {
  const fetch = async (_: unknown, { signal }: RequestInit = {}) => {
    const body = new ReadableStream({
      start(controller) {
        signal?.addEventListener("abort", () => controller.error(signal.reason));
      },
      pull(controller) {
        const chunk = chunks.shift();
        if (chunk !== undefined) controller.enqueue(new TextEncoder().encode(chunk));
      },
    }, { highWaterMark: 0 });
    return new Response(body);
  };
  return new Transport({ url: "http://127.0.0.1", token: "t", fetch });
}

test("what the caller does with a row takes as long as it takes, and only silence ends the answer", async (t) => {
  t.mock.timers.enable({ apis: ["setTimeout"] });
  const rows = lines(answering(["1\n2\n", "3\n"]), "/", z.number(), {}, undefined);
  for (const row of [1, 2, 3]) {
    assert.equal((await rows.next()).value, row);
    t.mock.timers.tick(60_001);
  }
  const next = rows.next();
  const cutOff = assert.rejects(next, (error) => error instanceof ToolgateError && /stood still/.test(error.message));
  // It is being read by now.
  await new Promise(setImmediate);
  t.mock.timers.tick(60_000);
  await cutOff;
});
