import * as z from "zod/mini";
import { issueForId } from "./ids.ts";
import { lazy } from "./lazy.ts";
import { MAX_PATH_LENGTH } from "./limits.ts";
import { maxLength, minLength, recordOf } from "./schema.ts";
import { SCOPES } from "./scope.ts";

/** Issuers that one deployment may trust. */
const MAX_ISSUERS = 10;

const word = z.string().check(minLength(1), maxLength(1_000));
const words = z.array(word).check(minLength(1), maxLength(100));
/** A claim by its name, or by the names on the way to it where it lies in others. */
const claim = z.union([word, words]);

const rule = (holds: (text: string) => boolean, name: string, message: string) =>
  z.refine<string>(holds, { error: message, params: { rule: name } });

const url = z.string().check(
  maxLength(MAX_PATH_LENGTH),
  rule(
    (text) => URL.canParse(text) && new URL(text).protocol === "https:",
    "https_url",
    "must be an https URL",
  ),
);
const header = word.check(
  rule((text) => /^[a-z0-9-]{1,100}$/.test(text), "header_name", "must be a header's name in lower case"),
);
const id = word.check(rule((text) => issueForId("", text) === null, "id", "must be an id"));
const tenantPart = z.union([id, z.strictObject({ claim })]);
const scopes = z.array(z.enum(SCOPES)).check(minLength(1));

/** The variable BATON_ISSUERS: who else says who somebody is, and what that means here (docs/identity.md). */
export const issuersSchema = lazy(() =>
  z
    .array(
      z.strictObject({
        /** As the claim `iss` has it. */
        issuer: word.check(rule((text) => text !== "baton", "other_issuer", "must not be baton itself")),
        /** One of these must be in the claim `aud`. */
        audience: z.union([word, words]),
        /** Where its public keys are. */
        jwks_url: url,
        /** The header that carries its tokens; absent for the headers that carry any credential. */
        header: z.optional(header),
        tenant: z.strictObject({ org_id: tenantPart, workspace_id: tenantPart }),
        /** What the words of a claim, a list or a text with blanks between them, allow; `default` is allowed to everyone. */
        scopes: z.strictObject({
          claim: z.optional(claim),
          map: z.optional(recordOf(word, scopes)),
          default: z.optional(scopes),
        }),
        /** The claim that says who acts. */
        actor_claim: z.optional(claim),
      }),
    )
    .check(minLength(1), maxLength(MAX_ISSUERS)),
);

export type IssuerConfig = z.output<ReturnType<typeof issuersSchema>>[number];
