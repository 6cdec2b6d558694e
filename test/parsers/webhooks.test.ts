import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { keptHeaders } from "../../src/hooks/in/kept-headers.ts";
import { memberOf, pointedAt, Received } from "../../src/hooks/in/received.ts";
import { eventOf, keyOf } from "../../src/hooks/in/scheme.ts";
import { hmac, hmacKey } from "../../src/hooks/in/schemes/hmac.ts";
import { canBeSecret } from "../../src/hooks/in/schemes/schemes.ts";
import { standardKey } from "../../src/hooks/in/schemes/standard.ts";
import { bytesOf, fromBase64, fromHex, momentOf, singleHeader } from "../../src/hooks/in/signature.ts";
import { payloadPath } from "../../src/hooks/mapping/ids.ts";
import { faultOfTarget, hostOf } from "../../src/hooks/out/egress.ts";
import { matchesPattern, wantsEvent } from "../../src/hooks/out/event-filter.ts";
import { MAX_RETRY_AFTER_MS, retryAfterMs } from "../../src/hooks/out/schedule.ts";
import { secretBytes } from "../../src/hooks/out/signature.ts";
import type { HmacScheme } from "../../src/protocol/hooks.ts";
import { RUN_STATUSES } from "../../src/protocol/status.ts";
import { anyJson, anyText, around, headerValue, jsonOver } from "./support/any.ts";
import { check, checkAsync, expectPrototypesUntouched, isPlain } from "./support/check.ts";

const one = <T>(...values: T[]) => fc.constantFrom(...values);
const NOW = 1_800_000_000_000;
const bytes = fc.uint8Array({ maxLength: 80 });
const hexOf = (given: Uint8Array) => [...given].map((byte) => byte.toString(16).padStart(2, "0")).join("");
const base64Of = (given: Uint8Array) => btoa(String.fromCharCode(...given));
const delivered = (body: string | Uint8Array, type = "application/json") =>
  new Received(new Headers({ "content-type": type }), typeof body === "string" ? bytesOf(body) : body);

describe("the body of a delivery", () => {
  it("is the JSON that JSON.parse makes of it, or says why not", () => {
    check(
      fc.property(
        fc.oneof(
          anyJson.map((value) => JSON.stringify(value)),
          around(fc.json()),
        ),
        (text) => {
          const payload = delivered(text).payload();
          let expected: unknown;
          try {
            expected = text.trim() === "" ? null : JSON.parse(text.toWellFormed());
          } catch {
            expect(payload).toEqual({ ok: false, error: "body is not JSON" });
            return;
          }
          expect(payload).toEqual({ ok: true, value: expected });
          expect(isPlain(payload.ok && payload.value)).toBe(true);
        },
      ),
    );
    expectPrototypesUntouched();
  });

  it("of any bytes is data, or says that it is none", () => {
    check(
      fc.property(fc.oneof(bytes, around(fc.json()).map(bytesOf)), fc.boolean(), (body, isForm) => {
        const type = isForm ? "application/x-www-form-urlencoded; charset=utf-8" : "text/json";
        const payload = delivered(body, type).payload();
        if (!payload.ok) expect(["body is not JSON", "body is not UTF-8"]).toContain(payload.error);
      }),
    );
  });

  it("a form's fields come as they were written, each once or as a list, whatever their names", () => {
    const name = fc.oneof(
      one("a", "payload", "__proto__", "constructor", ""),
      anyText.filter((text) => text.length < 100),
    );
    check(
      fc.property(fc.array(fc.tuple(name, anyText), { maxLength: 6 }), (pairs) => {
        const fields = pairs.map(([key, value]) => [key.toWellFormed(), value.toWellFormed()] as const);
        const form = new URLSearchParams(fields.map(([key, value]) => [key, value]));
        const payload = delivered(form.toString(), "application/x-www-form-urlencoded").payload();
        const [wrapped, ...others] = fields.filter(([key]) => key === "payload");
        if (wrapped !== undefined && others.length === 0 && isJson(wrapped[1])) {
          expect(payload).toEqual({ ok: true, value: JSON.parse(wrapped[1]) });
          return;
        }
        expect(payload.ok).toBe(true);
        const value = (payload.ok ? payload.value : {}) as Record<string, unknown>;
        expect(new Set(Object.keys(value))).toEqual(new Set(fields.map(([key]) => key)));
        for (const [key] of fields) {
          const given = fields.filter(([other]) => other === key).map(([, text]) => text);
          expect(Object.getOwnPropertyDescriptor(value, key)?.value).toEqual(
            given.length === 1 ? given[0] : given,
          );
        }
      }),
    );
    expectPrototypesUntouched();
  });

  function isJson(text: string): boolean {
    try {
      JSON.parse(text);
      return true;
    } catch {
      return false;
    }
  }
});

