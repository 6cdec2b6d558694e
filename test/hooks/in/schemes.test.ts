import { createHmac } from "node:crypto";
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { Received } from "../../../src/hooks/in/received.ts";
import type { Checks } from "../../../src/hooks/in/scheme.ts";
import { about, canBeSecret, verify } from "../../../src/hooks/in/schemes/schemes.ts";
import type { SchemeConfig } from "../../../src/protocol/hooks.ts";
import { linearSender, SENDERS, type Sender } from "./support/senders.ts";

const NOW = 1_800_000_000_000;

const checks = (nowMs: number, hasCredential = false): Checks => ({
  nowMs,
  hasCredential: async () => hasCredential,
});

function received(headers: HeadersInit, body: string | Uint8Array): Received {
  return new Received(new Headers(headers), typeof body === "string" ? new TextEncoder().encode(body) : body);
}

/** What the scheme says of a delivery that was signed at `atMs` and comes now. */
async function verdict(
  sender: Sender,
  change: {
    active?: string[];
    atMs?: number;
    body?: string;
    arriving?: string | Uint8Array;
    headers?: (signed: Record<string, string>) => HeadersInit;
  } = {},
) {
  const { active = [sender.secrets[0]], atMs = NOW, body = sender.body(atMs) } = change;
  const signed = await sender.sign(sender.secrets[0], body, atMs);
  const headers = change.headers?.(signed) ?? signed;
  return verify(sender.scheme, active, received(headers, change.arriving ?? body), checks(NOW));
}

describe.each(SENDERS)("docs/webhooks-in.md: $name", (sender) => {
  const [secret, other] = sender.secrets;
  // Linear's time is in the body, so that only bodies that say it pass.
  const isTimed = sender.scheme !== linearSender.scheme;

  it("what the provider's own code has signed is believed", async () => {
    expect(await verdict(sender)).toBeNull();
  });

  it("with any of several active secrets", async () => {
    expect(await verdict(sender, { active: [other, secret] })).toBeNull();
    expect(await verdict(sender, { active: [secret, other] })).toBeNull();
  });

  it("not with another secret, and not without any", async () => {
    expect(await verdict(sender, { active: [other] })).toBe("signature_mismatch");
    expect(await verdict(sender, { active: [] })).toBe("secret_missing");
  });

  it("not with any byte of the body altered, missing or added", async () => {
    const body = sender.body(NOW);
    const bytes = new TextEncoder().encode(body);
    for (let index = 0; index < bytes.length; index += 1) {
      const altered = bytes.slice();
      altered[index] = (altered[index] ?? 0) ^ 1;
      expect(await verdict(sender, { arriving: altered })).toBe("signature_mismatch");
    }
    expect(await verdict(sender, { arriving: body.slice(0, -1) })).toBe("signature_mismatch");
    expect(await verdict(sender, { arriving: `${body}\n` })).toBe("signature_mismatch");
    expect(await verdict(sender, { arriving: "" })).toBe("signature_mismatch");
  });

  it.each(sender.needed)("not without the header %s, nor with a blank one", async (name) => {
    const without = (signed: Record<string, string>) =>
      Object.fromEntries(Object.entries(signed).filter(([header]) => header !== name));
    const failures = ["header_missing"];
    expect(failures).toContain(await verdict(sender, { headers: without }));
    expect(failures).toContain(await verdict(sender, { headers: (signed) => ({ ...signed, [name]: " " }) }));
  });

  it.each(sender.needed)("not with the header %s twice, even when both are the same", async (name) => {
    const twice = (signed: Record<string, string>) => [
      ...Object.entries(signed),
      [name, signed[name] ?? ""] as [string, string],
    ];
    expect(await verdict(sender, { headers: twice })).toBe("header_duplicated");
  });

  it.each([
    "x",
    "v1",
    "v1,",
    "v1,%",
    "sha256=",
    "sha256=zz",
    "v0=00",
    "t=1,v1=",
    "0".repeat(63),

    "=".repeat(5000),
  ])("not with the proof %s", async (value) => {
    const failure = await verdict(sender, { headers: (signed) => ({ ...signed, [sender.proof]: value }) });
    expect(["header_malformed", "header_duplicated", "signature_mismatch"]).toContain(failure);
  });

  it.each(isTimed ? ["", "Zoë 🦊 — 日本", "a\r\nb\r\n", "\u0000", "  {} \n"] : [])(
    "the body %j is signed byte for byte",
    async (body) => {
      expect(await verdict(sender, { body })).toBeNull();
      expect(await verdict(sender, { body, arriving: `${body} ` })).toBe("signature_mismatch");
    },
  );

  it("bytes that are not UTF-8 are no other text", async () => {
    const arriving = new Uint8Array([0xff, 0xfe, 0x00]);
    expect(await verdict(sender, { body: "\ufffd\ufffd\u0000", arriving })).toBe("signature_mismatch");
  });

  if (sender.toleranceMs !== null) {
    const tolerance = sender.toleranceMs;
    it.each([
      [0, null],
      [-tolerance, null],
      [tolerance, null],
      [-tolerance - 1000, "timestamp_stale"],
      [tolerance + 1000, "timestamp_future"],
      [-NOW + 1000, "timestamp_stale"],
    ])("signed %d ms from now: %s", async (offset, failure) => {
      expect(await verdict(sender, { atMs: NOW + offset })).toBe(failure);
    });

    it("an altered time is no signature at all", async () => {
      const headers = (signed: Record<string, string>) =>
        Object.fromEntries(
          Object.entries(signed).map(([name, value]) => [name, value.replaceAll("1800000000", "1800000001")]),
        );
      const arriving = sender.body(NOW).replaceAll("1800000000", "1800000001");
      expect(await verdict(sender, { headers, arriving })).toBe("signature_mismatch");
    });
  }
});

