import type { z } from "zod";
import { backoff, pause } from "./backoff.js";
import { CloudEvent, eventTypes } from "./generated/events.js";
import { type Frame, SseParser } from "./sse.js";
import { Lost, type Opened, type Transport } from "./transport.js";

type EventTypes = typeof eventTypes;
/** An event type of this release. */
export type EventType = keyof EventTypes;
/** One event with its data. */
export type EventOf<Type extends EventType> = CloudEvent & { type: Type; data: z.output<EventTypes[Type]["data"]> };
/** An event of a type, or a version of one, that this release does not know. */
export type UnknownEvent = { type: "unknown"; event: CloudEvent };
/** The position asked for lies beyond the newest: the stream goes on after this one. What was in between is not known. */
export type Reset = { type: "reset"; position: string };
/** The token no longer counts, and there is no other: nothing follows. */
export type Unauthorized = { type: "unauthorized"; detail: string };
/** How often events go out from now on: at once, or in bursts, of which none is left out. It may be ignored. */
export type Mode = { type: "mode"; mode: string };
/** Whatever a stream may bring; `type` tells which. */
export type ToolgateEvent = { [Type in EventType]: EventOf<Type> }[EventType] | UnknownEvent | Reset | Mode | Unauthorized;

export interface EventOptions {
  /** The position to begin after; without it, the stream begins now. `"0"` is the beginning. */
  after?: string;
  sessionId?: string;
  callId?: string;
  type?: EventType;
  signal?: AbortSignal | undefined;
  /** Told when the stream is open, and again when it was opened anew. */
  onOpen?: () => void;
}

/** Without even a comment for so long, a connection is dead: the gateway sends one every 15 seconds. */
const IDLE_MS = 45_000;
const RETRY_MS = 1_000;

/** Events until the token or the caller ends it; a lost connection is opened again where it was. */
export async function* subscribe(transport: Transport, options: EventOptions): AsyncGenerator<ToolgateEvent, void> {
  const { after, sessionId, callId, type, signal, onOpen } = options;
  let parser = new SseParser(after);
  let wasOpen = false;
  for (let failures = 0; ; ) {
    const query = { session_id: sessionId, call_id: callId, type, after: parser.lastEventId || undefined };
    const headers: Record<string, string> = { accept: "text/event-stream" };
    if (parser.lastEventId) headers["last-event-id"] = parser.lastEventId;
    const request = { path: "/v1/events", query, headers, signal };
    // Once it was open, only a refusal ends the attempts: a gateway that restarts comes back.
    const opened = await transport.open(wasOpen ? { ...request, retries: Infinity } : request, IDLE_MS);
    wasOpen = true;
    parser = new SseParser(parser.lastEventId, parser.retry);
    onOpen?.();
    let received = false;
    try {
      for await (const frame of frames(opened, parser, signal)) {
        received = true;
        if (frame.type !== "unauthorized") yield event(frame);
        else if ((await transport.credentials.renewed(opened.token)) === undefined) {
          yield { type: "unauthorized", detail: member(frame, "detail") };
          return;
        } else break;
      }
    } finally {
      opened.close();
    }
    failures = received ? 0 : failures + 1;
    await pause((parser.retry ?? RETRY_MS) + backoff(failures), signal);
  }
}

/** The frames of one connection; it ends where the connection does, however that was. */
async function* frames(opened: Opened, parser: SseParser, signal: AbortSignal | undefined): AsyncGenerator<Frame, void> {
  for (;;) {
    const chunk = await opened.read().catch((error: unknown) => {
      signal?.throwIfAborted();
      if (error instanceof Lost) return undefined;
      throw error;
    });
    if (chunk === undefined) return;
    yield* parser.push(chunk);
  }
}

function event(frame: Frame): ToolgateEvent {
  if (frame.type === "reset") return { type: "reset", position: member(frame, "position") };
  if (frame.type === "mode") return { type: "mode", mode: member(frame, "mode") };
  const event = CloudEvent.parse(JSON.parse(frame.data));
  if (!Object.hasOwn(eventTypes, event.type)) return { type: "unknown", event };
  const known = eventTypes[event.type as EventType];
  const data = known.data.safeParse(event.data);
  if (event.dataversion !== known.version || !data.success) return { type: "unknown", event };
  return { ...event, data: data.data } as ToolgateEvent;
}

function member(frame: Frame, name: string): string {
  const value: unknown = JSON.parse(frame.data);
  return typeof value === "object" && value !== null ? String((value as Record<string, unknown>)[name]) : "";
}
