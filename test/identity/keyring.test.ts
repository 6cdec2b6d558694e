import { describe, expect, it } from "vitest";
import type { Env } from "../../src/env.ts";
import { Keyring, keyringOf } from "../../src/identity/keyring.ts";

const OLD = "an-old-secret-of-thirty-two-characters";
const NEW = "a-new-secret-of-thirty-two-characters!";

describe("secrets at rest", () => {
  it("open only under what they were sealed for, and only whole", async () => {
    const ring = new Keyring([NEW]);
    // 24 bytes with its tag: base64 without padding, so that every bit of it counts.
    // 24 bytes with its tag: base64 without padding, so that every bit of it counts.
    const sealed = await ring.seal("whsec_\u00fc", "hook/1");
    expect(await ring.open(sealed, "hook/1")).toBe("whsec_\u00fc");
    expect(await ring.open(sealed, "hook/2")).toBeNull();
    for (let at = 0; at < sealed.length; at += 1) {
      const other = sealed.charAt(at) === "A" ? "B" : "A";
      const changed = sealed.slice(0, at) + other + sealed.slice(at + 1);
      expect(await ring.open(changed, "hook/1"), `at ${at}`).toBeNull();
    }
    expect(await ring.open("", "hook/1")).toBeNull();
  });

  it("are sealed by the first key and opened by any", async () => {
    const before = await new Keyring([OLD]).seal("s", "b");
    const both = new Keyring([NEW, OLD]);
    expect(await both.open(before, "b")).toBe("s");
    const after = await both.seal("s", "b");
    expect(await new Keyring([NEW]).open(after, "b")).toBe("s");
    expect(await new Keyring([OLD]).open(after, "b")).toBeNull();
  });

  it("open as they were sealed, with a byte order mark if they begin with one", async () => {
    const ring = new Keyring([NEW]);
    expect(await ring.open(await ring.seal("\ufeffsecret", "b"), "b")).toBe("\ufeffsecret");
  });

  it("are sealed differently each time", async () => {
    const ring = new Keyring([NEW]);
    expect(await ring.seal("s", "b")).not.toBe(await ring.seal("s", "b"));
  });
});

describe("keys of a deployment", () => {
  const ring = (secrets: Partial<Env>) => keyringOf(secrets as Env);

  it("come from BATON_KEYS, else from BATON_TOKEN", async () => {
    const kid = async (secrets: Partial<Env>) => (await ring(secrets)?.keys("tokens"))?.[0]?.kid;
    expect(await kid({ BATON_TOKEN: OLD, BATON_KEYS: NEW })).toBe(await kid({ BATON_TOKEN: NEW }));
    expect(await kid({ BATON_TOKEN: OLD })).not.toBe(await kid({ BATON_TOKEN: NEW }));
  });

  it.each([{}, { BATON_TOKEN: "short" }, { BATON_TOKEN: OLD, BATON_KEYS: `${NEW} short` }])(
    "are none when a secret could be guessed: %j",
    (secrets) => {
      expect(ring(secrets)).toBeNull();
    },
  );
});
