import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { Gateway } from "./app/gateway.js";

let gateway: Gateway;
before(async () => {
  gateway = await Gateway.start();
});
after(() => gateway.stop());

test("a call answers with the tool's result", async () => {
  const client = await gateway.client();
  const call = await client.call("task.create", { title: "Review" });
  assert.equal(call.status, "succeeded");
  assert.match(call.result.task_id, /^[0-9a-f-]{36}$/);
});
