import { backoff, pause, retryAfter } from "./backoff.js";
import { Credentials, type TokenProvider } from "./credentials.js";
import { ToolgateError } from "./errors.js";
import { ProblemDocument } from "./generated/api.js";

export interface ClientOptions {
  /** Where the gateway is, for example `http://127.0.0.1:8080`. */
  url: string | URL;
  /** A bearer token, or a function that gives one and is asked again when it was refused. */
  token: string | TokenProvider;
  /** How often a request is sent again after a lost connection, 429 or 503; 5 unless said otherwise. */
  retries?: number;
  /** The longest `Retry-After` that is waited for, in milliseconds; a longer one is an error. 60,000 unless said otherwise. */
  maxRetryAfterMs?: number;
  /** How long a request that asks for no wait may take, in milliseconds; 30,000 unless said otherwise. */
  timeoutMs?: number;
  /** In place of the platform's own. */
  fetch?: typeof fetch;
}

export interface Request {
  method?: string;
  path: string;
  query?: Query | undefined;
  headers?: Record<string, string>;
  body?: string;
  /** How long the gateway was asked to wait, in milliseconds: the answer may take so much longer. */
  waitMs?: number;
  /** Overrides the client's own number. */
  retries?: number;
  signal?: AbortSignal | undefined;
}

export type Query = Record<string, string | number | Date | undefined>;

/** An answer with its body. */
export interface Answer<Body> {
  status: number;
  headers: Headers;
  body: Body;
}

/** An answer whose body is still to come. */
export interface Opened {
  token: string;
  /** The next of it, or `undefined` at its end. It fails with {@link Lost}, also when nothing comes for `idleMs`. */
  read(): Promise<Uint8Array | undefined>;
  close(): void;
}

/** Requests that are sent until they are answered. All of them may be sent again: whatever changes something carries a key. */
export class Transport {
  readonly credentials: Credentials;
  readonly #url: string;
  readonly #fetch: typeof fetch;
  readonly #retries: number;
  readonly #maxRetryAfterMs: number;
  readonly #timeoutMs: number;

  constructor({ url, token, retries = 5, maxRetryAfterMs = 60_000, timeoutMs = 30_000, fetch = globalThis.fetch }: ClientOptions) {
    this.credentials = new Credentials(token);
    // What is no address would look like a lost connection later.
    this.#url = new URL(url).href.replace(/\/+$/, "");
    this.#fetch = fetch;
    this.#retries = retries;
    this.#maxRetryAfterMs = maxRetryAfterMs;
    this.#timeoutMs = timeoutMs;
  }

  async json(request: Request): Promise<Answer<unknown>> {
    return this.#whole({ ...request, headers: { accept: "application/json", ...request.headers } }, (response) => response.json());
  }

  async bytes(request: Request): Promise<Answer<Uint8Array<ArrayBuffer>>> {
    return this.#whole(request, async (response) => new Uint8Array(await response.arrayBuffer()));
  }

