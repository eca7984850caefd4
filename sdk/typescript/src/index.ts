export * from "./client.js";
export type { TokenProvider } from "./credentials.js";
export * from "./errors.js";
export * from "./generated/api.js";
export * from "./generated/tools.js";
export type { ClientOptions } from "./transport.js";
