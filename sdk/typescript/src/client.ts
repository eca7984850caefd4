import { z } from "zod";
import { artifact, type Artifact } from "./artifact.js";
import { OutcomeError } from "./errors.js";
import { type EventOptions, type ToolgateEvent, subscribe } from "./events.js";
import { AuditRow, Document, Session, SessionDetail, Task, Tool, ToolCall, type ToolCallStatus, UsageReport } from "./generated/api.js";
import { tools } from "./generated/tools.js";
import { type PageOptions, lines, pages } from "./lists.js";
import { type ClientOptions, Transport } from "./transport.js";

type Tools = typeof tools;
/** A tool of this release. */
export type ToolName = keyof Tools;
/** What a tool takes. */
export type InputOf<Name extends ToolName> = z.input<Tools[Name]["input"]>;
/** What a tool answers. */
export type OutputOf<Name extends ToolName> = z.output<Tools[Name]["output"]>;
/** A tool that a running gateway discovered: what it takes and answers, only `tool()` of that gateway tells. */
export type DiscoveredTool = `mcp.${string}`;

export interface RequestOptions {
  /** Names the call for ever: the same key and arguments are the same call. Made up when absent, and kept over retries. */
  idempotencyKey?: string;
  /** Groups the calls of one agent session. */
  sessionId?: string;
  /** How long the gateway holds its answer back for the outcome, in seconds, from 0 to 60. */
  waitSeconds?: number;
  /** BCP 47 language tag. */
  locale?: string;
  /** How old a cached result may be. */
  freshnessSeconds?: number;
  /** How long one attempt of the tool may run. */
  timeoutMs?: number;
  signal?: AbortSignal | undefined;
}

export interface AuditOptions {
  /** The position to begin after. */
  after?: string;
  callId?: string;
  actor?: string;
  /** An event type. */
  type?: string;
  /** Events that occurred at this time or later. */
  from?: Date;
  /** Events that occurred before this time. */
  to?: Date;
  signal?: AbortSignal | undefined;
}

/** What `audit.list` can do besides. */
export interface AuditListOptions extends AuditOptions, PageOptions {
  /** `open` shows what was said; otherwise content is shown as it is recorded, which is what hashes are over. */
  content?: "recorded" | "open";
}

/** Which moment an answer is of. */
export interface Moment {
  /** Waits until the tenant is projected up to this position. */
  minPosition?: string | undefined;
  /** As it was at this position or time. */
  asOf?: string | Date | undefined;
  signal?: AbortSignal | undefined;
}

export interface UsageOptions extends Moment {
  /** The first day (UTC), as YYYY-MM-DD. */
  from?: string;
  /** The last day (UTC), as YYYY-MM-DD. */
  to?: string;
  tool?: string;
}

export interface CallFilter extends PageOptions {
  sessionId?: string;
  tool?: string;
  status?: ToolCallStatus;
}

/** A call that has its result. */
export type Succeeded<Output> = ToolCall & { status: "succeeded"; result: Output };

const DEFAULT_WAIT_SECONDS = 30;
const OUTCOMES = new Set<ToolgateEvent["type"]>(["tool_call_succeeded", "tool_call_failed", "tool_call_cancelled"]);

/** One caller of a gateway. Every method throws {@link ToolgateError} when the gateway refuses, or cannot be reached for long. */
export class ToolgateClient {
  readonly #transport: Transport;

  constructor(options: ClientOptions) {
    this.#transport = new Transport(options);
  }

