import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { isAbsolutePath, normalisePath } from "../../src/domain/workspace.ts";
import { publicIdOf } from "../../src/http/ingest.ts";
import { pathIds } from "../../src/http/path-ids.ts";
import { RequestRefused } from "../../src/http/problem.ts";
import { findRoute } from "../../src/http/router.ts";
import { ROUTES } from "../../src/http/routes.ts";
import { originOf, pathOf, targetOf } from "../../src/http/target.ts";
import {
  feedObjectName,
  feedScope,
  runObjectName,
  subscriptionObjectName,
  subscriptionOf,
  tenantKey,
  tenantOf,
  tenantOfKey,
} from "../../src/identity/tenant.ts";
import { issueForArtifactPath } from "../../src/protocol/artifact-path.ts";
import { issueForId, isValidId } from "../../src/protocol/ids.ts";
import { faultOfResourceName } from "../../src/protocol/resource-name.ts";
import { anyText, around, nearly } from "./support/any.ts";
import { check, outcomeOf } from "./support/check.ts";

const one = <T>(...values: T[]) => fc.constantFrom(...values);
const id = fc.stringMatching(/^[A-Za-z0-9._:-]{1,30}$/).filter(isValidId);

describe("ids", () => {
  it("are what stands in a URL's path as it is, and comes back from it", () => {
    check(
      fc.property(around(id), (text) => {
        expect(issueForId("id", text) === null).toBe(isValidId(text));
        if (!isValidId(text)) return;
        const url = new URL(`http://host/v1/runs/${text}/tasks`);
        expect(url.pathname).toBe(`/v1/runs/${text}/tasks`);
        expect(pathIds({ run_id: text })).toEqual({ run_id: text });
      }),
    );
  });

  it("in a path are read as they were encoded, or refused with the issue of what they are", () => {
    check(
      fc.property(around(id), one("run_id", "path"), (text, name) => {
        const issue = name === "path" ? issueForArtifactPath(name, text) : issueForId(name, text);
        const encoded = text.isWellFormed() ? encodeURIComponent(text) : text;
        const outcome = outcomeOf(() => pathIds({ [name]: encoded }));
        if (issue === null) expect(outcome).toEqual({ value: { [name]: text } });
        else expect(outcome).toMatchObject({ error: { problem: { issues: [{ field: name }] } } });
      }),
    );
  });

  it("that are percent-encoded anyhow are read or refused, and never a fault", () => {
    const encoded = nearly(anyText.filter((text) => text.isWellFormed()).map(encodeURIComponent));
    check(
      fc.property(encoded, one("run_id", "path"), (text, name) => {
        const outcome = outcomeOf(() => pathIds({ [name]: text }));
        if ("error" in outcome) expect(outcome.error).toBeInstanceOf(RequestRefused);
        else expect(outcome.value[name]).toBe(decodeURIComponent(text));
      }),
    );
  });
});

