import type { ProblemDocument, ToolCall } from "./generated/api.js";

/** The gateway refused a request, its answer makes no sense, or there was none; `cause` then says how it was lost. */
export class ToolgateError extends Error {
  override name = "ToolgateError";
  /** As RFC 9457 has it; one made up from the status where the answer came from something in between, with the status 0 where there was none. */
  readonly problem: ProblemDocument;

  constructor(problem: ProblemDocument, options?: ErrorOptions) {
    super(`${problem.title}: ${problem.detail}`, options);
    this.problem = problem;
  }

  get status(): number {
    return this.problem.status;
  }
}

/** The call was accepted and came to no result: it failed or was cancelled. */
export class OutcomeError extends Error {
  override name = "OutcomeError";
  readonly call: ToolCall;

  constructor(call: ToolCall) {
    super(call.error ? `${call.tool}: ${call.error.title}: ${call.error.detail}` : `${call.tool} was ${call.status}`);
    this.call = call;
  }
}
