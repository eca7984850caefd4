/** One event of a stream, as WHATWG HTML, section 9.2.6, dispatches it. */
export interface Frame {
  type: string;
  data: string;
}

/** Reads an event stream (WHATWG HTML, section 9.2), in pieces of any size. */
export class SseParser {
  /** What a client resumes after. */
  lastEventId: string;
  /** How long to wait before coming back, in milliseconds, once the stream has said so. */
  retry: number | undefined;

  // It also takes a byte order mark away, and replaces what is no UTF-8.
  readonly #decoder = new TextDecoder();
  #line = "";
  #endedWithCr = false;
  #type = "";
  #data: string[] = [];
  #id: string;

  constructor(lastEventId = "", retry?: number) {
    this.lastEventId = lastEventId;
    this.retry = retry;
    this.#id = lastEventId;
  }

  /** The events that these bytes complete. What is not complete when the stream ends is no event. */
  *push(bytes: Uint8Array): Generator<Frame, void> {
    const text = this.#decoder.decode(bytes, { stream: true });
    let start = 0;
    for (let at = 0; at < text.length; at++) {
      const character = text[at];
      const endsLine = character === "\n" || character === "\r";
      if (character === "\n" && this.#endedWithCr) {
        // The second half of a CRLF, which may come in another piece.
        this.#endedWithCr = false;
        start = at + 1;
        continue;
      }
      this.#endedWithCr = character === "\r";
      if (!endsLine) continue;
      const line = this.#line + text.slice(start, at);
      this.#line = "";
      start = at + 1;
      const frame = this.#take(line);
      if (frame) yield frame;
    }
    this.#line += text.slice(start);
  }

  #take(line: string): Frame | undefined {
    if (line === "") return this.#dispatch();
    const colon = line.indexOf(":");
    const name = colon === -1 ? line : line.slice(0, colon);
    const value = colon === -1 ? "" : line.slice(line[colon + 1] === " " ? colon + 2 : colon + 1);
    if (name === "data") this.#data.push(value);
    else if (name === "event") this.#type = value;
    else if (name === "id" && !value.includes("\0")) this.#id = value;
    else if (name === "retry" && /^[0-9]+$/.test(value)) this.retry = Number(value);
    // A line that begins with a colon is a comment, and every other field is ignored.
    return undefined;
  }

  #dispatch(): Frame | undefined {
    const [type, data] = [this.#type, this.#data];
    this.lastEventId = this.#id;
    this.#type = "";
    this.#data = [];
    return data.length === 0 ? undefined : { type: type || "message", data: data.join("\n") };
  }
}
