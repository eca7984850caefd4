import assert from "node:assert/strict";
import { createHash, randomUUID } from "node:crypto";
import { test } from "node:test";
import { type ToolgateEvent } from "../src/index.js";
import { shared } from "./app/gateway.js";
import { collect, take } from "./app/streams.js";

const gateway = shared();

test("an agent session: knowledge, document, task, audit", async (t) => {
  const client = await gateway.client();
  const sessionId = `session-${randomUUID()}`;
  const ending = new AbortController();
  t.after(() => ending.abort());
  // The tool that is called last.
  const watching = take(client.events({ sessionId, after: "0", signal: ending.signal }), (event) => {
    return event.type === "tool_call_succeeded" && event.data.tool === "task.create";
  });
  watching.catch(() => undefined);

  const content = "The projector keeps a checkpoint in the same transaction as its rows.";
  const kept = await client.call("knowledge.upsert", { document_id: "adr-1", title: "Checkpoints", content }, { sessionId });
  const found = await client.call("knowledge.search", { query: "checkpoint" }, { sessionId });
  assert.deepEqual(found.result.hits.map((hit) => hit.document_id), ["adr-1"]);
  assert.match(found.result.hits[0]?.highlight ?? "", /<mark>/);

  const markdown = `# Report\n\n${found.result.hits.map((hit) => `- ${hit.title} (${hit.document_id})`).join("\n")}`;
  const rendered = await client.call("document.render", { title: "Report", markdown, format: "pdf" }, { sessionId });
  const artifact = await client.artifact(rendered.result.artifact_id);
  assert.equal(artifact.sha256, rendered.result.sha256);
  assert.equal(createHash("sha256").update(artifact.bytes).digest("hex"), rendered.result.sha256);
  assert.equal(artifact.bytes.length, rendered.result.size);
  assert.equal(artifact.contentType, "application/pdf");
  assert.equal(rendered.result.pages, 1);
  // The last lines say where the table of objects is, where a reader begins.
  const text = Buffer.from(artifact.bytes).toString("latin1");
  const [, table] = /^%PDF-[\s\S]*startxref\s+(\d+)\s+%%EOF\s*$/.exec(text) ?? [];
  assert.match(text.slice(Number(table)), /^(xref|\d+ \d+ obj)\s/);
  const documents = await collect(client.documents());
  assert.deepEqual(documents.map((document) => [document.artifact_id, document.call_id]), [[rendered.result.artifact_id, rendered.call_id]]);

  const task = await client.call("task.create", { title: "Read the report", labels: ["kit"] }, { sessionId });
  const tasks = await collect(client.tasks());
  assert.deepEqual(tasks.map((listed) => [listed.task_id, listed.call_id, listed.title]), [[task.result.task_id, task.call_id, "Read the report"]]);

  const events = await watching;
  const session = [kept, found, rendered, task];
  assert.deepEqual((await collect(client.calls({ sessionId }))).map((call) => call.call_id), session.map((call) => call.call_id).reverse());
  const rows = await collect(client.audit.list({ pageSize: 2 }));
  assert.deepEqual(await collect(client.audit.export()), rows);
  const newest = rows.at(-1)?.position;
  const told = await client.session(sessionId, { minPosition: newest });
  assert.deepEqual([told.calls.total, told.calls.succeeded, told.artifacts.length, told.tasks.length], [4, 4, 1, 1]);
  assert.deepEqual((await collect(client.sessions())).map((listed) => listed.session_id), [sessionId]);
  const first = await client.session(sessionId, { asOf: "1" });
  assert.deepEqual([first.calls.total, first.calls.requested, first.position], [1, 1, "1"]);
  const usage = await client.usage({ tool: "task.create", asOf: newest });
  assert.deepEqual([usage.totals.requested, usage.position], [1, newest]);
  rows.forEach((row, index) => {
    assert.equal(row.position, String(index + 1));
    if (index > 0) assert.equal(row.prev_hash, rows[index - 1]?.hash);
  });
  for (const call of session) {
    const own = rows.filter((row) => row.aggregate_id === call.call_id);
    const types = own.map((row) => row.event_type);
    assert.deepEqual([types[0], types.at(-1)], ["tool_call_requested", "tool_call_succeeded"], call.tool);
    assert.deepEqual(own.map((row) => row.aggregate_sequence), own.map((_, index) => String(index + 1)), call.tool);
    assert.deepEqual(await collect(client.audit.list({ callId: call.call_id })), own);
    const opened = await collect(client.audit.list({ callId: call.call_id, content: "open" }));
    assert.deepEqual((opened.at(-1)?.data as { result: unknown }).result, call.result);
    assert.deepEqual(opened.map((row) => row.hash), own.map((row) => row.hash));
  }
  assert.deepEqual(events.map(position), rows.map((row) => row.position));
  assert.deepEqual(events.map((event) => event.type), rows.map((row) => row.event_type));
});

function position(event: ToolgateEvent): string | undefined {
  return "position" in event ? String(event.position) : undefined;
}
