import fc from "fast-check";
import { Webhook } from "standardwebhooks";
import { describe, expect, it } from "vitest";
import { newSecret } from "../../../src/hooks/in/secrets.ts";
import { faultOfTarget, hostOf, MAX_URL_LENGTH } from "../../../src/hooks/out/egress.ts";
import { matchesPattern, wantsEvent } from "../../../src/hooks/out/event-filter.ts";
import { messageBody, messageId } from "../../../src/hooks/out/message.ts";
import {
  FAILING_TOO_LONG_MS,
  isFailingTooLong,
  judge,
  MAX_RETRY_AFTER_MS,
  MIN_FAILURES_TO_DISABLE,
  retryAfterMs,
  SCHEDULE_MS,
} from "../../../src/hooks/out/schedule.ts";
import { secretBytes, signatureHeaders, signedText } from "../../../src/hooks/out/signature.ts";
import { seqBefore } from "../../../src/hooks/out/start-seq.ts";

const NOW = Date.UTC(2026, 10, 23, 12, 0, 0);
const MINUTE = 60_000;
const HOUR = 60 * MINUTE;

describe("webhooks §5.3: the schedule", () => {
  it("is now, 5 s, 5 min, 30 min, 2 h, 5 h, 10 h, 14 h, 20 h, 24 h: a little over three days", () => {
    expect(SCHEDULE_MS.map((ms) => ms / 1_000)).toEqual([
      0, 5, 300, 1_800, 7_200, 18_000, 36_000, 50_400, 72_000, 86_400,
    ]);
    const days = SCHEDULE_MS.reduce((sum, ms) => sum + ms, 0) / (24 * HOUR);
    expect(days).toBeGreaterThan(3);
    expect(days).toBeLessThan(3.5);
  });

  it.each([
    [200, { kind: "delivered" }],
    [204, { kind: "delivered" }],
    [299, { kind: "delivered" }],
    [410, { kind: "gone" }],
    [301, { kind: "failed", waitMs: 5_000, pauseMs: 0 }],
    [304, { kind: "failed", waitMs: 5_000, pauseMs: 0 }],
    [400, { kind: "failed", waitMs: 5_000, pauseMs: 0 }],
    [404, { kind: "failed", waitMs: 5_000, pauseMs: 0 }],
    [500, { kind: "failed", waitMs: 5_000, pauseMs: 0 }],
    [null, { kind: "failed", waitMs: 5_000, pauseMs: 0 }],
    [429, { kind: "failed", waitMs: 30_000, pauseMs: 30_000 }],
    [502, { kind: "failed", waitMs: 30_000, pauseMs: 30_000 }],
    [503, { kind: "failed", waitMs: 30_000, pauseMs: 30_000 }],
    [504, { kind: "failed", waitMs: 30_000, pauseMs: 30_000 }],
  ])("a first answer %s comes to %o", (status, verdict) => {
    expect(judge({ status, retryAfter: null }, 1, NOW, 0)).toEqual(verdict);
  });

  it.each([
    [429, "120", 1, 120_000, 120_000],
    [503, "120", 1, 120_000, 120_000],
    // Never sooner than the schedule…
    [429, "1", 2, 5 * MINUTE, 1_000],
    [429, "0", 2, 5 * MINUTE, 0],
    // …and never later than a day.
    [429, "999999999", 1, MAX_RETRY_AFTER_MS, MAX_RETRY_AFTER_MS],
    // Only those that say that they are overloaded may ask.
    [500, "120", 1, 5_000, 0],
    // What cannot be read counts as not said.
    [429, "soon", 1, 30_000, 30_000],
  ])(
    "%s with Retry-After %s after attempt %s waits %s ms and pauses %s ms",
    (status, retryAfter, attempt, waitMs, pauseMs) => {
      expect(judge({ status, retryAfter }, attempt, NOW, 0)).toEqual({ kind: "failed", waitMs, pauseMs });
    },
  );

  it("waits by the schedule, lengthened by up to a fifth, and gives up after the last attempt", () => {
    fc.assert(
      fc.property(
        fc.integer({ min: 1, max: 12 }),
        fc.double({ min: 0, max: 1, maxExcluded: true, noNaN: true }),
        (attempt, chance) => {
          const verdict = judge({ status: 500, retryAfter: null }, attempt, NOW, chance);
          const scheduled = SCHEDULE_MS[attempt];
          if (scheduled === undefined) {
            expect(verdict).toEqual({ kind: "failed", waitMs: null, pauseMs: 0 });
            return;
          }
          if (verdict.kind !== "failed" || verdict.waitMs === null) throw new Error("not failed");
          expect(verdict.waitMs).toBeGreaterThanOrEqual(scheduled);
          expect(verdict.waitMs).toBeLessThanOrEqual(Math.ceil(scheduled * 1.2));
        },
      ),
    );
  });

  it.each([
    [null, null],
    ["", null],
    ["60", 60_000],
    [" 60 ", 60_000],
    ["-1", null],
    ["1.5", null],
    ["Mon, 23 Nov 2026 12:10:00 GMT", 10 * MINUTE],
    ["Monday, 23-Nov-26 12:10:00 GMT", 10 * MINUTE],
    ["Mon, 23 Nov 2026 11:00:00 GMT", 0],
    ["Fri, 31 Dec 9999 23:59:59 GMT", MAX_RETRY_AFTER_MS],
    ["2026", 2_026_000],
    ["2026-11-23", null],
    ["Mon, GMT", null],
  ])("reads Retry-After %j as %s ms", (value, ms) => {
    expect(retryAfterMs(value, NOW)).toBe(ms);
  });

  it.each([
    [null, 100, false],
    [NOW - FAILING_TOO_LONG_MS, MIN_FAILURES_TO_DISABLE, true],
    [NOW - FAILING_TOO_LONG_MS + 1, MIN_FAILURES_TO_DISABLE, false],
    [NOW - FAILING_TOO_LONG_MS, MIN_FAILURES_TO_DISABLE - 1, false],
  ])("failing since %s, %s times, disables: %s", (since, failures, isSo) => {
    expect(isFailingTooLong(since, failures, NOW)).toBe(isSo);
  });
});

