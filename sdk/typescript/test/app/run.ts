// Runs every test file against one gateway: the one at TOOLGATE_URL, or one that is started here and ends with the tests.
import { spawn } from "node:child_process";
import { once } from "node:events";
import { readdir } from "node:fs/promises";
import { fileURLToPath } from "node:url";
import { Gateway } from "./gateway.js";

const folder = fileURLToPath(new URL("../", import.meta.url));
const only = process.argv.slice(2);
const names = (await readdir(folder)).filter((name) => name.endsWith(".test.js"));
const files = names.filter((name) => only.length === 0 || only.some((part) => name.startsWith(part)));

const gateway = Gateway.running() ?? (await Gateway.start());
const env = { ...process.env, TOOLGATE_URL: gateway.url, TOOLGATE_DATA_DIR: gateway.dataDir };
const tests = spawn(process.execPath, ["--test", "--test-timeout=60000", ...files.map((name) => folder + name)], { env, stdio: "inherit" });
for (const signal of ["SIGINT", "SIGTERM"] as const) process.on(signal, () => tests.kill(signal));
const [code] = await once(tests, "exit");
await gateway.stop();
process.exit(code ?? 1);
