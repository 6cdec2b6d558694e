import { describe, expect, it } from "vitest";
import { originOf, pathOf, targetOf } from "../../src/http/target.ts";

describe("design: what a URL asks for is read from its text", () => {
  it.each([
    ["http://host/v1/runs", "/v1/runs", "/v1/runs"],
    ["https://host:8787/v1/runs?limit=1", "/v1/runs?limit=1", "/v1/runs"],
    ["http://host", "/", "/"],
    ["http://host?a=/b", "/?a=/b", "/"],
    ["http://host/a?b=/c?d#e/f", "/a?b=/c?d#e/f", "/a"],
    ["http://host/a#b?c", "/a#b?c", "/a"],
    ["http://[::1]:80/a", "/a", "/a"],
    ["http://a b/v1", "/v1", "/v1"],
    ["http://host/%2E%2e/./../a//b/", "/%2E%2e/./../a//b/", "/%2E%2e/./../a//b/"],
    ["http://host//a", "//a", "//a"],
  ])("%s asks for %s, path %s", (url, target, path) => {
    expect(targetOf(url)).toBe(target);
    expect(pathOf(targetOf(url))).toBe(path);
  });
});

it("design: a host that no URL can have, or that is too long for one, is no origin", () => {
  expect(originOf("https://host:8787/v1")).toBe("https://host:8787");
  for (const host of ["a b", "[", `${"A".repeat(20_000)}.com`])
    expect(originOf(`http://${host}/v1`)).toBe("");
});
