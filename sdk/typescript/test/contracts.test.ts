import assert from "node:assert/strict";
import { readFile, readdir } from "node:fs/promises";
import { test } from "node:test";
import { TaskCreateInput, tools, type ToolName } from "../src/index.js";

const folder = new URL("../../../../schemas/tools/", import.meta.url);

test("every contract has its schemas, which accept its examples and nothing unknown", async () => {
  const files = (await readdir(folder)).filter((name) => name.endsWith(".json"));
  assert.deepEqual(Object.keys(tools).sort(), files.map((name) => name.replace(/\.json$/, "")).sort());
  for (const file of files) {
    const contract = JSON.parse(await readFile(new URL(file, folder), "utf8"));
    const tool = tools[contract.name as ToolName];
    assert.equal(tool.version, contract.version);
    for (const example of contract.examples) {
      assert.deepEqual(tool.input.parse(example), example, contract.name);
      // Only where the contract refuses what it does not know.
      const refused = contract.input_schema.additionalProperties === false;
      assert.equal(tool.input.safeParse({ ...example, "no such": 1 }).success, !refused, contract.name);
    }
  }
});

test("a length counts characters, as the gateway does", () => {
  for (const character of ["a", "é", "😀"]) {
    for (const [count, fits] of [[0, false], [1, true], [499, true], [500, true], [501, false]] as const) {
      assert.equal(TaskCreateInput.safeParse({ title: character.repeat(count) }).success, fits, `${count} of ${character}`);
    }
  }
});

test("ids and times may be any that the gateway takes", () => {
  for (const due of ["2030-01-31T12:00:00Z", "2030-01-31T12:00:00.123456+07:00"]) {
    assert.ok(TaskCreateInput.safeParse({ title: "a", due }).success, due);
  }
  assert.ok(!TaskCreateInput.safeParse({ title: "a", due: "2030-01-31" }).success);
  assert.ok(TaskCreateInput.safeParse({ title: "a", due: null }).success);
});