describe("webhooks §5.3: where deliveries may go", () => {
  const outside = { ownHosts: ["baton.example.com"], anyTarget: false };

  it.each([
    "https://example.com/hook",
    "https://EXAMPLE.com/hook?x=1#y",
    "https://example.com:443/",
    "https://example.com:8443/",
    "https://hooks.example.co.uk",
    "https://xn--bcher-kva.example.org/",
    "https://bücher.example.org/",
    "https://1and1.com/",
    "https://10.example.com/",
  ])("takes %s", (url) => {
    expect(faultOfTarget(url, outside)).toBeNull();
  });

  it.each([
    ["http://example.com/", "https"],
    ["ftp://example.com/", "https"],
    ["javascript:alert(1)", "url"],
    ["data:text/plain,x", "url"],
    ["//example.com/", "url"],
    ["/hook", "url"],
    ["", "url"],
    ["https://", "url"],
    ["https://user@example.com/", "no_credentials"],
    ["https://user:pass@example.com/", "no_credentials"],
    ["https://:pass@example.com/", "no_credentials"],
    ["https://example.com:80/", "port"],
    ["https://example.com:22/", "port"],
    ["https://example.com:65536/", "url"],
    ["https://10.0.0.1/", "ip_literal"],
    ["https://8.8.8.8/", "ip_literal"],
    ["https://127.0.0.1./", "ip_literal"],
    ["https://127.1/", "ip_literal"],
    ["https://2130706433/", "ip_literal"],
    ["https://0x7f000001/", "ip_literal"],
    ["https://0x7f.0.0.1/", "ip_literal"],
    ["https://0177.0.0.1/", "ip_literal"],
    ["https://017700000001/", "ip_literal"],
    ["https://%31%32%37.0.0.1/", "ip_literal"],
    ["https://１２７.0.0.1/", "ip_literal"],
    ["https://127。0。0。1/", "ip_literal"],
    ["https://169.254.169.254/latest/meta-data", "ip_literal"],
    ["https://[::1]/", "ip_literal"],
    ["https://[::ffff:127.0.0.1]/", "ip_literal"],
    ["https://[fd00::1]:8443/", "ip_literal"],
    ["https://256.256.256.256/", "url"],
    ["https://1.2.3.4.5/", "url"],
    ["https://localhost/", "private_host"],
    ["https://LOCALHOST./", "private_host"],
    ["https://app.localhost/", "private_host"],
    ["https://intranet/", "private_host"],
    ["https://printer.local/", "private_host"],
    ["https://metadata.google.internal/", "private_host"],
    ["https://router.home.arpa/", "private_host"],
    ["https://1.0.0.127.in-addr.arpa/", "private_host"],
    ["https://nas.lan./", "private_host"],
    ["https://x.onion/", "private_host"],
    ["https://localhost../", "private_host"],
    ["https://x.internal.../", "private_host"],
    ["https://baton.example.com../", "private_host"],
    ["https://hooks..example.org/", "private_host"],
    ["https://.example.org/", "private_host"],
    ["https://baton.example.com/hooks/x", "own_host"],
    ["https://BATON.example.com.:8443/", "own_host"],
    [`https://example.com/${"x".repeat(MAX_URL_LENGTH)}`, "max_length"],
  ])("refuses %s: %s", (url, rule) => {
    expect(faultOfTarget(url, outside)?.rule).toBe(rule);
  });

  it.each([
    ["http://127.0.0.1:9000/", null],
    ["http://[::1]:9000/", null],
    ["https://localhost/", null],
    ["http://user@127.0.0.1/", "no_credentials"],
    ["ftp://127.0.0.1/", "https"],
    ["nonsense", "url"],
  ])("where any target will do, %s gives %s", (url, rule) => {
    expect(faultOfTarget(url, { ownHosts: [], anyTarget: true })?.rule ?? null).toBe(rule);
  });

  it("throws at no text, and never takes a host that is a number or an address", () => {
    fc.assert(
      fc.property(fc.oneof(fc.string(), fc.webUrl(), fc.ipV4(), fc.ipV6()), (text) => {
        for (const url of [text, `https://${text}/`, `https://[${text}]/`]) {
          if (faultOfTarget(url, outside) !== null) continue;
          expect(new URL(url).hostname).toMatch(/^(?=.*[a-z])[^[\]]+\.[^.]+\.?$/);
        }
      }),
    );
  });

  it("tells hosts apart from what is none", () => {
    expect(hostOf("https://Baton.Example.com.:8443/x")).toBe("baton.example.com");
    expect(hostOf("nonsense")).toBeNull();
  });
});

