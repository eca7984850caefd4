import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { randomUUID } from "node:crypto";
import { readFile, writeFile } from "node:fs/promises";
import { test } from "node:test";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { ToolgateClient } from "../src/index.js";
import { shared } from "./app/gateway.js";

const gateway = shared();

test("the example in the README runs as it stands there", async () => {
  const readme = await readFile(new URL("../../README.md", import.meta.url), "utf8");
  const example = /```js\n(.*?)```/s.exec(readme)?.[1];
  assert.ok(example, "there is an example");
  // Within the package, which is imported by its name.
  const file = fileURLToPath(new URL("../example.mjs", import.meta.url));
  await writeFile(file, example);

  const token = await gateway.token({ tenant: randomUUID(), roles: "agent" });
  const client = new ToolgateClient({ url: gateway.url, token });
  await client.call("knowledge.upsert", { document_id: "d", title: "Checkpoints", content: "A checkpoint is a place." });
  const env = { ...process.env, TOOLGATE_URL: gateway.url, TOOLGATE_TOKEN: token };
  const { stdout } = await promisify(execFile)(process.execPath, [file], { env, timeout: 30_000 });
  const [hit, task, ...types] = stdout.trim().split("\n");
  assert.equal(hit, "d Checkpoints");
  assert.match(task ?? "", /^task [0-9a-f-]{36}$/);
  assert.deepEqual([types[0], types.at(-1)], ["tool_call_requested", "tool_call_succeeded"]);
});
