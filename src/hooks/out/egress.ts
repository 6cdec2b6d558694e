/** Why an address is refused: a word for programs, and the same for people. */
export interface TargetFault {
  rule:
    | "url"
    | "max_length"
    | "https"
    | "no_credentials"
    | "port"
    | "ip_literal"
    | "private_host"
    | "own_host";
  message: string;
}

/** What of its surroundings the deployment tells the rules. */
export interface Surroundings {
  /** Names that this deployment is called by, lower case. */
  ownHosts: readonly string[];
  /** Whether any http or https address will do: set by the local runtime only, where receivers are on this machine. */
  anyTarget: boolean;
}

export const MAX_URL_LENGTH = 2_048;

const PORTS: readonly string[] = ["", "443", "8443"];

/**
 * Top-level names that lead nowhere on the public internet (RFC 6761, 6762, 7686, 8375, 9476, ICANN's `internal`), and those
 * that are used inside companies and homes all the same.
 */
const PRIVATE_ENDINGS: ReadonlySet<string> = new Set([
  "localhost",
  "local",
  "localdomain",
  "internal",
  "intranet",
  "private",
  "corp",
  "home",
  "lan",
  "arpa",
  "alt",
  "onion",
  "test",
  "invalid",
  "example",
]);

/**
 * What is wrong with an address that deliveries are to go to; null when nothing is. It is asked when a subscription is made
 * or changed, and again before every delivery. Names are not resolved: docs/webhooks-out.md says what that means.
 */
export function faultOfTarget(text: string, { ownHosts, anyTarget }: Surroundings): TargetFault | null {
  if (text.length > MAX_URL_LENGTH)
    return fault("max_length", `must have at most ${MAX_URL_LENGTH} characters`);
  // The platform's parser: it brings every spelling of a host to one (case, percent signs, full-width letters, IPv4 in
  // octal, hex or one number), and it is the parser that the delivery goes by.
  const url = URL.canParse(text) ? new URL(text) : null;
  if (url === null || url.hostname === "") return fault("url", "must be an absolute URL");
  const isHttp = url.protocol === "http:" && anyTarget;
  if (url.protocol !== "https:" && !isHttp) return fault("https", "must begin with https://");
  if (url.username !== "" || url.password !== "") {
    return fault("no_credentials", "must not hold a user name or password");
  }
  if (anyTarget) return null;
  if (!PORTS.includes(url.port)) return fault("port", "must use port 443 or 8443");
  // A trailing dot names the same host.
  const host = url.hostname.replace(/\.$/, "");
  if (host.startsWith("[") || /^[\d.]+$/.test(host))
    return fault("ip_literal", "must name a host, not an IP address");
  const labels = host.split(".");
  // A host with an empty label (`localhost..`) is no name; what a resolver makes of it is anybody's guess.
  if (labels.length < 2 || labels.includes("") || PRIVATE_ENDINGS.has(labels.at(-1) ?? "")) {
    return fault("private_host", "must name a host of the public internet");
  }
  if (ownHosts.includes(host)) return fault("own_host", "must not lead back to this deployment");
  return null;
}

/** A host as the rules compare it, from the URL of a request to this deployment; null when it has none. */
export function hostOf(url: string): string | null {
  return URL.parse(url)?.hostname.replace(/\.$/, "") || null;
}

function fault(rule: TargetFault["rule"], message: string): TargetFault {
  return { rule, message };
}
