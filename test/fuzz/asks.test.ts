import { describe, expect, it } from "vitest";
import { ASK_NAMES, askOf } from "../../bench/fuzz/asks.ts";
import { ROUTES } from "../../src/http/routes.ts";

const nameOf = ({ method, path }: { method: string; path: string }) =>
  `${method} ${path.replace(/^\/(?:context|v1)(?=\/runs\/:run_id)/, "…")}`;

describe("requests of the fuzz", () => {
  it.each(ROUTES.map((route) => [`${route.method} ${route.path}`, route] as const))(
    "%s: it is said what they are made of (bench/fuzz/asks.ts)",
    (_, route) => {
      expect(askOf(route)).toBeDefined();
    },
  );

  it("are for routes that there are", () => {
    const known = new Set(ROUTES.flatMap((route) => [nameOf(route), `${route.method} ${route.path}`]));
    expect(ASK_NAMES.filter((name) => !known.has(name))).toEqual([]);
  });
});
