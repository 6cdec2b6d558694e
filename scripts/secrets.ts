import { randomBytes } from "node:crypto";
import { readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { StartError } from "./start-error.ts";

/** What RFC 6750 allows after "Bearer ". */
const bearerToken = /^[A-Za-z0-9\-._~+/]+=*$/;

/**
 * The token clients must present: the given one, else the one kept in the state directory, else a new random one that
 * is kept there for the next start, readable by its owner only.
 *
 * @throws StartError when the given or the kept token cannot be sent in an Authorization header.
 */
export async function loadToken(stateDir: string, given: string | undefined): Promise<string> {
  if (given !== undefined) {
    if (!bearerToken.test(given)) {
      throw new StartError(
        "BATON_TOKEN may hold only letters, digits and - . _ ~ + / (then any number of =)",
      );
    }
    return given;
  }
  const token = await loadOrMake(join(stateDir, "token"), "token");
  if (bearerToken.test(token)) return token;
  throw new StartError(`${join(stateDir, "token")} does not hold a usable token; delete it to get a new one`);
}

/**
 * What tokens are signed and secrets are encrypted with: the given text, else what is kept in the state directory, else
 * a new random key that is kept there. Apart from the token, so that another token loses nothing.
 */
export async function loadKeys(stateDir: string, given: string | undefined): Promise<string> {
  return given ?? (await loadOrMake(join(stateDir, "keys"), "keys"));
}

/** What the file holds, or a new random secret that it holds from then on, readable by its owner only. */
async function loadOrMake(path: string, what: string): Promise<string> {
  const kept = await readFile(path, "utf8").catch((error: NodeJS.ErrnoException) => {
    if (error.code === "ENOENT") return undefined;
    throw new StartError(`cannot read the ${what} in ${path}: ${error.message}`);
  });
  if (kept !== undefined) return kept.trim();
  const secret = `baton_${randomBytes(32).toString("base64url")}`;
  await writeFile(path, `${secret}\n`, { mode: 0o600, flag: "wx" });
  return secret;
}