describe("webhooks §5.3: which events are wanted", () => {
  it.each([
    ["*", "anything", true],
    ["*", "", true],
    ["note", "note", true],
    ["note", "Note", false],
    ["note", "notes", false],
    ["", "note", false],
    ["context.task.*", "context.task.completed", true],
    ["context.task.*", "context.task.", true],
    ["context.task.*", "context.taskx", false],
    ["*.completed", "context.task.completed", true],
    ["*.completed", "completed", false],
    ["a*b*c", "a..b..b..c", true],
    ["a*b*c", "a..c..b", false],
    ["**", "x", true],
    [".*", "xx", false],
    ["[a-z]", "a", false],
    ["?", "a", false],
  ])("pattern %j and type %j: %s", (pattern, type, isSo) => {
    expect(matchesPattern(pattern, type)).toBe(isSo);
  });

  it("agrees with the same pattern as a regular expression", () => {
    const letters = fc.string({ unit: fc.constantFrom("a", "b", "*", "."), maxLength: 8 });
    const text = fc.string({ unit: fc.constantFrom("a", "b", "."), maxLength: 12 });
    fc.assert(
      fc.property(letters, text, (pattern, type) => {
        const source = pattern.replaceAll(".", "\\.").replaceAll("*", ".*");
        expect(matchesPattern(pattern, type)).toBe(new RegExp(`^${source}$`).test(type));
      }),
    );
  });

  it("takes few steps where a regular expression would take years", () => {
    expect(matchesPattern("*a".repeat(100), "a".repeat(1_000))).toBe(true);
    expect(matchesPattern(`${"*a".repeat(99)}b`, "a".repeat(1_000))).toBe(false);
  });

  it("asks for the run's status after the event, if at all", () => {
    const event = { type: "note", run_status: "completed" } as const;
    expect(wantsEvent({ events: ["*"], status: [] }, event)).toBe(true);
    expect(wantsEvent({ events: ["*"], status: ["failed", "completed"] }, event)).toBe(true);
    expect(wantsEvent({ events: ["*"], status: ["failed"] }, event)).toBe(false);
    expect(wantsEvent({ events: ["x", "y"], status: [] }, event)).toBe(false);
  });
});

