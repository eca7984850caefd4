import { z } from "zod";
import { Lost, type Query, type Transport } from "./transport.js";

export interface PageOptions {
  /** Items fetched at once, 1 to 500; 50 unless said otherwise. */
  pageSize?: number | undefined;
  signal?: AbortSignal | undefined;
}

/** Every item of a list, page by page, as they are asked for. */
export async function* pages<Item>(
  transport: Transport,
  path: string,
  item: z.ZodType<Item>,
  filter: Query,
  { pageSize, signal, cursor = "cursor" }: PageOptions & { cursor?: string },
): AsyncGenerator<Item, void> {
  const page = z.object({ items: z.array(item), next_cursor: z.string().nullable() });
  let query: Query = { ...filter, limit: pageSize };
  for (;;) {
    const { items, next_cursor } = page.parse((await transport.json({ path, query, signal })).body);
    yield* items;
    if (next_cursor === null) return;
    query = { ...query, [cursor]: next_cursor };
  }
}

/** Without a line for so long, the answer is cut off. */
const IDLE_MS = 60_000;

/** Every line of an NDJSON answer. It is not asked for again when it is cut off: what came would come twice. */
export async function* lines<Item>(
  transport: Transport,
  path: string,
  item: z.ZodType<Item>,
  query: Query,
  signal: AbortSignal | undefined,
): AsyncGenerator<Item, void> {
  const { read, close } = await transport.open({ path, query, headers: { accept: "application/x-ndjson" }, signal }, IDLE_MS);
  try {
    let rest = "";
    const decoder = new TextDecoder();
    for (let chunk = await read(); chunk; chunk = await read()) {
      const whole = (rest + decoder.decode(chunk, { stream: true })).split("\n");
      rest = whole.pop() ?? "";
      for (const line of whole) yield item.parse(JSON.parse(line));
    }
    if (rest !== "") throw new Error("the answer ended within a line");
  } catch (error) {
    signal?.throwIfAborted();
    throw error instanceof Lost ? error.withoutAnswer() : error;
  } finally {
    close();
  }
}
