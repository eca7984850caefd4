import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";
import { test } from "node:test";
import { ToolgateClient, ToolgateError, type ToolgateEvent } from "../src/index.js";
import { shared } from "./app/gateway.js";
import { Proxy } from "./app/proxy.js";
import { collect, take } from "./app/streams.js";

const gateway = shared();

/** A call of `task.create` is requested and succeeds. */
const PER_CALL = 2;
const positions = (events: ToolgateEvent[]) => events.map((event) => ("position" in event ? event.position : event.type));

test("a cut connection is opened again where it was: nothing is lost, nothing comes twice", async (t) => {
  const token = await gateway.token();
  const proxy = await Proxy.before(gateway.url);
  t.after(() => proxy.close());
  const caller = new ToolgateClient({ url: gateway.url, token });
  const listener = new ToolgateClient({ url: proxy.url, token });
  let connections = 0;
  // An event that never comes is a failure.
  const signal = AbortSignal.timeout(30_000);
  const events = listener.events({ signal, onOpen: () => ++connections === 1 && proxy.cut() });
  const received: ToolgateEvent[] = [];
  const receive = async (next: ReturnType<typeof events.next>) => {
    const { value } = await next;
    if (value) received.push(value);
  };
  // Cut before anything has come: where the stream began is known all the same.
  let next = events.next();
  while (connections === 0) await new Promise(setImmediate);
  const calls = 3;
  for (let number = 0; number < calls; number++) {
    await caller.call("task.create", { title: `task ${number}` });
    for (let event = 0; event < PER_CALL; event++) {
      await receive(next);
      // Also within a call.
      if (event === number % PER_CALL) proxy.cut();
      next = events.next();
    }
  }
  await caller.call("task.create", { title: "the last" });
  await receive(next);
  await events.return();
  assert.deepEqual(positions(received), Array.from({ length: calls * PER_CALL + 1 }, (_, index) => String(index + 1)));
  assert.ok(connections > calls, `${connections} connections`);
  const resumed = proxy.requests.slice(1).map((request) => request.headers["last-event-id"]);
  assert.ok(resumed.every((id) => id !== undefined), `${resumed}`);
});

test("a stream that never opened is given up like any request", async (t) => {
  for (const [lost, retries] of [[1, 1], [2, 1]] as const) {
    const proxy = await Proxy.before(gateway.url, Array.from({ length: lost }, () => "lose connection" as const));
    t.after(() => proxy.close());
    const controller = new AbortController();
    const client = await gateway.client({ url: proxy.url, retries });
    const first = client.events({ signal: controller.signal, onOpen: () => controller.abort(new Error("it is open")) }).next();
    await assert.rejects(first, lost <= retries ? /it is open/ : (error) => error instanceof ToolgateError && error.status === 0);
    assert.equal(proxy.requests.length, Math.min(lost, retries) + 1);
  }
});

test("events have the type of their data, and filters hold", async () => {
  const client = await gateway.client();
  const call = await client.call("task.create", { title: "typed" }, { sessionId: "s" });
  await client.call("task.create", { title: "other" }, { sessionId: "t" });
  const [requested] = await take(client.events({ after: "0", sessionId: "s" }), () => true);
  assert.ok(requested?.type === "tool_call_requested");
  assert.equal(requested.data.arguments["title"], "typed");
  assert.equal(requested.subject, call.call_id);
  const [succeeded] = await take(client.events({ after: "0", callId: call.call_id, type: "tool_call_succeeded" }), () => true);
  assert.ok(succeeded?.type === "tool_call_succeeded");
  assert.deepEqual(succeeded.data.result, call.result);
});

test("a position beyond the newest is reset, and the stream goes on", async () => {
  const client = await gateway.client();
  await client.call("task.create", { title: "a" });
  const events = client.events({ after: "1000" });
  assert.deepEqual((await events.next()).value, { type: "reset", position: String(PER_CALL) });
  const next = events.next();
  await client.call("task.create", { title: "b" });
  const { value } = await next;
  assert.ok(value && "position" in value && value.position === String(PER_CALL + 1), JSON.stringify(value));
  await events.return();
});

test("a token that ends is replaced, or ends the stream", async () => {
  const tenant = randomUUID();
  const short = () => gateway.token({ tenant, ttlSeconds: 2 });
  const without = new ToolgateClient({ url: gateway.url, token: await short() });
  const ended = await collect(without.events());
  assert.deepEqual(ended.map((event) => event.type), ["unauthorized"]);

  let asked = 0;
  const client = new ToolgateClient({
    url: gateway.url,
    token: (refused) => {
      asked++;
      return refused ? gateway.token({ tenant }) : short();
    },
  });
  let connections = 0;
  const events = take(client.events({ after: "0", onOpen: () => connections++ }), (_, count) => count === PER_CALL);
  while (connections < 2) await new Promise((resolve) => setTimeout(resolve, 20));
  await client.call("task.create", { title: "after the token" });
  assert.deepEqual(positions(await events), ["1", "2"]);
  assert.equal(asked, 2);
});

test("a stream ends with its signal, and with the loop", async () => {
  const client = await gateway.client();
  const controller = new AbortController();
  const events = client.events({ signal: controller.signal, onOpen: () => controller.abort(new Error("enough")) });
  await assert.rejects(events.next(), /enough/);
});
