import type { Transport } from "./transport.js";

/** What a tool made. */
export interface Artifact {
  bytes: Uint8Array<ArrayBuffer>;
  contentType: string;
  /** Of the bytes, lower-case hex. */
  sha256: string;
}

export async function artifact(transport: Transport, artifactId: string, signal: AbortSignal | undefined): Promise<Artifact> {
  const { headers, body } = await transport.bytes({ path: `/v1/artifacts/${encodeURIComponent(artifactId)}`, signal });
  const digest = new Uint8Array(await crypto.subtle.digest("SHA-256", body));
  // RFC 9530, section 2.
  const promised = /sha-256=:([^:]*):/.exec(headers.get("content-digest") ?? "")?.[1];
  if (promised !== btoa(String.fromCharCode(...digest))) throw new Error(`artifact ${artifactId} is not what its digest says`);
  const sha256 = [...digest].map((byte) => byte.toString(16).padStart(2, "0")).join("");
  return { bytes: body, contentType: headers.get("content-type") ?? "application/octet-stream", sha256 };
}