describe("JSON pointers", () => {
  /** Every place in a value with its pointer (RFC 6901). */
  function* places(value: unknown, pointer = ""): Generator<[string, unknown]> {
    yield [pointer, value];
    if (typeof value !== "object" || value === null) return;
    for (const [name, member] of Object.entries(value)) {
      yield* places(member, `${pointer}/${name.replaceAll("~", "~0").replaceAll("/", "~1")}`);
    }
  }

  it("lead to every place of a value, and nowhere else", () => {
    const json = jsonOver(["a/b", "~", "~1", "m~n"]);
    const stray = fc.array(one("a", "0", "00", "-", "length", "__proto__", "toString", "~2"), {
      minLength: 1,
      maxLength: 3,
    });
    check(
      fc.property(json, stray, anyText, (value, tokens, text) => {
        const known = new Map(places(value));
        for (const [pointer, member] of known) expect(pointedAt(value, pointer)).toBe(member);
        for (const pointer of [`/${tokens.join("/")}`, `/${text}`]) {
          if (!known.has(pointer) && !/~(?![01])/.test(pointer))
            expect(pointedAt(value, pointer)).toBeUndefined();
        }
      }),
    );
  });

  it("members are own members, of objects that JSON made", () => {
    check(
      fc.property(anyJson, fc.oneof(one("toString", "__proto__", "constructor"), anyText), (value, name) => {
        const has = typeof value === "object" && value !== null && Object.keys(value).includes(name);
        expect(memberOf(value, name) === undefined).toBe(!has);
      }),
    );
  });
});

describe("what a delivery says about itself", () => {
  it("an id is a text that is not blank, or a number that reads exactly; an event is a text that is not empty", () => {
    check(
      fc.property(fc.oneof(anyJson, anyText, fc.double()), (value) => {
        const key = keyOf(value);
        if (key !== null) {
          expect(key.trim()).not.toBe("");
          expect(key.length).toBeLessThanOrEqual(255);
          expect(typeof value === "number" ? Number(key) === value : key === value).toBe(true);
        } else expect(Number.isSafeInteger(value)).toBe(false);
        const event = eventOf(value);
        const isEvent = typeof value === "string" && value !== "" && value.length <= 255;
        expect(event).toBe(isEvent ? value : null);
      }),
    );
  });

  it("headers are kept that tell, and none that proves; together no more than the bound", () => {
    const name = fc.oneof(
      one(
        "x-github-event",
        "x-hub-signature-256",
        "authorization",
        "x-api-key",
        "content-type",
        "x-proof",
        "cookie",
      ),
      fc.stringMatching(/^(x|ce)-[a-z_-]{1,12}$/),
    );
    const scheme = { kind: "shared_secret", header: "x-proof", prefix: "" } as const;
    check(
      fc.property(fc.dictionary(name, headerValue(one("a"))), (given) => {
        const kept = keptHeaders(scheme, new Headers(given));
        expect(JSON.stringify(kept)).not.toMatch(
          /"(x-hub-signature-256|authorization|x-api-key|x-proof|cookie)":/,
        );
        for (const [header, value] of Object.entries(kept))
          expect(value).toBe(new Headers(given).get(header));
        const length = Object.entries(kept).flat().join("").length;
        expect(length).toBeLessThanOrEqual(4 * 1024);
      }),
    );
  });

  it("its payload is kept under the path that its type wants", () => {
    const types = around(one("application/json", "application/cloudevents+json; a=b", "text/plain"));
    check(
      fc.property(types, (type) => {
        expect(payloadPath("d", type)).toMatch(/^webhooks\/d\.(json|txt)$/);
      }),
    );
  });
});

