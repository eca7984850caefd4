import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";
import { test } from "node:test";
import { ZodError } from "zod";
import { OutcomeError, ToolgateClient, ToolgateError } from "../src/index.js";
import { Gateway, shared } from "./app/gateway.js";
import { Proxy } from "./app/proxy.js";
import { collect } from "./app/streams.js";

const gateway = shared();

function isRefusal(status: number, type: string) {
  return (error: unknown) => error instanceof ToolgateError && error.status === status && error.problem.type.endsWith(`:${type}`);
}

function isLost(error: unknown) {
  return error instanceof ToolgateError && error.status === 0 && error.cause instanceof TypeError;
}

test("a lost answer is asked for again under the same key: there is one call", async (t) => {
  const proxy = await Proxy.before(gateway.url, ["lose answer", "lose answer"]);
  t.after(() => proxy.close());
  const client = await gateway.client({ url: proxy.url });
  const call = await client.call("task.create", { title: "once" });
  assert.equal(proxy.requests.length, 3);
  assert.equal(new Set(proxy.requests.map((request) => request.headers["idempotency-key"])).size, 1);
  const rows = await collect(client.audit.list({ type: "tool_call_requested" }));
  assert.deepEqual(rows.map((row) => row.aggregate_id), [call.call_id]);
  assert.equal((await collect(client.tasks())).length, 1);
});

test("a lost connection is tried as often as said, and not once more", async (t) => {
  for (const [lost, retries] of [[1, 2], [2, 2], [3, 2]] as const) {
    const proxy = await Proxy.before(gateway.url, Array.from({ length: lost }, () => "lose answer"));
    t.after(() => proxy.close());
    const client = await gateway.client({ url: proxy.url, retries });
    const tools = client.tools();
    await (lost <= retries ? tools : assert.rejects(tools, isLost));
    assert.equal(proxy.requests.length, Math.min(lost, retries) + 1);
  }
});

test("429 and 503 are waited out as Retry-After asks, other refusals are not", async (t) => {
  for (const status of [429, 503]) {
    const proxy = await Proxy.before(gateway.url, [{ status, headers: { "retry-after": "1" } }]);
    t.after(() => proxy.close());
    await (await gateway.client({ url: proxy.url })).tools();
    const [first, second] = proxy.requests;
    assert.ok(first && second && second.at - first.at >= 1_000, `${status} was not waited out`);
  }
  const proxy = await Proxy.before(gateway.url, [{ status: 500 }, { status: 429, headers: { "retry-after": "3" } }]);
  t.after(() => proxy.close());
  const client = await gateway.client({ url: proxy.url, maxRetryAfterMs: 2_999 });
  await assert.rejects(client.tools(), (error) => error instanceof ToolgateError && error.status === 500);
  await assert.rejects(client.tools(), (error) => error instanceof ToolgateError && error.status === 429);
  assert.equal(proxy.requests.length, 2);
});

test("the gateway's own limit is an error with its problem", async (t) => {
  const limited = await Gateway.start({ TOOLGATE_RATE_LIMIT_PER_MINUTE: "2" });
  t.after(() => limited.stop());
  const client = await limited.client({ retries: 0 });
  const call = () => client.call("knowledge.search", { query: "a" });
  await call();
  await call();
  await assert.rejects(call(), isRefusal(429, "rate-limited"));
});

test("an expired token is renewed once, and without another it is an error", async () => {
  const tenant = randomUUID();
  const expired = await gateway.token({ tenant, claims: { exp: "1000000000" } });
  const asked: (string | undefined)[] = [];
  const token = async (refused: string | undefined) => {
    asked.push(refused);
    return refused ? gateway.token({ tenant }) : expired;
  };
  const client = new ToolgateClient({ url: gateway.url, token });
  await Promise.all([client.tools(), client.tools(), client.call("task.create", { title: "late" })]);
  assert.deepEqual(asked, [undefined, expired], "renewed once for all");
  const without = new ToolgateClient({ url: gateway.url, token: expired });
  await assert.rejects(without.tools(), isRefusal(401, "invalid-token"));
});