  /**
   * Calls a tool and waits for its result, however long that takes: `signal` ends the waiting, and `cancel` the call.
   *
   * @throws ZodError when the arguments are not what the tool takes; nothing is sent then.
   * @throws OutcomeError when the call failed or was cancelled.
   */
  async call<Name extends ToolName>(tool: Name, input: InputOf<Name>, options?: RequestOptions): Promise<Succeeded<OutputOf<Name>>>;
  async call(tool: DiscoveredTool, input: Record<string, unknown>, options?: RequestOptions): Promise<Succeeded<unknown>>;
  async call(tool: string, input: Record<string, unknown>, options: RequestOptions = {}): Promise<Succeeded<unknown>> {
    const requested = await this.#request(tool, input, { waitSeconds: DEFAULT_WAIT_SECONDS, ...options });
    const call = isFinal(requested) ? requested : await this.outcome(requested.call_id, options.signal);
    if (call.status !== "succeeded") throw new OutcomeError(call);
    const contract = contractOf(tool);
    return { ...call, status: "succeeded", result: contract ? contract.output.parse(call.result) : call.result };
  }

  /** Calls a tool and answers once the call is accepted, or with its outcome when that came within `waitSeconds`. */
  async request<Name extends ToolName>(tool: Name, input: InputOf<Name>, options?: RequestOptions): Promise<ToolCall>;
  async request(tool: DiscoveredTool, input: Record<string, unknown>, options?: RequestOptions): Promise<ToolCall>;
  async request(tool: string, input: Record<string, unknown>, options: RequestOptions = {}): Promise<ToolCall> {
    return this.#request(tool, input, options);
  }

