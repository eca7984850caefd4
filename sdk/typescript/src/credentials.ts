/** Gives a bearer token: the first time, and again when `refused` did not hold. */
export type TokenProvider = (refused: string | undefined) => string | Promise<string>;

/** The token that is in use, shared by all requests of a client. */
export class Credentials {
  readonly #provider: TokenProvider;
  #token: Promise<string> | undefined;

  constructor(token: string | TokenProvider) {
    this.#provider = typeof token === "string" ? () => token : token;
  }

  token(): Promise<string> {
    return (this.#token ??= this.#ask(undefined));
  }

  /** Another token in place of one that was refused, or `undefined` when there is none. */
  async renewed(refused: string): Promise<string | undefined> {
    const current = await this.#token?.catch(() => undefined);
    // Somebody else may have renewed it meanwhile.
    if (current === refused || current === undefined) this.#token = this.#ask(refused);
    const token = await this.token();
    return token === refused ? undefined : token;
  }

  #ask(refused: string | undefined): Promise<string> {
    const asked = Promise.resolve()
      .then(() => this.#provider(refused))
      .then(checked);
    // A provider that failed is asked again next time.
    asked.catch(() => {
      if (this.#token === asked) this.#token = undefined;
    });
    return asked;
  }
}

/** RFC 6750, section 2.1. What is no token would look like a lost connection later. */
function checked(token: string): string {
  if (!/^[\w.~+/-]+=*$/.test(token)) throw new Error("what was given as a token is no bearer token");
  return token;
}
