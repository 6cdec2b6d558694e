import fc from "fast-check";
import { describe, expect, it } from "vitest";
import type { Env } from "../../src/env.ts";
import { readBody } from "../../src/http/body.ts";
import { Call } from "../../src/http/call.ts";
import { declaredDigests, declaredLength, declaredType } from "../../src/http/content-headers.ts";
import { corsHeaders, preflightHeaders } from "../../src/http/cors.ts";
import { RequestRefused } from "../../src/http/problem.ts";
import { networkOf } from "../../src/http/rate.ts";
import { contentHeaders, safeContentType } from "../../src/http/safe-content.ts";
import { claimedTenant, issuesOfClaims } from "../../src/identity/claimed-tenant.ts";
import { credentialOf, isSameSecret } from "../../src/identity/credential.ts";
import { isValidActor } from "../../src/protocol/actor.ts";
import { readByteRange } from "../../src/protocol/byte-range.ts";
import { digestHeader, readDigestHeader } from "../../src/protocol/content-digest.ts";
import { readEntityTags } from "../../src/protocol/entity-tags.ts";
import { readIdempotencyKey } from "../../src/protocol/idempotency-key.ts";
import { isValidId } from "../../src/protocol/ids.ts";
import { readIfMatch } from "../../src/protocol/if-match.ts";
import { emptyBody } from "../../src/protocol/subscription.ts";
import { anyText, around, headerValue } from "./support/any.ts";
import { check, checkAsync, outcomeOf } from "./support/check.ts";

const one = <T>(...values: T[]) => fc.constantFrom(...values);
const blanks = one("", " ", "\t", "  ");
const sha256 = fc.stringMatching(/^[0-9a-f]{64}$/);
const requestWith = (headers: Record<string, string>, url = "http://host/") => new Request(url, { headers });

/** What refuses a request says so by its own error, with a code of the contract. */
function refusedWith(call: () => unknown, ...codes: string[]): unknown {
  const outcome = outcomeOf(call);
  if ("value" in outcome) return outcome.value;
  expect(outcome.error).toBeInstanceOf(RequestRefused);
  expect(codes).toContain((outcome.error as RequestRefused).problem.code);
  return undefined;
}