describe("docs/webhooks-in.md: published vectors", () => {
  const vectors: [string, SchemeConfig, string, Record<string, string>, string, number][] = [
    [
      "Standard Webhooks, the reference libraries' test",
      { kind: "standard" },
      "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
      {
        "webhook-id": "msg_p5jXN8AQM9LWM0D4loKWxJek",
        "webhook-timestamp": "1614265330",
        "webhook-signature": "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=",
      },
      `{"test": 2432232314}`,
      1_614_265_330_000,
    ],
    [
      "GitHub, Validating webhook deliveries",
      { kind: "github" },
      "It's a Secret to Everybody",
      { "x-hub-signature-256": "sha256=757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17" },
      "Hello, World!",
      NOW,
    ],
    [
      "Slack, Verifying requests from Slack",
      { kind: "slack" },
      "8f742231b10e8888abcd99yyyzzz85a5",
      {
        "x-slack-signature": "v0=a2114d57b48eac39b9ad189dd8316235a7b4a8d21a10bd27519666489c69b503",
        "x-slack-request-timestamp": "1531420618",
      },
      "token=xyzz0WbapA4vBCDEFasx0q6G&team_id=T1DC2JH3J&team_domain=testteamnow&channel_id=G8PSS9T3V&channel_name=foobar&user_id=U2CERLKJA&user_name=roadrunner&command=%2Fwebhook-collect&text=&response_url=https%3A%2F%2Fhooks.slack.com%2Fcommands%2FT1DC2JH3J%2F397700885554%2F96rGlfmibIGlgcZRskXaIFfN&trigger_id=398738663015.47445629121.803a0bc887a14d10d2c447fce8b6703c",
      1_531_420_618_000,
    ],
  ];
  it.each(vectors)("%s", async (_name, scheme, secret, headers, body, nowMs) => {
    expect(await verify(scheme, [secret], received(headers, body), checks(nowMs))).toBeNull();
  });
});

