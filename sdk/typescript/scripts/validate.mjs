// Puts the descriptions in schemas/ before validators that others wrote. They need no network.
import { execFile } from "node:child_process";
import { readFile } from "node:fs/promises";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { Parser } from "@asyncapi/parser";
import { Validator } from "@seriousme/openapi-schema-validator";

const schemas = new URL("../../../schemas/", import.meta.url);
const openapi = fileURLToPath(new URL("openapi.json", schemas));
const asyncapi = fileURLToPath(new URL("asyncapi.json", schemas));
const redocly = fileURLToPath(new URL("../node_modules/@redocly/cli/bin/cli.js", import.meta.url));
const config = fileURLToPath(new URL("../redocly.yaml", import.meta.url));

const findings = { schema: await bySchema(), lint: await byLint(), asyncapi: await byParser() };
for (const [validator, found] of Object.entries(findings)) {
  console.log(found.length === 0 ? `${validator}: valid` : `${validator}:\n${found.join("\n")}`);
}
process.exit(Object.values(findings).every((found) => found.length === 0) ? 0 : 1);

/** Against the JSON Schema of the OpenAPI initiative. */
async function bySchema() {
  const result = await new Validator().validate(openapi);
  return result.valid ? [] : [JSON.stringify(result.errors, null, 2)];
}

/** The recommended rules of a linter; a warning is a finding too. */
async function byLint() {
  const env = { ...process.env, REDOCLY_TELEMETRY: "off", REDOCLY_SUPPRESS_UPDATE_NOTICE: "true" };
  const options = ["lint", openapi, "--config", config, "--format=json"];
  const { stdout } = await promisify(execFile)(process.execPath, [redocly, ...options], { env, maxBuffer: 1 << 26 }).catch((failed) => failed);
  const { problems } = JSON.parse(stdout);
  return problems.map((problem) => `${problem.severity} ${problem.ruleId}: ${problem.message} (${problem.location[0]?.pointer})`);
}

/** The parser of the AsyncAPI initiative, which also follows every reference. */
async function byParser() {
  const { diagnostics } = await new Parser().parse(await readFile(asyncapi, "utf8"), { source: asyncapi });
  // Severity 0 is an error, 1 a warning.
  const found = diagnostics.filter((diagnostic) => diagnostic.severity <= 1);
  return found.map((diagnostic) => `${diagnostic.code}: ${diagnostic.message} (${diagnostic.path.join(".")})`);
}
