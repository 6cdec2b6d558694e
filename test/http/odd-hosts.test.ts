import { env } from "cloudflare:workers";
import { expect, it } from "vitest";
import { serve } from "../support/serve.ts";
import { answered, mint, newTenant, requestAs } from "../support/tokens.ts";

/** The same request to a host whose name no URL can have. */
function toOddHost(request: Request): Request {
  return new Proxy(request, {
    get(target, name) {
      if (name === "url") return target.url.replace("http://host", "http://a b");
      const value: unknown = Reflect.get(target, name, target);
      return typeof value === "function" ? value.bind(target) : value;
    },
  });
}

it("a hook that is made by way of a host that is no name is told with its secret, and its URL without a host", async () => {
  const { token } = await mint({ scopes: ["operator"], tenant: newTenant() });
  const body = { name: "h", scheme: { kind: "github" }, mapping: "plain_json" };
  const made = await answered(await serve(toOddHost(requestAs(token, "POST", "/v1/hooks", body)), env));
  expect([made.status, made.body.secret]).toEqual([201, expect.any(String)]);
  expect(made.body.hook.url).toMatch(/^\/hooks\/[0-9a-f]+$/);
  const listed = await answered(await serve(toOddHost(requestAs(token, "GET", "/v1/hooks")), env));
  expect(listed.body.hooks).toHaveLength(1);
});
