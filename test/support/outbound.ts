/**
 * Where the Worker's own requests go in tests: a key server that answers what its URL says. `https://issuer.test/keys` takes
 *
 * - `body`: what to answer, `status`: with which status (200);
 * - `later`: what to answer from the second time on, for URLs that are new because they name an `id` of the test's.
 *
 * `https://issuer.test/count?id=…` tells how often the keys of that id were asked for. No other host answers.
 */
export function outbound(request: { url: string }): Response {
  const url = new URL(request.url);
  if (url.host !== "issuer.test") return new Response(`no host ${url.host} in tests`, { status: 502 });
  const id = url.searchParams.get("id") ?? "";
  const asked = counts.get(id) ?? 0;
  if (url.pathname === "/count") return Response.json(asked);
  counts.set(id, asked + 1);
  const body = (asked > 0 ? url.searchParams.get("later") : null) ?? url.searchParams.get("body");
  return new Response(body, {
    status: Number(url.searchParams.get("status") ?? 200),
    headers: { "content-type": "application/json" },
  });
}

const counts = new Map<string, number>();
