import { z } from "zod";

/** JSON Schema counts the characters of a string, not the UTF-16 units that JavaScript has (RFC 8259, section 7). */
export function length(least: number, most: number): z.core.CheckFn<string> {
  return (payload) => {
    const count = [...payload.value].length;
    if (count >= least && count <= most) return;
    const message = count < least ? `must have at least ${least} characters` : `must have at most ${most} characters`;
    payload.issues.push({ code: "custom", message, input: payload.value });
  };
}
