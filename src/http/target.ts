/** What an absolute URL asks for: everything behind its authority, as it came, from the slash on. */
export function targetOf(url: string): string {
  const authority = /^[^:]+:\/\/[^/?#]*/.exec(url)?.[0] ?? "";
  const target = url.slice(authority.length);
  return target.startsWith("/") ? target : `/${target}`;
}

/** The path of such a target, still percent-encoded. Dot segments stay: they are nobody's route. */
export function pathOf(target: string): string {
  const end = target.search(/[?#]/);
  return end === -1 ? target : target.slice(0, end);
}

/** Where the deployment is, as the client calls it; nothing when it calls it by no name a URL can have. */
export function originOf(url: string): string {
  // Not canParse(): it finds good what is too long to be made one.
  return URL.parse(url)?.origin ?? "";
}
