import { Router } from "itty-router";
import { pathIds } from "./path-ids.ts";
import { RequestRefused } from "./problem.ts";
import { ROUTES, type Route } from "./routes.ts";

interface RoutePattern {
  route: Route;
  pattern: RegExp;
  /** Whether the rest of the path belongs to the route, slashes and all. */
  isGreedy: boolean;
}

const REST = "/:path+";

/**
 * The routes with the patterns that the router makes of their paths. They are matched here, because its own `fetch`
 * parses the URL and its query once more for every request.
 */
const patterns = ROUTES.map((route): RoutePattern => {
  if (route.path.endsWith(REST)) {
    // The router would cut slashes off the end; what the rest may be is for path-ids.ts to say.
    const start = route.path.slice(0, -REST.length).replace(/:(\w+)/g, "(?<$1>[^/]+)");
    return { route, pattern: new RegExp(`^${start}/(?<path>.*)$`), isGreedy: true };
  }
  const [compiled] = Router().all(route.path).routes;
  if (compiled === undefined) throw new Error(`no pattern for ${route.path}`);
  return { route, pattern: compiled[1], isGreedy: false };
});

const patternsByMethod = Map.groupBy(patterns, ({ route }) => route.method as string);

/**
 * The route that takes a request, with the ids in its path.
 * @param path percent-encoded, as it came.
 * @throws RequestRefused when the path is unknown, or known for other methods only, or an id in it is malformed.
 */
export function findRoute(method: string, path: string): { route: Route; ids: Record<string, string> } {
  // The patterns let extra slashes pass, but there are no empty ids.
  const hasExtraSlashes = path !== "/" && /\/(\/|$)/.test(path);
  for (const { route, pattern, isGreedy } of patternsByMethod.get(method) ?? []) {
    if (hasExtraSlashes && !isGreedy) continue;
    const match = pattern.exec(path);
    if (match !== null) return { route, ids: pathIds(match.groups ?? {}) };
  }
  const allow = new Set<string>();
  for (const { route, pattern, isGreedy } of patterns) {
    if ((hasExtraSlashes && !isGreedy) || !pattern.test(path)) continue;
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