describe("proofs", () => {
  it("bytes are read from hex and base64 as they were written; any other text is none", () => {
    check(
      fc.property(bytes, (given) => {
        const some = given.length > 0 ? given : null;
        expect(fromHex(hexOf(given))).toEqual(some);
        expect(fromHex(hexOf(given).toUpperCase())).toEqual(some);
        expect(fromBase64(base64Of(given))).toEqual(some);
        expect(hmacKey(hexOf(given), "hex")).toEqual(some);
        expect(hmacKey(base64Of(given), "base64")).toEqual(some);
      }),
    );
    check(
      fc.property(around(bytes.map(hexOf)), around(bytes.map(base64Of)), (hex, base64) => {
        const fromText = fromHex(hex);
        if (fromText !== null) expect(hexOf(fromText)).toBe(hex.toLowerCase());
        const decoded = fromBase64(base64);
        // Padding may be left out, and the last bits may say anything.
        if (decoded !== null)
          expect(base64Of(decoded).slice(0, -4)).toBe(base64.slice(0, base64Of(decoded).length - 4));
      }),
    );
  });

  it("a secret of Standard Webhooks is 24 to 64 bytes behind its prefix, a public key 32", () => {
    const secret = fc
      .tuple(one("whsec_", "whpk_", "", "whsec"), bytes)
      .map(([prefix, key]) => prefix + base64Of(key));
    check(
      fc.property(around(secret), (text) => {
        const key = standardKey(text);
        if (key !== null) expect(key.isPublic ? key.bytes.length === 32 : key.bytes.length >= 24).toBe(true);
        expect(canBeSecret({ kind: "standard" }, text)).toBe(key !== null);
        const own = secretBytes(text);
        if (own === null) return;
        expect(text).toBe(`whsec_${base64Of(own).slice(0, -4)}${text.slice(-4)}`);
        // What goes out signed is what would be believed coming in.
        expect(key).toEqual({ isPublic: false, bytes: own });
      }),
    );
  });

  it("a secret that a header brings is one that comes as it is", () => {
    const scheme = { kind: "shared_secret", header: "x-secret", prefix: "" } as const;
    check(
      fc.property(around(one("a secret", " x", "x,y")), (text) => {
        if (!canBeSecret(scheme, text)) return;
        expect(singleHeader(new Headers({ "x-secret": text }), "x-secret")).toEqual({
          ok: true,
          value: text,
        });
      }),
    );
  });

  it("a moment is its digits, in seconds or milliseconds; any other text is none", () => {
    check(
      fc.property(around(fc.nat().map(String)), one("s", "ms"), (text, unit) => {
        const moment = momentOf(text, unit as "s" | "ms");
        const isMoment = /^\d+$/.test(text) && text.length <= 15;
        expect(moment).toBe(isMoment ? Number(text) * (unit === "s" ? 1000 : 1) : null);
      }),
    );
  });

  it("what a hook signs is its own text with the body in it, whatever that text is", async () => {
    const literal = one("", "v0:", ".", "constructor", "toString", "__proto__", "{x}", "body");
    await checkAsync(
      fc.asyncProperty(literal, literal, literal, anyText, async (before, between, after, body) => {
        const config: HmacScheme = {
          ...{ kind: "hmac", header: "x-sig", prefix: "", encoding: "hex", algorithm: "sha256" },
          ...{ secret_encoding: "utf8", timestamp_header: "x-time", timestamp_unit: "ms" },
          signed: `${before}{body}${between}{timestamp}${after}`,
        };
        const content = bytesOf(`${before}${body}${between}${NOW}${after}`);
        const name = { name: "HMAC", hash: "SHA-256" };
        const key = await crypto.subtle.importKey("raw", bytesOf("a secret"), name, false, ["sign"]);
        const signature = hexOf(new Uint8Array(await crypto.subtle.sign("HMAC", key, content)));
        const headers = new Headers({ "x-sig": signature, "x-time": String(NOW) });
        const given = new Received(headers, bytesOf(body));
        const checks = { nowMs: NOW, hasCredential: async () => false };
        expect(await hmac.verify(config, ["a secret"], given, checks)).toBeNull();
      }),
    );
  });
});

