import { describe, expect, it } from "vitest";
import { planFromObjective } from "../../src/domain/plan.ts";
import { normalisePath } from "../../src/domain/workspace.ts";
import { Received } from "../../src/hooks/in/received.ts";
import { fromBase64, fromHex } from "../../src/hooks/in/signature.ts";
import { retryAfterMs } from "../../src/hooks/out/schedule.ts";
import { secretBytes } from "../../src/hooks/out/signature.ts";
import { Call } from "../../src/http/call.ts";
import { declaredType } from "../../src/http/content-headers.ts";
import { readCursor } from "../../src/http/pages.ts";
import { pathIds } from "../../src/http/path-ids.ts";
import { RequestRefused } from "../../src/http/problem.ts";
import { networkOf } from "../../src/http/rate.ts";
import { findRoute } from "../../src/http/router.ts";
import { safeContentType } from "../../src/http/safe-content.ts";
import { pathOf, targetOf } from "../../src/http/target.ts";
import { credentialOf } from "../../src/identity/credential.ts";
import { looksLikeToken } from "../../src/identity/minted-tokens.ts";
import { isValidActor } from "../../src/protocol/actor.ts";
import { issueForArtifactPath } from "../../src/protocol/artifact-path.ts";
import { readByteRange } from "../../src/protocol/byte-range.ts";
import { readDigestHeader } from "../../src/protocol/content-digest.ts";
import { readEntityTags } from "../../src/protocol/entity-tags.ts";
import { parseIJson } from "../../src/protocol/i-json.ts";
import { readIdempotencyKey } from "../../src/protocol/idempotency-key.ts";
import { issueForId } from "../../src/protocol/ids.ts";
import { readIfMatch } from "../../src/protocol/if-match.ts";
import { parseMappingPath } from "../../src/protocol/mapping-path.ts";
import { parseTemplate } from "../../src/protocol/mapping-template.ts";
import { readQuery } from "../../src/protocol/query.ts";
import { faultOfResourceName } from "../../src/protocol/resource-name.ts";
import { readFeedCursor, readLogCursor, readSeenCursor } from "../../src/protocol/stream-cursor.ts";
import { outcomeOf } from "./support/check.ts";

/**
 * What texts are made of that keep a reader going back: a beginning that fits, a piece many times, and an end that fits nothing.
 * So long, work that grows with the length takes some milliseconds, and all that grows with its square takes minutes for the
 * texts below: the test then ends with its time, without a look at any clock.
 */
const LENGTH = 600_000;
const PIECES = [" ", "/", "a", "0", "=", ",", '"', "\\", '\\"', "[", "{{", '"a",'];
const ENDS = ["", "\u0000x"];

const headers = (name: string, value: string) => ({
  headers: { get: (key: string) => (key === name ? value : null) },
});
const requestWith = (name: string, value: string) => headers(name, value) as unknown as Request;

/** Everything that reads a text from outside, with how texts begin that get far in it. */
const READERS: Record<string, [beginnings: string[], read: (text: string) => unknown]> = {
  asBase64: [["QUJD"], fromBase64],
  asContentType: [["text/plain;", "text/"], (text) => declaredType("Content-Type", text)],
  asCredential: [["Bearer "], (text) => credentialOf(requestWith("authorization", text).headers)],
  asCursor: [["eyJ"], (text) => readCursor(text, (value): value is unknown => value !== null)],
  asDigest: [["sha-256=:", "sha-256=:QQ==:;"], (text) => readDigestHeader("Content-Digest", text)],
  asEntityTags: [['"', 'W/"'], (text) => readEntityTags("If-Match", text)],
  asFeedCursor: [["0123abcd:1b1-e1-"], readFeedCursor],
  asForm: [
    ["payload=", "a&a="],
    (text) => {
      const type = new Headers({ "content-type": "application/x-www-form-urlencoded" });
      return new Received(type, new TextEncoder().encode(text)).payload();
    },
  ],
  asHex: [["00"], fromHex],
  asId: [["a"], (text) => issueForId("id", text)],
  asIdempotencyKey: [['"', '"a";'], readIdempotencyKey],
  asIfMatch: [['"1'], readIfMatch],
  asJson: [["[", '{"a":', '"', "1"], parseIJson],
  asLogCursor: [["1"], readLogCursor],
  asMappingPath: [["a", '["', "$body."], parseMappingPath],
  asNetwork: [["::", "1:"], (text) => networkOf(requestWith("cf-connecting-ip", text))],
  asObjective: [["- "], planFromObjective],
  asPath: [["/", "a/"], normalisePath],
  asPathId: [["a"], (text) => pathIds({ run_id: text })],
  asPreference: [
    ["return", "return =", "respond-async, return"],
    (text) => new Call({ request: requestWith("prefer", text) } as never).preferredReturn(),
  ],
  asQuery: [["limit="], (text) => readQuery(new URLSearchParams(text), { limit: "uint" })],
  asRange: [["bytes=", "bytes=1-"], (text) => readByteRange(text, 10)],
  asResourceName: [["a/"], faultOfResourceName],
  asRetryAfter: [["Mon, ", "1"], (text) => retryAfterMs(text, 0)],
  asRoute: [["/v1/runs/", "/v1/runs/r/artifacts/", "/"], (text) => findRoute("GET", text)],
  asSafeType: [["text/plain;", "text/plain; charset"], safeContentType],
  asSecret: [["whsec_"], secretBytes],
  asSeen: [["eyJ"], readSeenCursor],
  asTarget: [["http://", "http"], (text) => pathOf(targetOf(text))],
  asTemplate: [["{{ a", "{{ a | default(", "{{"], parseTemplate],
  asToken: [["a.b.", "a."], looksLikeToken],
  asActor: [["a"], isValidActor],
  asArtifactPath: [["a/"], (text) => issueForArtifactPath("path", text)],
};

/** Refusing a text is as good as reading it. */
function refusedOrRead(read: (text: string) => unknown, text: string): void {
  const outcome = outcomeOf(() => read(text));
  if ("error" in outcome) expect(outcome.error).toBeInstanceOf(RequestRefused);
}

describe("the work of reading a text grows with its length only", () => {
  it.each(Object.entries(READERS))("%s", (_, [beginnings, read]) => {
    for (const beginning of ["", ...beginnings]) {
      for (const piece of PIECES) {
        for (const end of ENDS) refusedOrRead(read, beginning + piece.repeat(LENGTH / piece.length) + end);
      }
    }
  });
});
