import { execFile, spawn, type ChildProcess } from "node:child_process";
import { once } from "node:events";
import { mkdtemp, rm } from "node:fs/promises";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { promisify } from "node:util";
import { randomUUID } from "node:crypto";
import { ToolgateClient, type ClientOptions } from "../../src/index.js";

const REPOSITORY = new URL("../../../../../", import.meta.url).pathname;
const BINARY = process.env["TOOLGATE_BIN"] ?? join(REPOSITORY, "target/debug/toolgate");

export interface TokenChoice {
  tenant?: string;
  roles?: string;
  ttlSeconds?: number;
  session?: string;
}

/** A running gateway: the one at TOOLGATE_URL, whose key is in TOOLGATE_DATA_DIR, or one that ends with the tests. */
export class Gateway {
  readonly url: string;
  readonly #dataDir: string;
  readonly #process: ChildProcess | undefined;

  private constructor(url: string, dataDir: string, process?: ChildProcess) {
    this.url = url;
    this.#dataDir = dataDir;
    this.#process = process;
  }

  static async start(): Promise<Gateway> {
    const running = process.env["TOOLGATE_URL"];
    if (running) return new Gateway(running.replace(/\/+$/, ""), process.env["TOOLGATE_DATA_DIR"] ?? join(REPOSITORY, ".toolgate"));
    const dataDir = await mkdtemp(join(tmpdir(), "toolgate-kit-"));
    const port = await freePort();
    const child = spawn(BINARY, ["up", "--no-demo", "--data-dir", dataDir, "--port", String(port)], { stdio: ["ignore", "pipe", "pipe"] });
    let said = "";
    child.stderr.on("data", (text) => (said += text));
    // What it prints when it is ready is the first that it prints.
    const ended = once(child, "exit").then(() => Promise.reject(new Error(`the gateway did not start: ${said}`)));
    await Promise.race([once(child.stdout, "data"), ended]);
    ended.catch(() => undefined);
    return new Gateway(`http://127.0.0.1:${port}`, dataDir, child);
  }

  async stop(): Promise<void> {
    if (!this.#process) return;
    const ended = once(this.#process, "exit");
    this.#process.kill("SIGTERM");
    await ended;
    await rm(this.#dataDir, { recursive: true, force: true });
  }

  async token({ tenant = randomUUID(), roles = "admin", ttlSeconds = 600, session }: TokenChoice = {}): Promise<string> {
    const options = ["--tenant", tenant, "--role", roles, "--ttl", String(ttlSeconds), "--data-dir", this.#dataDir];
    if (session) options.push("--session", session);
    return (await promisify(execFile)(BINARY, ["token", ...options])).stdout.trim();
  }

  /** A client with every permission within a tenant of its own. */
  async client(options: Partial<ClientOptions> = {}): Promise<ToolgateClient> {
    return new ToolgateClient({ url: this.url, token: await this.token(), ...options });
  }
}

async function freePort(): Promise<number> {
  const server = createServer().listen(0, "127.0.0.1");
  await once(server, "listening");
  const address = server.address();
  server.close();
  if (address === null || typeof address === "string") throw new Error("no port");
  return address.port;
}