  /** A call as it stands, as it stands once the tenant is projected up to `minPosition`, or as it stood. */
  async get(callId: string, moment: Moment = {}): Promise<ToolCall> {
    return ToolCall.parse((await this.#transport.json({ path: callPath(callId), ...at(moment) })).body);
  }

  /** A call once it has an outcome. */
  async outcome(callId: string, signal?: AbortSignal): Promise<ToolCall> {
    const over = new AbortController();
    const ends = signal ? AbortSignal.any([signal, over.signal]) : over.signal;
    let onOpen = () => {};
    const opened = new Promise<void>((resolve) => (onOpen = resolve));
    const events = subscribe(this.#transport, { callId, signal: ends, onOpen });
    try {
      let next = events.next();
      // What happens after the stream is open comes over it; what happened before, the call itself tells.
      await Promise.race([opened, next]);
      const call = await this.get(callId, { signal });
      if (isFinal(call)) return call;
      for (;;) {
        const { value } = await next;
        if (value && "position" in value && OUTCOMES.has(value.type)) {
          return await this.get(callId, { minPosition: value.position, signal });
        }
        // The token ended: the next request says so.
        if (!value || value.type === "unauthorized") return await this.get(callId, { signal });
        next = events.next();
      }
    } finally {
      over.abort();
      await events.return().catch(() => undefined);
    }
  }

  /** Calls it off. A call that has an outcome already is 409. */
  async cancel(callId: string, signal?: AbortSignal): Promise<ToolCall> {
    return ToolCall.parse((await this.#transport.json({ method: "POST", path: `${callPath(callId)}/cancel`, signal })).body);
  }

  /** The tenant's calls, newest first. */
  calls({ sessionId, tool, status, ...options }: CallFilter = {}): AsyncGenerator<ToolCall, void> {
    return pages(this.#transport, "/v1/tool-calls", ToolCall, { session_id: sessionId, tool, status }, options);
  }

  /** What happens to the tenant's calls, for as long as somebody asks for the next. A lost connection is opened again. */
  events(options: EventOptions = {}): AsyncGenerator<ToolgateEvent, void> {
    return subscribe(this.#transport, options);
  }

  readonly audit = {
    /** The audit trail, oldest first, page by page. */
    list: ({ signal, pageSize, ...filter }: AuditListOptions = {}): AsyncGenerator<AuditRow, void> =>
      pages(this.#transport, "/v1/audit", AuditRow, auditQuery(filter), { pageSize, signal, cursor: "after" }),
    /** The same as one answer; it throws when that is cut off before its end. */
    export: ({ signal, ...filter }: AuditOptions = {}): AsyncGenerator<AuditRow, void> =>
      lines(this.#transport, "/v1/audit/export", AuditRow, auditQuery(filter), signal),
  };

  /** The tenant's tasks, newest first. */
  tasks(options: PageOptions = {}): AsyncGenerator<Task, void> {
    return pages(this.#transport, "/v1/tasks", Task, {}, options);
  }

  /** The tenant's documents, newest first. */
  documents(options: PageOptions = {}): AsyncGenerator<Document, void> {
    return pages(this.#transport, "/v1/documents", Document, {}, options);
  }

  /** The tenant's sessions, newest activity first. */
  sessions(options: PageOptions = {}): AsyncGenerator<Session, void> {
    return pages(this.#transport, "/v1/sessions", Session, {}, options);
  }

  /** What the calls of one session did, took and made. */
  async session(sessionId: string, moment: Moment = {}): Promise<SessionDetail> {
    const path = `/v1/sessions/${encodeURIComponent(sessionId)}`;
    return SessionDetail.parse((await this.#transport.json({ path, ...at(moment) })).body);
  }

  /** What the tenant used, by day and tool. */
  async usage({ from, to, tool, ...moment }: UsageOptions = {}): Promise<UsageReport> {
    const { query, signal } = at(moment);
    const request = { path: "/v1/usage", query: { from, to, tool, ...query }, signal };
    return UsageReport.parse((await this.#transport.json(request)).body);
  }

  /** The contracts of the tools that the token allows. */
  async tools(signal?: AbortSignal): Promise<Tool[]> {
    const answer = await this.#transport.json({ path: "/v1/tools", signal });
    return z.object({ items: z.array(Tool) }).parse(answer.body).items;
  }

  /** One tool's contract. */
  async tool(name: string, signal?: AbortSignal): Promise<Tool> {
    return Tool.parse((await this.#transport.json({ path: `/v1/tools/${encodeURIComponent(name)}`, signal })).body);
  }

  /** An artifact's bytes, which are what their SHA-256 says, or it throws. */
  artifact(artifactId: string, signal?: AbortSignal): Promise<Artifact> {
    return artifact(this.#transport, artifactId, signal);
  }

  async #request(tool: string, input: Record<string, unknown>, options: RequestOptions): Promise<ToolCall> {
    contractOf(tool)?.input.parse(input);
    const { idempotencyKey = crypto.randomUUID(), sessionId, waitSeconds, locale, freshnessSeconds, timeoutMs, signal } = options;
    // Members that are undefined stay out.
    const chosen = { locale, freshness_seconds: freshnessSeconds, timeout_ms: timeoutMs };
    const body = JSON.stringify({ tool, arguments: input, session_id: sessionId, options: chosen });
    const headers: Record<string, string> = { "content-type": "application/json", "idempotency-key": quoted(idempotencyKey) };
    if (waitSeconds !== undefined) headers["prefer"] = `wait=${waitSeconds}`;
    const request = { method: "POST", path: "/v1/tool-calls", headers, body, waitMs: (waitSeconds ?? 0) * 1_000, signal };
    return ToolCall.parse((await this.#transport.json(request)).body);
  }
}

function contractOf(tool: string): Tools[ToolName] | undefined {
  return Object.hasOwn(tools, tool) ? tools[tool as ToolName] : undefined;
}

function isFinal(call: ToolCall): boolean {
  return call.status !== "requested" && call.status !== "running";
}

function callPath(callId: string): string {
  return `/v1/tool-calls/${encodeURIComponent(callId)}`;
}

function at({ minPosition, asOf, signal }: Moment) {
  return { query: { min_position: minPosition, as_of: asOf }, signal };
}

function auditQuery({ callId, ...rest }: Omit<AuditOptions, "signal">) {
  return { call_id: callId, ...rest };
}

/** A string of RFC 9651, section 3.3.3. */
function quoted(key: string): string {
  return `"${key.replace(/["\\]/g, "\\$&")}"`;
}