describe("docs/webhooks-in.md: what the schemes have of their own", () => {
  const standard = SENDERS[0] as Sender;

  it("standard: one good signature among several will do; other versions count for nothing", async () => {
    const listed = (before: string, after: string) => (signed: Record<string, string>) => ({
      ...signed,
      [standard.proof]: `${before}${signed[standard.proof]}${after}`,
    });
    const wrong = `v1,${btoa("0".repeat(32))}`;
    expect(await verdict(standard, { headers: listed(`${wrong} v9,x `, ` ${wrong}`) })).toBeNull();
    const relabelled = (signed: Record<string, string>) => ({
      ...signed,
      [standard.proof]: (signed[standard.proof] ?? "").replace("v1,", "v1a,"),
    });
    expect(await verdict(standard, { headers: relabelled })).toBe("signature_mismatch");
  });

  it("standard: v1a is Ed25519, with a public key as the secret, beside symmetric ones", async () => {
    const { publicKey, privateKey } = (await crypto.subtle.generateKey("Ed25519", true, [
      "sign",
      "verify",
    ])) as CryptoKeyPair;
    const raw = new Uint8Array((await crypto.subtle.exportKey("raw", publicKey)) as ArrayBuffer);
    const secret = `whpk_${btoa(String.fromCharCode(...raw))}`;
    const content = new TextEncoder().encode(`m1.${NOW / 1000}.{}`);
    const made = new Uint8Array(await crypto.subtle.sign("Ed25519", privateKey, content));
    const headers = {
      "webhook-id": "m1",
      "webhook-timestamp": String(NOW / 1000),
      "webhook-signature": `v1,AAAA v1a,${btoa(String.fromCharCode(...made))}`,
    };
    const active = [standard.secrets[0], secret];
    expect(canBeSecret({ kind: "standard" }, secret)).toBe(true);
    expect(await verify({ kind: "standard" }, active, received(headers, "{}"), checks(NOW))).toBeNull();
    expect(await verify({ kind: "standard" }, active, received(headers, "{ }"), checks(NOW))).toBe(
      "signature_mismatch",
    );
    for (const length of [1, 63, 65]) {
      const signature = `v1a,${btoa("x".repeat(length))}`;
      const forged = received({ ...headers, "webhook-signature": signature }, "{}");
      expect(await verify({ kind: "standard" }, active, forged, checks(NOW))).toBe("signature_mismatch");
    }
  });

  it("standard: a secret says by its prefix what it is, so that no public key is taken for a secret", () => {
    const bare = btoa("x".repeat(32));
    const of = (secret: string) => canBeSecret({ kind: "standard" }, secret);
    expect([of(`whsec_${bare}`), of(`whpk_${bare}`), of(bare)]).toEqual([true, true, false]);
  });

  it("shared secret: is none that a header cannot bring", () => {
    const scheme: SchemeConfig = { kind: "shared_secret", header: "x-token", prefix: "" };
    const secrets = [
      "a b-c.d~e!f=g/h+i",
      "a,bbbbbbbbbbbbbbb",
      " aaaaaaaaaaaaaaaa",
      "aaaaaaaaaaaaaaaa ",
      "ä".repeat(16),
    ];
    expect(secrets.map((secret) => canBeSecret(scheme, secret))).toEqual([true, false, false, false, false]);
  });

  it("stripe: one good v1 among several will do; v0 counts for nothing", async () => {
    const stripe = SENDERS.find(({ name }) => name === "stripe") as Sender;
    const changed = (change: (value: string) => string) => (signed: Record<string, string>) => ({
      "stripe-signature": change(signed["stripe-signature"] ?? ""),
    });
    const wrong = "0".repeat(64);
    const two = changed((value) => value.replace(",v1=", `,v1=${wrong},v1=`));
    expect(await verdict(stripe, { headers: two })).toBeNull();
    const old = changed((value) => value.replace(",v1=", `,v1=${wrong},v0=`));
    expect(await verdict(stripe, { headers: old })).toBe("signature_mismatch");
  });

  it("hmac: a literal part of what is signed is that text, also where every object has a member of its name", async () => {
    const [secret, body] = ["a secret of the tests", "x"];
    for (const literal of ["constructor", "__proto__"]) {
      const proof = createHmac("sha256", secret)
        .update(literal + body)
        .digest("hex");
      const scheme: SchemeConfig = {
        ...{ kind: "hmac", header: "x-sig", prefix: "", encoding: "hex", algorithm: "sha256" },
        ...{ signed: `${literal}{body}`, secret_encoding: "utf8", timestamp_unit: "s" },
      };
      expect(await verify(scheme, [secret], received({ "x-sig": proof }, body), checks(NOW))).toBeNull();
    }
  });

  it("linear: a body that does not say when it was sent is not believed", async () => {
    expect(await verdict(linearSender, { body: `{"type":"Issue"}` })).toBe("timestamp_missing");
    expect(await verdict(linearSender, { body: "no JSON" })).toBe("timestamp_missing");
  });

  it("shared secret: the header has one of the secrets behind its prefix", async () => {
    const scheme: SchemeConfig = { kind: "shared_secret", header: "x-token", prefix: "Secret " };
    const of = (headers: HeadersInit) =>
      verify(scheme, ["secret-number-one", "secret-number-two"], received(headers, "x"), checks(NOW));
    expect(await of({ "x-token": "Secret secret-number-two" })).toBeNull();
    expect(await of({ "x-token": "Secret secret-number-twO" })).toBe("credential_wrong");
    expect(await of({ "x-token": "secret-number-two" })).toBe("header_malformed");
    expect(await of({})).toBe("header_missing");
    expect(
      await of([
        ["x-token", "Secret secret-number-two"],
        ["x-token", "Secret secret-number-two"],
      ]),
    ).toBe("header_duplicated");
  });

  it("bearer: the request's own credential decides", async () => {
    const of = (has: boolean) => verify({ kind: "bearer" }, [], received({}, "x"), checks(NOW, has));
    expect([await of(true), await of(false)]).toEqual([null, "credential_wrong"]);
  });
});