describe("revisions and entity tags", () => {
  const tag = fc.record({ tag: fc.stringMatching(/^[!#-+\--~]{0,20}$/), isWeak: fc.boolean() });
  const printed = (tags: { tag: string; isWeak: boolean }[]) =>
    tags.map((one) => `${one.isWeak ? "W/" : ""}"${one.tag}"`);

  it("tags are read as they were written, whatever blanks lie between", () => {
    check(
      fc.property(fc.array(fc.tuple(tag, blanks, blanks), { minLength: 1, maxLength: 5 }), (tags) => {
        const text = tags.map(([one, before, after]) => before + printed([one]) + after).join(",");
        expect(readEntityTags("If-Match", text)).toEqual({ ok: true, tags: tags.map(([one]) => one) });
      }),
    );
  });

  it("any text is tags that are written as it is, or an issue", () => {
    check(
      fc.property(around(one('"a"', 'W/"a", "b"', "*", '"12"')), (text) => {
        const read = readEntityTags("If-Match", text);
        if (!read.ok) {
          expect(read.issue).toMatchObject({ field: "If-Match", rule: "entity_tags" });
          return;
        }
        if (read.tags === "*" || read.tags === null) {
          expect(text.trim()).toBe("*");
          return;
        }
        expect(printed(read.tags)).toEqual(text.split(",").map((part) => part.trim()));
      }),
    );
  });

  it("a revision is the number that its digits write, quoted or not; any other text is an issue", () => {
    check(
      fc.property(around(fc.maxSafeNat().map((n) => `"${n}"`)), (text) => {
        const read = readIfMatch(text);
        const digits = text.trim().replace(/^"(.*)"$/, "$1");
        const number = /^\d+$/.test(digits) && !/^"|"$/.test(digits) ? BigInt(digits) : null;
        const isNumber = number !== null && number <= BigInt(Number.MAX_SAFE_INTEGER);
        if (text.trim() === "*") expect(read).toEqual({ ok: true, revision: null });
        else if (isNumber) expect(read).toEqual({ ok: true, revision: Number(number) });
        else expect(read).toMatchObject({ ok: false, issue: { rule: "if_match" } });
      }),
    );
  });
});

describe("Range", () => {
  /** RFC 9110, section 14.1.2, by trying every byte. */
  function bytesIn(first: string, last: string, length: number): number[] | null {
    if (first === "" && last === "") return null;
    if (first !== "" && last !== "" && BigInt(last) < BigInt(first)) return null;
    return Array.from({ length }, (_, at) => at).filter((at) => {
      if (first === "") return BigInt(at) >= BigInt(length) - BigInt(last);
      return BigInt(at) >= BigInt(first) && (last === "" || BigInt(at) <= BigInt(last));
    });
  }

  it("has the bytes that the RFC gives it", () => {
    const place = fc.oneof(one("", "0", "00"), fc.nat(40).map(String), fc.nat(10 ** 15 - 1).map(String));
    check(
      fc.property(place, place, fc.nat(30), (first, last, length) => {
        const expected = bytesIn(first, last, length);
        const range = readByteRange(`bytes=${first}-${last}`, length);
        if (expected === null) expect(range).toBeNull();
        else if (expected.length === 0) expect(range).toBe("unsatisfiable");
        else expect(range).toEqual({ start: expected[0], end: expected.at(-1) });
      }),
    );
  });

  it("of any text lies within the content, or is none", () => {
    check(
      fc.property(around(one("bytes=0-4", "bytes=-5", "Bytes= 2-")), fc.nat(100), (text, length) => {
        const range = readByteRange(text, length);
        if (range === null || range === "unsatisfiable") return;
        expect(range.start).toBeGreaterThanOrEqual(0);
        expect(range.end).toBeGreaterThanOrEqual(range.start);
        expect(range.end).toBeLessThan(length);
      }),
    );
  });
});

describe("digests", () => {
  it("are read as they were written, also among others and with parameters", () => {
    check(
      fc.property(sha256, blanks, fc.boolean(), (hex, blank, amongOthers) => {
        const text = `${amongOthers ? "md5=:AA==:;q=1, " : ""}${digestHeader(hex)}${amongOthers ? ";a=b" : ""}${blank}`;
        expect(readDigestHeader("Repr-Digest", text)).toEqual({ ok: true, sha256: hex });
      }),
    );
  });

  it("any text is a digest, none of ours, or an issue", () => {
    check(
      fc.property(around(sha256.map(digestHeader)), (text) => {
        const read = readDigestHeader("Repr-Digest", text);
        if (!read.ok) {
          expect(read.issue).toMatchObject({ field: "Repr-Digest", rule: "digest" });
          return;
        }
        if (read.sha256 === null) {
          expect(text).not.toMatch(/^sha-256=/);
          return;
        }
        expect(read.sha256).toMatch(/^[0-9a-f]{64}$/);
        // Base64 has bits that stand for nothing: what is written again reads the same.
        expect(readDigestHeader("", digestHeader(read.sha256))).toEqual(read);
      }),
    );
  });

  it("of a request are refused as headers, or are those that it says", () => {
    const header = headerValue(sha256.map(digestHeader));
    check(
      fc.property(header, header, headerValue(one("identity", "gzip")), (content, repr, encoding) => {
        const headers = { "content-digest": content, "repr-digest": repr, "content-encoding": encoding };
        const read = refusedWith(() => declaredDigests(requestWith(headers)), "HEADER_INVALID");
        for (const hex of (read ?? []) as string[]) expect(hex).toMatch(/^[0-9a-f]{64}$/);
      }),
    );
  });
});

describe("Idempotency-Key", () => {
  it("any text is a key that can be written and read again, none, or an issue", () => {
    check(
      fc.property(around(one("key-1", '"key 1"', '"a\\"b";p=1')), (text) => {
        const read = readIdempotencyKey(text);
        if (!read.ok) {
          expect(["idempotency_key", "max_length"]).toContain(read.issue.rule);
          return;
        }
        if (read.key === null) {
          expect(text.trim()).toBe("");
          return;
        }
        expect(read.key.length).toBeLessThanOrEqual(200);
        expect(readIdempotencyKey(`"${read.key.replace(/["\\]/g, "\\$&")}"`)).toEqual(read);
      }),
    );
  });
});

describe("content", () => {
  const types = one("text/plain", 'application/json; charset="utf-8"', "image/svg+xml;a=b", "a/b");

  it("a type is declared as it is read, or refused as a header", () => {
    check(
      fc.property(around(types), (text) => {
        const type = refusedWith(() => declaredType("Content-Type", text), "HEADER_INVALID");
        if (type === undefined) return;
        expect(type).toBe(text.trim() || "application/octet-stream");
        expect(declaredType("", type as string)).toBe(type);
      }),
    );
  });

  it("goes out under a type that nobody runs, whatever was declared", () => {
    const risky = /html|xml|javascript|ecmascript|css|svg|pdf|wasm|xslt/i;
    check(
      fc.property(around(types), (text) => {
        const type = safeContentType(text);
        expect(type).not.toMatch(risky);
        expect(type).toMatch(/^[a-z]+\/[a-z0-9-]+(; charset=[\w-]+)?$/);
        expect(safeContentType(type)).toBe(type);
      }),
    );
  });

  it("goes out under the name that its path ends with, which no header can be broken by", () => {
    const name = fc
      .string({ unit: "grapheme", minLength: 1, maxLength: 20 })
      .filter((text) => !text.includes("/"));
    check(
      fc.property(
        name.filter((text) => text.isWellFormed()),
        sha256,
        (name, hex) => {
          const file = {
            path: `a/${name}`,
            sha256: hex,
            version: 1,
            content_type: "a/b",
            bytes: 1,
            ts_ms: 1,
          };
          const said = contentHeaders(file)["content-disposition"] ?? "";
          const [, value = ""] =
            /^attachment; filename\*=UTF-8''([A-Za-z0-9!#$&+.^_`|~%-]*)$/.exec(said) ?? [];
          expect(decodeURIComponent(value)).toBe(name);
        },
      ),
    );
  });

  it("a length is the number that its digits write, or none", () => {
    check(
      fc.property(headerValue(fc.nat().map(String)), (text) => {
        const headers = new Headers({ "content-length": text });
        const length = declaredLength({ headers } as Request);
        const value = headers.get("content-length") ?? "";
        if (/^\d+$/.test(value)) expect(length).toBe(Number(value));
        else expect(length).toBeNull();
      }),
    );
  });

  it("a body is JSON by its type, or refused before it is read", async () => {
    const type = headerValue(one("application/json", "application/ld+json ; charset=utf-8"));
    await checkAsync(
      fc.asyncProperty(type, async (text) => {
        const isJson = /^application\/([^/;]+\+)?json\s*(;|$)/i.test(text.trim());
        const request = new Request("http://host/", {
          method: "POST",
          body: "{}",
          headers: { "content-type": text },
        });
        const read = await readBody(request, emptyBody(), { mayBeEmpty: false }).catch((error) => error);
        if (isJson) expect(read).toEqual({});
        else expect(read).toMatchObject({ problem: { code: "CONTENT_TYPE_UNSUPPORTED" } });
      }),
    );
  });
});

describe("what a request prefers", () => {
  const preferred = (prefer: string) =>
    new Call({ request: requestWith({ prefer }) } as unknown as ConstructorParameters<
      typeof Call
    >[0]).preferredReturn();

  it("is found among other preferences, and is none of any other word", () => {
    const other = one("respond-async", "wait=10", 'foo="bar"', "handling=lenient");
    check(
      fc.property(
        fc.array(other),
        one("representation", "minimal"),
        fc.array(other),
        (before, word, after) => {
          expect(preferred([...before, `return=${word}`, ...after].join(", "))).toBe(word);
          expect(preferred([...before, `Return="${word}"`, ...after].join("; "))).toBe(word);
          expect(preferred([...before, ...after].join(", "))).toBeNull();
        },
      ),
    );
  });

  it("any text prefers one of the two or nothing", () => {
    check(
      fc.property(headerValue(one("return=minimal", "return = representation")), (text) => {
        expect(["representation", "minimal", null]).toContain(preferred(text));
      }),
    );
  });
});

describe("who asks", () => {
  const token = fc.stringMatching(/^[!-~]{1,40}$/);

  it("the credential is the first that is not blank, as it came", () => {
    const value = fc.option(fc.oneof(token, blanks), { nil: undefined });
    check(
      fc.property(value, value, value, (agent, tandem, bearer) => {
        const headers = new Headers();
        if (agent !== undefined) headers.set("x-agent-token", agent);
        if (tandem !== undefined) headers.set("x-tandem-token", tandem);
        if (bearer !== undefined) headers.set("authorization", `Bearer ${bearer}`);
        const given = [agent, tandem, bearer].find((text) => (text ?? "").trim() !== "");
        expect(credentialOf(headers)).toBe(given?.trim() ?? null);
      }),
    );
  });

  it("any header holds a credential that is trimmed and not blank, or none", () => {
    check(
      fc.property(headerValue(one("Bearer x", "bearer  y z", "Basic eA==", "Bearer")), (text) => {
        const credential = credentialOf(new Headers({ authorization: text }));
        if (credential === null) return;
        expect(credential).toBe(credential.trim());
        expect(credential).not.toBe("");
        expect(text).toMatch(/^\s*[Bb]earer /);
      }),
    );
  });

  it("two secrets are the same exactly when they are equal", () => {
    check(
      fc.property(anyText, around(one("secret")), (a, b) => {
        expect(isSameSecret(a, b)).toBe(a === b);
        expect(isSameSecret(a, a)).toBe(true);
      }),
    );
  });

  it("a tenant that headers claim is one, or there are issues that name the header", () => {
    const value = fc.option(headerValue(one("acme", "w-1", "ann@example.com")), { nil: undefined });
    check(
      fc.property(value, value, value, (org, workspace, actor) => {
        const headers = new Headers();
        if (org !== undefined) headers.set("x-tenant-org-id", org);
        if (workspace !== undefined) headers.set("x-tandem-workspace-id", workspace);
        if (actor !== undefined) headers.set("x-user-id", actor);
        const claimed = claimedTenant(headers);
        const said = [org, workspace, actor].map((text) => text?.trim() || null);
        if (claimed === null) {
          expect(said).toEqual([null, null, null]);
          return;
        }
        expect([claimed.org_id, claimed.workspace_id, claimed.actor_id]).toEqual(said);
        const isGood =
          said.slice(0, 2).every((id) => id === null || isValidId(id)) &&
          (claimed.actor_id === null || isValidActor(claimed.actor_id));
        expect(issuesOfClaims(claimed).length === 0).toBe(isGood);
      }),
    );
  });

  it("an actor is visible ASCII, from 1 to 200 of it", () => {
    check(
      fc.property(around(fc.stringMatching(/^[!-~]{1,210}$/)), (text) => {
        const isVisible = [...text].every((char) => char > " " && char < "\u007f");
        expect(isValidActor(text)).toBe(isVisible && text.length >= 1 && text.length <= 200);
      }),
    );
  });
});

describe("where requests come from", () => {
  const network = (address: string) => networkOf(requestWith({ "cf-connecting-ip": address }));
  const group = fc.nat(0xffff).map((n) => n.toString(16));

  it("the addresses of one /64 are one network, however they are shortened; those of two are two", () => {
    const half = fc.array(fc.oneof(one("0"), group), { minLength: 4, maxLength: 4 });
    check(
      fc.property(half, half, half, (prefix, one, other) => {
        const shortened = (groups: string[]) =>
          new URL(`http://[${groups.join(":")}]/`).hostname.slice(1, -1);
        const expected = `${prefix.join(":")}::/64`;
        expect(network(shortened([...prefix, ...one]))).toBe(expected);
        expect(network([...prefix, ...other].join(":"))).toBe(expected);
      }),
    );
  });

  it("any text is a key", () => {
    check(
      fc.property(
        headerValue(
          one("2001:db8::1", "192.0.2.1", "::", "::ffff:192.0.2.1", "1:2:3:4:5:6:7:8", "1:2:3:4::5:6:7:8:9"),
        ),
        (text) => {
          expect(typeof network(text)).toBe("string");
        },
      ),
    );
  });
});

describe("pages that may read answers", () => {
  const origin = fc
    .tuple(one("http", "https"), fc.domain(), one("", ":8080"))
    .map(([scheme, host, port]) => `${scheme}://${host.toLowerCase()}${port}`);
  const separator = one(" ", ",", ", ", "\n", "  ,");
  const envOf = (text: string) => ({ CORS_ORIGINS: text }) as Env;

  it("are those of the origins that are listed, and no other", () => {
    check(
      fc.property(
        fc.array(origin, { maxLength: 3 }),
        separator,
        origin,
        fc.boolean(),
        (listed, between, asks, slash) => {
          const env = envOf(listed.map((text) => text + (slash ? "/" : "")).join(between));
          const allowed = corsHeaders(env, requestWith({ origin: asks }))["access-control-allow-origin"];
          expect(allowed).toBe(listed.includes(asks) ? asks : undefined);
          const preflight = preflightHeaders(env, requestWith({ origin: asks }));
          expect(Object.keys(preflight).length > 0).toBe(listed.includes(asks));
        },
      ),
    );
  });

  it("of any list, no page reads an answer whose origin is not in it word by word", () => {
    check(
      fc.property(
        around(one("https://a.example, https://b.example", "*")),
        headerValue(origin),
        (text, asks) => {
          const words = text.split(/[\s,]+/);
          const allowed = corsHeaders(envOf(text), requestWith({ origin: asks }))[
            "access-control-allow-origin"
          ];
          if (allowed === undefined) return;
          expect(
            allowed === "*" ? words.includes("*") : words.some((word) => word.replace(/\/$/, "") === allowed),
          ).toBe(true);
        },
      ),
    );
  });
});
