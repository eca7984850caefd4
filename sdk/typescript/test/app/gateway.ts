import { execFile, spawn, type ChildProcess } from "node:child_process";
import { randomUUID } from "node:crypto";
import { once } from "node:events";
import { access, mkdtemp, rm } from "node:fs/promises";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { type ClientOptions, ToolgateClient } from "../../src/index.js";

const REPOSITORY = fileURLToPath(new URL("../../../../../", import.meta.url));
const BINARY = process.env["TOOLGATE_BIN"] ?? join(REPOSITORY, "target/debug/toolgate");
// Without what a gateway would take for its settings.
const ENVIRONMENT = Object.fromEntries(Object.entries(process.env).filter(([name]) => !/^(TOOLGATE_|DATABASE_URL|NATS_URL)/.test(name)));

export interface TokenChoice {
  tenant?: string;
  roles?: string;
  ttlSeconds?: number;
  /** Claims to set to another value, as JSON. */
  claims?: Record<string, string>;
}

/** A running gateway. */
export class Gateway {
  readonly url: string;
  readonly dataDir: string;
  readonly #process: ChildProcess | undefined;

  private constructor(url: string, dataDir: string, process?: ChildProcess) {
    this.url = url;
    this.dataDir = dataDir;
    this.#process = process;
  }

  /** The one at TOOLGATE_URL, whose development key is in TOOLGATE_DATA_DIR. */
  static running(): Gateway | undefined {
    const { TOOLGATE_URL: url, TOOLGATE_DATA_DIR: dataDir = join(REPOSITORY, ".toolgate") } = process.env;
    return url ? new Gateway(url.replace(/\/+$/, ""), dataDir) : undefined;
  }

  /** One of its own, on a free port and an empty folder. */
  static async start(settings: Record<string, string> = {}): Promise<Gateway> {
    await access(BINARY).catch(() => Promise.reject(new Error(`${BINARY} is missing: run \`cargo build\` first`)));
    const dataDir = await mkdtemp(join(tmpdir(), "toolgate-kit-"));
    const port = await freePort();
    const options = ["up", "--no-demo", "--data-dir", dataDir, "--port", String(port)];
    const child = spawn(BINARY, options, { env: { ...ENVIRONMENT, ...settings }, stdio: ["ignore", "pipe", "pipe"] });
    let said = "";
    child.stderr.on("data", (text) => (said += text));
    const ended = once(child, "exit").then(() => Promise.reject(new Error(`the gateway ended: ${said}`)));
    ended.catch(() => undefined);
    // It says nothing on the standard output before it is ready.
    await Promise.race([once(child.stdout, "data"), ended]);
    child.stdout.resume();
    return new Gateway(`http://127.0.0.1:${port}`, dataDir, child);
  }

  async stop(): Promise<void> {
    if (!this.#process) return;
    const ended = once(this.#process, "exit");
    this.#process.kill("SIGTERM");
    await ended;
    await rm(this.dataDir, { recursive: true, force: true });
  }

  async token({ tenant = randomUUID(), roles = "admin", ttlSeconds = 600, claims = {} }: TokenChoice = {}): Promise<string> {
    const options = ["--tenant", tenant, "--role", roles, "--ttl", String(ttlSeconds), "--data-dir", this.dataDir];
    for (const [name, value] of Object.entries(claims)) options.push("--claim", `${name}=${value}`);
    return (await promisify(execFile)(BINARY, ["token", ...options], { env: ENVIRONMENT })).stdout.trim();
  }

  /** A client with every permission within a tenant of its own. */
  async client(options: Partial<ClientOptions> = {}): Promise<ToolgateClient> {
    return new ToolgateClient({ url: this.url, token: await this.token(), ...options });
  }
}

/** The gateway that all test files share. */
export function shared(): Gateway {
  const gateway = Gateway.running();
  if (!gateway) throw new Error("there is no TOOLGATE_URL: run the tests with `npm test`");
  return gateway;
}

async function freePort(): Promise<number> {
  const server = createServer().listen(0, "127.0.0.1");
  await once(server, "listening");
  const address = server.address();
  server.close();
  if (address === null || typeof address === "string") throw new Error("no port");
  return address.port;
}