describe("where deliveries go", () => {
  const surroundings = { ownHosts: ["baton.example.com"], anyTarget: false };
  const host = fc.oneof(
    fc.domain(),
    fc.ipV4(),
    fc.ipV4Extended(),
    fc.ipV6().map((address) => `[${address}]`),
    one(
      "localhost",
      "a.internal",
      "hooks.example.org.",
      "BATON.example.com",
      "%6cocalhost",
      "１２７.0.0.1",
      "0x7f.1",
    ),
  );
  const url = fc
    .tuple(
      one("https", "http", "HTTPS", "ftp"),
      one("", "u@", "u:p@"),
      host,
      one("", ":443", ":8443", ":22"),
      anyText,
    )
    .map(([scheme, user, name, port, path]) => `${scheme}://${user}${name}${port}/${path}`);

  it("is a host of the public internet by HTTPS, or has a fault", () => {
    check(
      fc.property(around(url), (text) => {
        const fault = faultOfTarget(text, surroundings);
        if (fault !== null) return;
        const { protocol, username, password, port, hostname } = new URL(text);
        expect([protocol, username, password]).toEqual(["https:", "", ""]);
        expect(["", "8443"]).toContain(port);
        expect(hostname).toMatch(/^[^.[\]:]+(\.[^.[\]:]+)+\.?$/);
        // The platform brings every number that is an address to this form.
        expect(hostname).not.toMatch(/^[\d.]+$/);
        expect(hostname).not.toMatch(/(^|\.)(localhost|local|internal|test|invalid|example|arpa)\.?$/);
        expect(surroundings.ownHosts).not.toContain(hostOf(text));
      }),
      500,
    );
  });

  it("a wait that a receiver asks for lies within bounds, or is none", () => {
    const date = fc
      .date({ noInvalidDate: true, min: new Date(0), max: new Date(4e12) })
      .map((at) => at.toUTCString());
    check(
      fc.property(around(fc.oneof(date, fc.nat().map(String))), (text) => {
        const ms = retryAfterMs(text, NOW);
        if (ms === null) return;
        expect(ms).toBeGreaterThanOrEqual(0);
        expect(ms).toBeLessThanOrEqual(MAX_RETRY_AFTER_MS);
      }),
    );
    check(
      fc.property(date, fc.nat(), (at, seconds) => {
        const within = (ms: number) => Math.min(MAX_RETRY_AFTER_MS, Math.max(0, ms));
        expect(retryAfterMs(at, NOW)).toBe(within(Date.parse(at) - NOW));
        expect(retryAfterMs(` ${seconds} `, NOW)).toBe(within(seconds * 1000));
      }),
    );
  });

  it("a pattern of event types means what its regular expression means", () => {
    const text = fc.string({ unit: one("a", "b", ".", "*"), maxLength: 8 });
    check(
      fc.property(text, text, one(...RUN_STATUSES), (pattern, type, run_status) => {
        const parts = pattern.split("*").map((part) => part.replaceAll(".", "\\."));
        const isMeant = new RegExp(`^${parts.join("[^]*")}$`).test(type);
        expect(matchesPattern(pattern, type)).toBe(isMeant);
        expect(wantsEvent({ events: ["c", pattern], status: [] }, { type, run_status })).toBe(isMeant);
      }),
      500,
    );
    check(
      fc.property(
        anyText,
        anyText,
        (pattern, type) => void matchesPattern(pattern.slice(0, 200), type.slice(0, 1_000)),
      ),
    );
  });
});