describe("docs/webhooks-in.md: whatever comes, schemes answer and do not fail", () => {
  const names = [...new Set(SENDERS.flatMap(({ needed }) => needed)), "content-type", "x-github-event"];
  const texts = fc.oneof(
    fc.string({ unit: fc.constantFrom(..."v01a,=t. shex256+/%") }),
    fc.constantFrom("1800000000", "v1,", "sha256=", "application/x-www-form-urlencoded", "0".repeat(64)),
  );
  const headers = fc.array(fc.tuple(fc.constantFrom(...names), texts), { maxLength: 8 });
  const bodies = fc.oneof(fc.json(), fc.string(), fc.constant("payload=%7B&payload=1&__proto__=2"));

  it("any headers over any body", async () => {
    await fc.assert(
      fc.asyncProperty(fc.constantFrom(...SENDERS), headers, bodies, async (sender, listed, body) => {
        const came = received(listed, body);
        expect(await verify(sender.scheme, [...sender.secrets], came, checks(NOW))).not.toBeNull();
        const { key, event } = about(sender.scheme, came);
        for (const said of [key, event]) expect(said === null || typeof said === "string").toBe(true);
      }),
      { numRuns: 1_000 },
    );
  });
});

describe("docs/webhooks-in.md: what deliveries say about themselves", () => {
  const form = { "content-type": "application/x-www-form-urlencoded" };
  const said: [string, SchemeConfig, Record<string, string>, string, unknown][] = [
    ["standard", { kind: "standard" }, { "webhook-id": "m" }, `{"type":"a.b"}`, ["m", "a.b", null]],
    ["svix", { kind: "standard" }, { "svix-id": "m" }, "[]", ["m", null, null]],
    [
      "github",
      { kind: "github" },
      { "x-github-delivery": "g", "x-github-event": "push" },
      "",
      ["g", "push", null],
    ],
    ["github without an id", { kind: "github" }, { "x-github-event": "push" }, "", [null, "push", null]],
    [
      "github's ping",
      { kind: "github" },
      { "x-github-delivery": "g", "x-github-event": "ping" },
      "",
      ["g", "ping", { kind: "ping" }],
    ],
    [
      "slack's event",
      { kind: "slack" },
      {},
      `{"type":"event_callback","event_id":"Ev1","event":{"type":"app_mention"}}`,
      ["Ev1", "app_mention", null],
    ],
    [
      "slack's challenge",
      { kind: "slack" },
      {},
      `{"type":"url_verification","challenge":"3eZb"}`,
      [null, "url_verification", { kind: "challenge", challenge: "3eZb" }],
    ],
    [
      "slack's command",
      { kind: "slack" },
      form,
      "command=%2Fx&text=a+b&trigger_id=7.8",
      ["7.8", "slash_command", null],
    ],
    [
      "slack's interactivity",
      { kind: "slack" },
      form,
      `payload=${encodeURIComponent(`{"type":"block_actions","trigger_id":"9"}`)}`,
      ["9", "block_actions", null],
    ],
    [
      "stripe",
      { kind: "stripe" },
      {},
      `{"id":"evt_1","type":"charge.failed"}`,
      ["evt_1", "charge.failed", null],
    ],
    ["stripe without JSON", { kind: "stripe" }, {}, "x", [null, null, null]],
    [
      "linear",
      { kind: "linear" },
      { "linear-delivery": "l", "linear-event": "Comment" },
      `{"type":"Issue"}`,
      ["l", "Comment", null],
    ],
    [
      "bearer",
      { kind: "bearer", event_pointer: "/e" },
      { "idempotency-key": "k" },
      `{"e":"x"}`,
      ["k", "x", null],
    ],
    [
      "pointers",
      { kind: "shared_secret", header: "x", prefix: "", id_pointer: "/a/1/b", event_pointer: "/__proto__/x" },
      {},
      `{"a":[0,{"b":17}]}`,
      ["17", null, null],
    ],
    [
      "ids that are none",
      { kind: "shared_secret", header: "x", prefix: "", id_pointer: "/a", event_pointer: "/b" },
      {},
      JSON.stringify({ a: "x".repeat(256), b: { c: 1 } }),
      [null, null, null],
    ],
  ];
  it.each(said)("%s", (_name, scheme, headers, body, expected) => {
    const { key, event, handshake } = about(scheme, received(headers, body));
    expect([key, event, handshake]).toEqual(expected);
  });
});

