/** Everything that comes. */
export async function collect<Item>(items: AsyncIterable<Item>): Promise<Item[]> {
  const collected: Item[] = [];
  for await (const item of items) collected.push(item);
  return collected;
}

/** What comes up to the first that is the last. */
export async function take<Item>(items: AsyncIterable<Item>, isLast: (item: Item, count: number) => boolean): Promise<Item[]> {
  const taken: Item[] = [];
  for await (const item of items) {
    taken.push(item);
    if (isLast(item, taken.length)) return taken;
  }
  throw new Error(`the stream ended after ${taken.length}`);
}
