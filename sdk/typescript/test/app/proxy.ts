import { once } from "node:events";
import { createServer, request, type IncomingMessage, type Server, type ServerResponse } from "node:http";

/** What becomes of one request. */
export type Fate =
  | "pass"
  /** It arrives, and its answer is lost. */
  | "lose answer"
  /** It does not get through. */
  | "lose connection"
  | { status: number; headers?: Record<string, string> };

/** Stands between a client and the gateway. */
export class Proxy {
  readonly url: string;
  readonly #server: Server;
  /** When each request arrived, and what it was. */
  readonly requests: { at: number; method: string; path: string; headers: IncomingMessage["headers"] }[] = [];

  private constructor(url: string, server: Server) {
    this.url = url;
    this.#server = server;
  }

  /** Before the gateway at `url`. The fates are those of the first requests; all others pass. */
  static async before(url: string, fates: Fate[] = []): Promise<Proxy> {
    const server = createServer((incoming, outgoing) => {
      const { method = "GET", url: path = "/", headers } = incoming;
      proxy.requests.push({ at: performance.now(), method, path, headers });
      proxy.#handle(new URL(path, url), incoming, outgoing, fates.shift() ?? "pass");
    });
    server.listen(0, "127.0.0.1");
    await once(server, "listening");
    const address = server.address();
    if (address === null || typeof address === "string") throw new Error("no port");
    const proxy = new Proxy(`http://127.0.0.1:${address.port}`, server);
    return proxy;
  }

  /** Breaks every connection that is open. */
  cut(): void {
    this.#server.closeAllConnections();
  }

  async close(): Promise<void> {
    this.cut();
    this.#server.close();
    await once(this.#server, "close");
  }

  #handle(to: URL, incoming: IncomingMessage, outgoing: ServerResponse, fate: Fate): void {
    if (typeof fate === "object") {
      outgoing.writeHead(fate.status, fate.headers).end();
      return;
    }
    if (fate === "lose connection") {
      outgoing.destroy();
      return;
    }
    const { method, headers } = incoming;
    const onward = request(to, { method, headers, agent: false }, (answer) => {
      if (fate === "lose answer") {
        answer.resume().on("end", () => outgoing.destroy());
        return;
      }
      outgoing.writeHead(answer.statusCode ?? 502, answer.headers);
      answer.pipe(outgoing);
    });
    incoming.pipe(onward);
    outgoing.on("close", () => onward.destroy());
    onward.on("error", () => outgoing.destroy());
  }
}
