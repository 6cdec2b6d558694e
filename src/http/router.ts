import { Router } from "itty-router";
import { pathIds } from "./path-ids.ts";
import { RequestRefused } from "./problem.ts";
import { ROUTES, type Route } from "./routes.ts";

interface RoutePattern {
  route: Route;
  pattern: RegExp;
}

/**
 * The routes with the patterns that the router makes of their paths. They are matched here, because its own `fetch`
 * parses the URL and its query once more for every request.
 */
const patterns = ROUTES.map((route): RoutePattern => {
  const [compiled] = Router().all(route.path).routes;
  if (compiled === undefined) throw new Error(`no pattern for ${route.path}`);
  return { route, pattern: compiled[1] };
});

const patternsByMethod = Map.groupBy(patterns, ({ route }) => route.method as string);

/**
 * The route that takes a request, with the ids in its path.
 * @param path percent-encoded, as it came.
 * @throws RequestRefused when the path is unknown, or known for other methods only, or an id in it is malformed.
 */
export function findRoute(method: string, path: string): { route: Route; ids: Record<string, string> } {
  // The patterns let extra slashes pass, but there are no empty ids.
  if (path !== "/" && /\/(\/|$)/.test(path)) refusePath(path);
  for (const { route, pattern } of patternsByMethod.get(method) ?? []) {
    const match = pattern.exec(path);
    if (match !== null) return { route, ids: pathIds(match.groups ?? {}) };
  }
  const allow = new Set<string>();
  for (const { route, pattern } of patterns) {
    if (!pattern.test(path)) continue;
    allow.add(route.method);
    if (route.method === "GET") allow.add("HEAD");
  }
  if (allow.size === 0) refusePath(path);
  refuseMethod(method, [...allow]);
}

function refusePath(path: string): never {
  throw new RequestRefused({ code: "ROUTE_NOT_FOUND", error: `no route ${path}` });
}

/** @throws RequestRefused naming the methods that would do */
export function refuseMethod(method: string, allow: string[]): never {
  throw new RequestRefused({ code: "METHOD_NOT_ALLOWED", error: `${method} is not allowed here`, allow });
}