  /** The head of an answer that goes on for as long as what is asked for comes within `idleMs`. */
  async open(request: Request, idleMs: number): Promise<Opened> {
    return this.#untilAnswered(request, async () => {
      const idle = new AbortController();
      // What the caller does between two of them takes as long as it takes.
      const within = async <Value>(coming: () => Promise<Value>): Promise<Value> => {
        const timer = setTimeout(() => idle.abort(new TypeError("the stream stood still")), idleMs);
        try {
          return await coming();
        } finally {
          clearTimeout(timer);
        }
      };
      const { response, token } = await within(() => this.#send(request, idle.signal));
      const reader = response.body?.getReader();
      const read = async () => (reader ? (await within(() => reader.read().catch(lost))).value : undefined);
      return { token, read, close: () => idle.abort() };
    });
  }

  #whole<Body>(request: Request, read: (response: Response) => Promise<Body>): Promise<Answer<Body>> {
    return this.#untilAnswered(request, async () => {
      const { response } = await this.#send(request, AbortSignal.timeout(this.#timeoutMs + (request.waitMs ?? 0)));
      return { status: response.status, headers: response.headers, body: await read(response).catch(lost) };
    });
  }

  async #untilAnswered<T>(request: Request, attempt: () => Promise<T>): Promise<T> {
    checkHeaders(request.headers);
    const most = request.retries ?? this.#retries;
    for (let failures = 0; ; failures++) {
      try {
        return await attempt();
      } catch (error) {
        request.signal?.throwIfAborted();
        const wait = this.#pauseAfter(error, failures);
        if (wait === undefined || failures >= most) {
          if (error instanceof Lost) throw error.withoutAnswer();
          throw error instanceof Refusal ? new ToolgateError(error.problem) : error;
        }
        await pause(wait, request.signal);
      }
    }
  }

  /** How long to wait before the next attempt; `undefined` when another would go no better. */
  #pauseAfter(error: unknown, failures: number): number | undefined {
    if (!(error instanceof Refusal)) return error instanceof Lost ? backoff(failures) : undefined;
    if (error.status !== 429 && error.status !== 503) return undefined;
    const asked = error.retryAfterMs ?? 0;
    return asked > this.#maxRetryAfterMs ? undefined : asked + backoff(failures);
  }

  /** One request; with a renewed token a second, when the first was 401. */
  async #send(request: Request, limit: AbortSignal): Promise<{ response: Response; token: string }> {
    const token = await this.credentials.token();
    const response = await this.#sendWith(token, request, limit);
    if (response.status !== 401) return { response: await accepted(response), token };
    const refusal = await refused(response);
    const renewed = await this.credentials.renewed(token);
    if (renewed === undefined) throw refusal;
    return { response: await accepted(await this.#sendWith(renewed, request, limit)), token: renewed };
  }

  #sendWith(token: string, request: Request, limit: AbortSignal): Promise<Response> {
    const { method = "GET", path, query = {}, headers, body, signal } = request;
    const given = Object.entries(query).filter(([, value]) => value !== undefined);
    const parameters = given.map(([name, value]): [string, string] => [name, value instanceof Date ? value.toISOString() : String(value)]);
    const search = parameters.length === 0 ? "" : `?${new URLSearchParams(parameters)}`;
    const ends = signal ? AbortSignal.any([signal, limit]) : limit;
    const init: RequestInit = { method, headers: { ...headers, authorization: `Bearer ${token}` }, signal: ends };
    if (body !== undefined) init.body = body;
    return this.#fetch.call(globalThis, this.#url + path + search, init).catch(lost);
  }
}

/** An answer that is not the one asked for. */
class Refusal extends ToolgateError {
  readonly retryAfterMs: number | undefined;

  constructor(problem: ProblemDocument, retryAfterMs: number | undefined) {
    super(problem);
    this.retryAfterMs = retryAfterMs;
  }
}

async function accepted(response: Response): Promise<Response> {
  if (!response.ok) throw await refused(response);
  return response;
}

async function refused(response: Response): Promise<Refusal> {
  const body: unknown = await response.json().catch(() => undefined);
  const parsed = ProblemDocument.safeParse(body);
  const { status, headers } = response;
  const strange = { type: "about:blank", title: `HTTP ${status}`, status, detail: "the answer is not the gateway's" };
  return new Refusal(parsed.success ? parsed.data : strange, retryAfter(headers, Date.now()));
}

/** A connection that failed or broke off, with what `fetch` said. */
export class Lost extends Error {
  withoutAnswer(): ToolgateError {
    const detail = this.cause instanceof Error ? this.cause.message : String(this.cause);
    return new ToolgateError({ type: "about:blank", title: "No answer", status: 0, detail }, { cause: this.cause });
  }
}

/** `fetch` throws a TypeError for a connection that failed or broke off; a timeout is a DOMException, and half a body a SyntaxError. */
function lost(error: unknown): never {
  const isLost = error instanceof TypeError || error instanceof SyntaxError || (error instanceof DOMException && error.name === "TimeoutError");
  throw isLost ? new Lost("the connection is lost", { cause: error }) : error;
}

/** What is no header would look like a lost connection later. */
function checkHeaders(headers: Record<string, string> = {}): void {
  for (const [name, value] of Object.entries(headers)) {
    try {
      new Headers([[name, value]]);
    } catch (cause) {
      const detail = `${JSON.stringify(value)} cannot be sent as ${name}`;
      throw new ToolgateError({ type: "about:blank", title: "No header", status: 0, detail }, { cause });
    }
  }
}