describe("webhooks §5.3: signatures", () => {
  it("are what the standardwebhooks library verifies, whatever the body, by each of the secrets", async () => {
    await fc.assert(
      fc.asyncProperty(fc.string({ unit: "binary" }), async (text) => {
        const body = JSON.stringify({ text, crlf: "\r\n" });
        const secrets = [newSecret(), newSecret()];
        const message = { id: "msg_1", sentAtMs: Date.now(), body };
        const headers = await signatureHeaders(message, secrets);
        for (const secret of secrets) {
          expect(new Webhook(secret).verify(body, headers)).toEqual(JSON.parse(body));
          expect(() => new Webhook(secret).verify(`${body} `, headers)).toThrow("No matching signature");
        }
        expect(() => new Webhook(newSecret()).verify(body, headers)).toThrow("No matching signature");
      }),
      { numRuns: 20 },
    );
  });

  it("sign id, seconds and body, as the specification's vector has it", async () => {
    const secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
    const message = {
      id: "msg_p5jXN8AQM9LWM0D4loKWxJek",
      sentAtMs: 1_614_265_330_999,
      body: '{"test": 2432232314}',
    };
    expect(signedText(message)).toBe('msg_p5jXN8AQM9LWM0D4loKWxJek.1614265330.{"test": 2432232314}');
    expect(await signatureHeaders(message, [secret])).toEqual({
      "webhook-id": "msg_p5jXN8AQM9LWM0D4loKWxJek",
      "webhook-timestamp": "1614265330",
      "webhook-signature": "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=",
    });
  });

  it.each([
    ["whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", 24],
    [`whsec_${btoa("x".repeat(64))}`, 64],
    [`whsec_${btoa("x".repeat(65))}`, null],
    [`whsec_${btoa("x".repeat(23))}`, null],
    ["MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", null],
    ["whsec_", null],
    ["whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaS", null],
    ["whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaL-Sw", null],
    ["whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLa=w", null],
  ])("takes %j as a secret of %s bytes", (secret, length) => {
    expect(secretBytes(secret)?.length ?? null).toBe(length);
  });
});

describe("webhooks §5.3: messages", () => {
  const event = {
    event_id: "evt-1",
    run_id: "r",
    seq: 7,
    ts_ms: NOW,
    type: "context.task.completed",
    status: "running",
    run_status: "running",
    revision: 8,
    task_id: "t",
    payload: { secret: "of the run" },
  } as const;
  const subscription = { subscription_id: "sub_1", origin: "https://baton.example.com" };

  it("hold ids and links, and the record only where the whole of it was asked for", () => {
    const thin = JSON.parse(messageBody({ ...subscription, data: "thin" }, event)) as { data: object };
    expect(thin).toEqual({
      type: "context.task.completed",
      timestamp: "2026-11-23T12:00:00.000Z",
      data: {
        subscription_id: "sub_1",
        run_id: "r",
        seq: 7,
        event_id: "evt-1",
        status: "running",
        run_status: "running",
        revision: 8,
        task_id: "t",
        links: {
          run: "https://baton.example.com/v1/runs/r",
          event: "https://baton.example.com/v1/runs/r/events?since_seq=6&limit=1",
        },
      },
    });
    const full = JSON.parse(messageBody({ ...subscription, data: "full" }, event)) as unknown;
    expect(full).toEqual({ ...thin, data: { ...thin.data, event } });
  });

  it("have one id per subscription, run and seq, whenever they are sent", () => {
    const ids = [
      messageId("sub_1", "r", 1),
      messageId("sub_1", "r", 2),
      messageId("sub_1", "s", 1),
      messageId("sub_2", "r", 1),
    ];
    expect(new Set(ids).size).toBe(4);
    expect(messageId("sub_1", "r", 1)).toBe(ids[0]);
    expect(ids[0]).toMatch(/^msg_[0-9a-f]{32}$/);
  });
});

describe("webhooks out: where in a run a subscription begins", () => {
  it("before the first event at or after the moment, asking little", async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.array(fc.nat(20), { maxLength: 200 }),
        fc.integer({ min: -1, max: 21 }),
        async (unsorted, sinceMs) => {
          const times = unsorted.toSorted((a, b) => a - b);
          let asked = 0;
          const before = await seqBefore(sinceMs, times.length, async (seq) => {
            asked += 1;
            const time = times[seq - 1];
            if (time === undefined) throw new Error(`there is no seq ${seq}`);
            return time;
          });
          expect(before).toBe(times.filter((time) => time < sinceMs).length);
          expect(asked).toBeLessThanOrEqual(2 * Math.ceil(Math.log2(times.length + 1)) + 2);
        },
      ),
    );
  });
});