test("an accepted call is followed to its outcome, however long that takes", async () => {
  const client = await gateway.client();
  const call = await client.call("task.create", { title: "later" }, { waitSeconds: 0 });
  assert.equal(call.status, "succeeded");
  assert.ok(call.position, "it is projected");
  const requested = await client.request("task.create", { title: "much later" });
  assert.equal((await client.outcome(requested.call_id)).status, "succeeded");
  assert.equal((await client.outcome(requested.call_id)).status, "succeeded", "also when it has one already");
  await assert.rejects(client.cancel(requested.call_id), isRefusal(409, "conflict"));
  await assert.rejects(client.get(randomUUID()), isRefusal(404, "not-found"));
});

test("a call that failed is an error with the call", async () => {
  const client = await gateway.client();
  const failing = client.call("http.request", { method: "GET", url: "http://nowhere.invalid/" });
  await assert.rejects(failing, (error) => error instanceof OutcomeError && error.call.status === "failed" && error.call.error !== undefined);
});

test("arguments that the contract refuses are not sent", async (t) => {
  const proxy = await Proxy.before(gateway.url);
  t.after(() => proxy.close());
  const client = await gateway.client({ url: proxy.url });
  await assert.rejects(client.call("task.create", { title: "" }), ZodError);
  // @ts-expect-error the type says so too
  await assert.rejects(client.call("task.create", { title: "a", unknown: 1 }), ZodError);
  // @ts-expect-error there is no such tool
  await assert.rejects(client.call("no.such", {}), isRefusal(404, "not-found"));
  assert.equal(proxy.requests.length, 1);
});

test("a signal ends the waiting at once", async (t) => {
  const proxy = await Proxy.before(gateway.url, [{ status: 503, headers: { "retry-after": "30" } }]);
  t.after(() => proxy.close());
  const client = await gateway.client({ url: proxy.url });
  const controller = new AbortController();
  const call = client.call("task.create", { title: "never" }, { signal: controller.signal });
  while (proxy.requests.length === 0) await new Promise(setImmediate);
  const reason = new Error("enough");
  controller.abort(reason);
  await assert.rejects(call, reason);
  await assert.rejects(client.tools(AbortSignal.abort(reason)), reason);
});

test("what is no address, no token and no header is said at once, not tried", async (t) => {
  assert.throws(() => new ToolgateClient({ url: "no address", token: "a" }), TypeError);
  const client = new ToolgateClient({ url: gateway.url, token: "a\nb" });
  await assert.rejects(client.tools(), /no bearer token/);
  await assert.rejects(client.events().next(), /no bearer token/);
  const proxy = await Proxy.before(gateway.url);
  t.after(() => proxy.close());
  const keyed = await gateway.client({ url: proxy.url });
  const call = keyed.call("task.create", { title: "a" }, { idempotencyKey: "a\nb" });
  await assert.rejects(call, (error) => error instanceof ToolgateError && /idempotency-key/.test(error.message));
  await assert.rejects(keyed.events({ after: "ö€" }).next(), ToolgateError);
  let asked = 0;
  const failing = new ToolgateClient({ url: proxy.url, token: () => Promise.reject(new TypeError(`fault ${++asked}`)) });
  await assert.rejects(failing.tools(), /^TypeError: fault 1$/);
  await assert.rejects(failing.events().next(), /^TypeError: fault 2$/);
  assert.equal(proxy.requests.length, 0);
});

test("a key names a call for ever", async () => {
  const client = await gateway.client();
  const once = () => client.call("task.create", { title: "a" }, { idempotencyKey: 'a "quoted" \\ key' });
  assert.equal((await once()).call_id, (await once()).call_id);
  const other = client.call("task.create", { title: "b" }, { idempotencyKey: 'a "quoted" \\ key' });
  await assert.rejects(other, isRefusal(422, "idempotency-mismatch"));
});
