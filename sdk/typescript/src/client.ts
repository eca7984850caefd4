import type { z } from "zod";
import { OutcomeError } from "./errors.js";
import { ToolCall } from "./generated/api.js";
import { tools } from "./generated/tools.js";
import { type ClientOptions, Transport } from "./transport.js";

type Tools = typeof tools;
/** A tool of this release. */
export type ToolName = keyof Tools;
/** What a tool takes. */
export type InputOf<Name extends ToolName> = z.input<Tools[Name]["input"]>;
/** What a tool answers. */
export type OutputOf<Name extends ToolName> = z.output<Tools[Name]["output"]>;

export interface CallOptions {
  /** Names the call for ever: the same key and arguments are the same call. Made up when absent, and kept over retries. */
  idempotencyKey?: string;
  /** Groups the calls of one agent session. */
  sessionId?: string;
  /** How long the gateway holds the first answer back for the outcome, in seconds, from 0 to 60; 30 unless said otherwise. */
  waitSeconds?: number;
  /** BCP 47 language tag. */
  locale?: string;
  /** How old a cached result may be. */
  freshnessSeconds?: number;
  /** How long one attempt of the tool may run. */
  timeoutMs?: number;
  signal?: AbortSignal;
}

/** A call that has its result. */
export type Succeeded<Output> = ToolCall & { status: "succeeded"; result: Output };

export class ToolgateClient {
  readonly #transport: Transport;

  constructor(options: ClientOptions) {
    this.#transport = new Transport(options);
  }

  /**
   * Calls a tool and waits for its result, however long that takes: `signal` ends the waiting, `cancel` the call.
   *
   * @throws ZodError when the arguments are not what the tool takes; nothing is sent then.
   * @throws ToolgateError when the gateway refuses the call, or cannot be reached.
   * @throws OutcomeError when the call failed or was cancelled.
   */
  async call<Name extends ToolName>(tool: Name, input: InputOf<Name>, options?: CallOptions): Promise<Succeeded<OutputOf<Name>>>;
  /** Calls a tool that this release does not know, such as `mcp.<server>.<tool>`: nothing is checked here. */
  async call(tool: `mcp.${string}`, input: Record<string, unknown>, options?: CallOptions): Promise<Succeeded<unknown>>;
  async call(tool: string, input: Record<string, unknown>, options: CallOptions = {}): Promise<Succeeded<unknown>> {
    const contract = Object.hasOwn(tools, tool) ? tools[tool as ToolName] : undefined;
    contract?.input.parse(input);
    const call = await this.#request(tool, input, options);
    if (call.status !== "succeeded") throw new OutcomeError(call);
    return { ...call, status: "succeeded", result: contract ? contract.output.parse(call.result) : call.result };
  }

  async #request(tool: string, input: Record<string, unknown>, options: CallOptions): Promise<ToolCall> {
    const { idempotencyKey = crypto.randomUUID(), sessionId, waitSeconds = 30, locale, freshnessSeconds, timeoutMs, signal } = options;
    // Members that are undefined stay out.
    const chosen = { locale, freshness_seconds: freshnessSeconds, timeout_ms: timeoutMs };
    const body = JSON.stringify({ tool, arguments: input, session_id: sessionId, options: chosen });
    const headers = { "content-type": "application/json", "idempotency-key": quoted(idempotencyKey), prefer: `wait=${waitSeconds}` };
    const request = { method: "POST", path: "/v1/tool-calls", headers, body, waitMs: waitSeconds * 1_000, signal };
    const answer = await this.#transport.json(request);
    return ToolCall.parse(answer.body);
  }
}

/** A string of RFC 9651, section 3.3.3. */
function quoted(key: string): string {
  return `"${key.replace(/["\\]/g, "\\$&")}"`;
}