describe("what a request asks for", () => {
  it("is the path and query of its URL as it was written", () => {
    const authority = one("host", "host:8787", "[::1]:80", "a b", "", "user@host", "%zz");
    const rest = around(one("", "/", "/v1/runs?limit=1", "?a=/b", "//a", "/a#b")).map((text) =>
      text.replace(/^[^/?#]+/, ""),
    );
    check(
      fc.property(one("http", "https"), authority, rest, (scheme, host, text) => {
        const target = targetOf(`${scheme}://${host}${text}`);
        expect(target).toBe(text.startsWith("/") ? text : `/${text}`);
        const path = pathOf(target);
        expect(target.startsWith(path)).toBe(true);
        expect(path).not.toMatch(/[?#]/);
        expect(["", "?", "#"]).toContain(target.charAt(path.length));
      }),
    );
  });

  it("has the origin of its URL, or none where that has a host that no URL has", () => {
    check(
      fc.property(one("http", "https"), around(one("host/v1", "host:1/", "a b/v1")), (scheme, rest) => {
        const url = `${scheme}://${rest}`;
        const origin = originOf(url);
        expect(origin === "").toBe("error" in outcomeOf(() => new URL(url)));
        if (origin !== "")
          expect(url.toLowerCase().startsWith(`${scheme}:`) && origin.startsWith(`${scheme}:`)).toBe(true);
      }),
    );
  });

  it("is a route's with the ids of its path, or refused as none", () => {
    const route = one(...ROUTES);
    const path = fc
      .tuple(route, fc.array(id, { minLength: 4, maxLength: 4 }))
      .map(([{ path }, ids]) => path.replace(/:\w+\+?/g, () => ids.shift() ?? "x"));
    check(
      fc.property(route, around(path), ({ method }, text) => {
        const outcome = outcomeOf(() => findRoute(method, text));
        if ("error" in outcome) {
          expect(outcome.error).toBeInstanceOf(RequestRefused);
          const { problem } = outcome.error as RequestRefused;
          expect(["ROUTE_NOT_FOUND", "METHOD_NOT_ALLOWED", "ID_INVALID", "ARTIFACT_PATH_INVALID"]).toContain(
            problem.code,
          );
          return;
        }
        const { route, ids } = outcome.value;
        expect(route.method).toBe(method);
        const names = [...route.path.matchAll(/:(\w+)/g)].map(([, name]) => name);
        expect(Object.keys(ids)).toEqual(names);
        // Written into the route again, they are the path, but for how it was encoded.
        let at = 0;
        const again = route.path.replace(/:\w+\+?/g, () => ids[names[at++] ?? ""] ?? "");
        expect(decodeURIComponent(text)).toBe(again);
      }),
      500,
    );
  });

  it("is a hook's by one segment behind /hooks/", () => {
    check(
      fc.property(around(id.map((text) => `/hooks/${text}`)), (text) => {
        const [, hooks, publicId = "", ...more] = text.split("/");
        const isHook =
          text.startsWith("/hooks/") && hooks === "hooks" && publicId !== "" && more.length === 0;
        expect(publicIdOf(text)).toBe(isHook && publicId.length <= 200 ? publicId : null);
      }),
    );
  });
});

describe("names of objects", () => {
  const workspace = fc.oneof(anyText, one("/srv/app", "C:\\a b", "/ä/%2F"));

  it("tell tenants, runs and subscriptions apart, and are read as they were made", () => {
    check(
      fc.property(id, id, id, (org, workspaceId, own) => {
        const tenant = tenantOf(org, workspaceId, null);
        const key = tenantKey(tenant);
        expect(tenantOfKey(key)).toEqual(tenant);
        expect(subscriptionOf(subscriptionObjectName(key, own))).toEqual({
          tenant: key,
          subscription_id: own,
        });
        expect(runObjectName(key, own).split("/").map(decodeURIComponent)).toEqual([org, workspaceId, own]);
      }),
    );
  });

  it("of feeds are read as they were made, whatever the workspace's path", () => {
    check(
      fc.property(id, id, fc.option(workspace), (org, workspaceId, path) => {
        const tenant = tenantKey(tenantOf(org, workspaceId, null));
        const name = feedObjectName({ tenant, workspace: path });
        // Half a surrogate pair is kept nowhere: the directory has the same character in its place.
        expect(feedScope(name)).toEqual({ tenant, workspace: path?.toWellFormed() ?? null });
      }),
    );
  });
});

describe("paths of workspaces", () => {
  it("are normalised once and for all, and mean the same with blanks and slashes around", () => {
    check(
      fc.property(around(one("/srv/app/", "/", "//", "C:\\x", " /a ")), fc.nat(3), (text, slashes) => {
        const path = normalisePath(text);
        if (path === path.trim()) expect(normalisePath(path)).toBe(path);
        expect(path.length > 1 && path.endsWith("/")).toBe(false);
        expect(text.trim().startsWith(path)).toBe(true);
        // What stands before the last slashes stays as it is, blanks too.
        if (path === "" || path !== path.trim()) return;
        expect(normalisePath(` ${path}${"/".repeat(slashes)}\n`)).toBe(path);
      }),
    );
  });

  it("are absolute by a slash or a drive in front", () => {
    check(
      fc.property(around(one("/a", "C:/a", "c:\\a", "C:a", "a/b")), (text) => {
        const isDrive =
          "abcdefghijklmnopqrstuvwxyz".includes(text.charAt(0).toLowerCase()) && text.charAt(1) === ":";
        const isAbsolute =
          text.startsWith("/") || (isDrive && text !== "" && ["/", "\\"].includes(text.charAt(2)));
        expect(isAbsolutePath(text)).toBe(isAbsolute && text !== "");
      }),
    );
  });
});

describe("names of resources", () => {
  it("any text is one, or has a fault with a rule", () => {
    const rules = ["max_length", "non_blank", "printable", "canonical", "glob"];
    check(
      fc.property(around(one("src/**/a.ts", "db", "a/../b", "a/**b", "./a")), (text) => {
        const fault = faultOfResourceName(text);
        if (fault !== null) {
          expect(rules).toContain(fault.rule);
          return;
        }
        expect(text.length).toBeLessThanOrEqual(400);
        expect(text.split("/").some((segment) => segment === "." || segment === "..")).toBe(false);
        expect([...text].every((char) => char >= " " && char !== "\u007f")).toBe(true);
        // One that is good is good behind another.
        if (text.length < 390) expect(faultOfResourceName(`a/${text}`)).toBeNull();
      }),
    );
  });
});