describe("ids that are numbers", () => {
  const scheme: SchemeConfig = { kind: "shared_secret", header: "x-token", prefix: "", id_pointer: "/id" };
  const keyOf = (id: string) => about(scheme, received({}, `{"id":${id}}`)).key;

  it("are taken where JSON reads them exactly: others would make one delivery of several", () => {
    expect(["7", "-7", "0", "9007199254740991"].map(keyOf)).toEqual(["7", "-7", "0", "9007199254740991"]);
    for (const id of ["12345678901234567890", "12345678901234567891", "1e400", "0.1", "9007199254740993"]) {
      expect(keyOf(id), id).toBeNull();
    }
  });
});

describe("pointers into a list", () => {
  it("lead to its elements, and not to its length: deliveries with as many elements would be taken for one", () => {
    const scheme: SchemeConfig = {
      kind: "shared_secret",
      header: "x-token",
      prefix: "",
      id_pointer: "/a/length",
    };
    expect(about(scheme, received({}, `{"a":["x","y"]}`)).key).toBeNull();
    expect(about({ ...scheme, id_pointer: "/a/1" }, received({}, `{"a":["x","y"]}`)).key).toBe("y");
  });
});

describe("forms", () => {
  const form = (body: string) =>
    received({ "content-type": "application/x-www-form-urlencoded" }, body).payload();

  it("are read in time that grows with their length only", () => {
    const names = Array.from({ length: 200_000 }, (_, n) => `k${n}=${n}`);
    const read = form(names.join("&"));
    expect(read).toMatchObject({ ok: true, value: { k0: "0", k199999: "199999" } });
  });

  it("give a field that stands there several times as a list; what has two payloads wraps none", () => {
    expect(form("a=1&b=2&a=3&__proto__=4")).toEqual({
      ok: true,
      value: Object.fromEntries([
        ["a", ["1", "3"]],
        ["b", "2"],
        ["__proto__", "4"],
      ]),
    });
    expect(form("payload=1&payload=2")).toEqual({ ok: true, value: { payload: ["1", "2"] } });
    expect(form("payload=%7B%22a%22%3A1%7D&b=2")).toEqual({ ok: true, value: { a: 1 } });
    expect(form("payload=no")).toEqual({ ok: true, value: { payload: "no" } });
  });
});
