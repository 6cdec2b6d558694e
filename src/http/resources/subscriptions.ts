import { followedSubscription } from "../../directory/followed-runs.ts";
import { addSecret, retireSecret } from "../../directory/subscription-secrets.ts";
import {
  deleteSubscription,
  disableSubscription,
  enableSubscription,
  findSubscription,
  insertSubscription,
  isAboutOthers,
  listSubscriptions,
  type SealedSecret,
  type Subscription,
  updateSubscription,
} from "../../directory/subscriptions.ts";
import { limitExceeded, seqUnknown } from "../../domain/refusals.ts";
import { newId, newSecret } from "../../hooks/in/secrets.ts";
import { catchUp } from "../../hooks/out/catch-up.ts";
import { faultOfTarget, hostOf } from "../../hooks/out/egress.ts";
import { SECRETS_CLOSED, secretBound } from "../../hooks/out/settings.ts";
import { secretBytes } from "../../hooks/out/signature.ts";
import { type SubscriptionClient, subscriptionClient } from "../../hooks/out/subscription-client.ts";
import { MAX_REPLAYS } from "../../hooks/out/subscription-object.ts";
import { isValidId } from "../../protocol/ids.ts";
import { MAX_SUBSCRIPTIONS } from "../../protocol/limits.ts";
import {
  DEFAULT_OVERLAP_MS,
  emptyBody,
  enableBody,
  MAX_ACTIVE_SECRETS,
  newSecretBody,
  newSubscriptionBody,
  replayBody,
  type SubscriptionBody,
  subscriptionBody,
} from "../../protocol/subscription.ts";
import { readBody } from "../body.ts";
import { type Call, unwrap } from "../call.ts";
import type { HttpAnswer } from "../http-answer.ts";
import { jsonAnswer } from "../json.ts";
import { keyringFor } from "../keyring.ts";
import { isWholeNumber, pageLimit, pageLinks, readCursor } from "../pages.ts";
import { RequestRefused, refuseIssues } from "../problem.ts";
import { originOf } from "../target.ts";

/** Runs that a subscription that begins at the start, or again, is told of at once; cron tells it of more. */
const CAUGHT_UP_AT_ONCE = 100;

/** `POST /v1/subscriptions`: the secret is shown this once. */
export async function createSubscription(call: Call): Promise<HttpAnswer> {
  const {
    secret: given,
    from = "now",
    ...body
  } = await readBody(call.request, newSubscriptionBody(), { mayBeEmpty: false });
  if (from === "start" && body.run_id === undefined) {
    const message = "start is for a subscription to one run: say its run_id";
    refuseIssues("BODY_INVALID", [{ field: "from", rule: "one_run", message }]);
  }
  const origin = checkedOrigin(call, body);
  const nowMs = Date.now();
  const subscription: Subscription = {
    tenant: call.tenantKey,
    subscription_id: newId("sub"),
    name: body.name ?? null,
    url: body.url,
    events: body.events ?? ["*"],
    run_id: body.run_id ?? null,
    filter: body.filter ?? {},
    data: body.data ?? "thin",
    status: "active",
    disabled_reason: null,
    disabled_at_ms: null,
    origin,
    since_ms: from === "start" ? 0 : nowMs,
    created_at_ms: nowMs,
    updated_at_ms: nowMs,
  };
  const { sealed, secret } = await sealedSecret(call, subscription, given, nowMs);
  const db = call.env.DIRECTORY;
  if (!(await insertSubscription(db, call.principal, subscription, sealed, MAX_SUBSCRIPTIONS))) {
    throw new RequestRefused(limitExceeded("subscriptions", MAX_SUBSCRIPTIONS, MAX_SUBSCRIPTIONS + 1));
  }
  if (from === "start") catchUpSoon(call, subscription);
  return jsonAnswer(
    { subscription: shown(subscription, [sealed]), secret_id: sealed.secret_id, secret },
    { status: 201, headers: { location: `/v1/subscriptions/${subscription.subscription_id}` } },
  );
}

/** `GET /v1/subscriptions`: by id, without their state. */
export async function listSubscriptionsNative(call: Call): Promise<HttpAnswer> {
  const { limit, cursor } = call.query({ limit: "uint", cursor: "string" });
  const size = pageLimit(limit);
  const afterId = readCursor(cursor, isId) ?? "";
  const found = await listSubscriptions(call.env.DIRECTORY, call.tenantKey, afterId, size + 1);
  const page = found.slice(0, size);
  const next = found.length > size ? (page.at(-1)?.subscription_id ?? null) : null;
  return jsonAnswer({
    subscriptions: page.map((subscription) => shown(subscription)),
    ...pageLinks(call, next),
  });
}

/** `GET /v1/subscriptions/{subscription_id}`: with how far it is and how it fares. */
export async function getSubscription(call: Call): Promise<HttpAnswer> {
  const { subscription, secrets, client } = await found(call);
  return jsonAnswer({ subscription: shown(subscription, secrets), state: await client.readState() });
}

/** `PUT /v1/subscriptions/{subscription_id}`: replaces what it is; secrets and status stay. */
export async function putSubscription(call: Call): Promise<HttpAnswer> {
  const { subscription, client } = await found(call);
  const body = await readBody(call.request, subscriptionBody(), { mayBeEmpty: false });
  const origin = checkedOrigin(call, body);
  if (isAboutOthers(subscription, body)) {
    // It begins anew with runs that are new to it: first it must have heard of those that are not.
    await catchUpNow(call, subscription);
    await client.keepStarts(subscription.since_ms);
  }
  await updateSubscription(call.env.DIRECTORY, call.principal, subscription, body, origin, Date.now());
  // Another receiver is not judged by what this one did, nor made to wait as it asked.
  await client.changed({ forgives: body.url !== subscription.url });
  return shownNow(call);
}

/** `DELETE /v1/subscriptions/{subscription_id}`: what was not delivered is not any more. */
export async function removeSubscription(call: Call): Promise<HttpAnswer> {
  const gone = { tenant: call.tenantKey, subscription_id: call.id("subscription_id") };
  const wasThere = await deleteSubscription(call.env.DIRECTORY, call.principal, gone, Date.now());
  // Also of one that is not there: its object may not have been reached when it was deleted.
  await subscriptionClient(call.env.SUBSCRIPTIONS, gone).erase();
  if (!wasThere) refuseUnknown();
  return { status: 204, headers: {}, body: null };
}

/** `POST …/enable`: goes on where it stopped, or from now on. */
export async function enableSubscriptionAgain(call: Call): Promise<HttpAnswer> {
  const { subscription, client } = await found(call);
  const { from = "where_it_stopped" } = await readBody(call.request, enableBody(), { mayBeEmpty: true });
  const nowMs = Date.now();
  const skips = from === "now";
  await enableSubscription(call.env.DIRECTORY, call.principal, subscription, skips, nowMs);
  await client.changed({ forgives: true, skips });
  if (!skips) catchUpSoon(call, subscription);
  return shownNow(call);
}

/** `POST …/disable`: nothing is sent until it is enabled. */
export async function disableSubscriptionNow(call: Call): Promise<HttpAnswer> {
  const { subscription, client } = await found(call);
  await readBody(call.request, emptyBody(), { mayBeEmpty: true });
  await disableSubscription(call.env.DIRECTORY, call.principal, subscription, "operator", Date.now());
  await client.changed();
  return shownNow(call);
}

/** `POST …/test`: sends a `baton.ping`, once, and tells what came of it. */
export async function testSubscription(call: Call): Promise<HttpAnswer> {
  const { client } = await found(call);
  await readBody(call.request, emptyBody(), { mayBeEmpty: true });
  const attempt = await client.ping();
  if (attempt === "deleted") refuseUnknown();
  if (attempt === "closed") throw new RequestRefused({ code: "KEYS_REQUIRED", error: SECRETS_CLOSED });
  return jsonAnswer({ attempt });
}

/** `POST …/replay`: sends the wanted events of a run once more, in order; 202. */
export async function replayEvents(call: Call): Promise<HttpAnswer> {
  const { client } = await found(call);
  const { run_id, from_seq, upto_seq } = await readBody(call.request, replayBody(), { mayBeEmpty: false });
  const { last_event_seq: lastSeq } = unwrap(await call.run(run_id).readOverview());
  if (from_seq > lastSeq) throw new RequestRefused(seqUnknown(from_seq, lastSeq));
  const uptoSeq = Math.min(upto_seq ?? lastSeq, lastSeq);
  if (uptoSeq < from_seq) {
    const message = "must not be before from_seq";
    refuseIssues("BODY_INVALID", [{ field: "upto_seq", rule: "min", limit: from_seq, message }]);
  }
  const replay_id = await client.replay(run_id, from_seq - 1, uptoSeq);
  if (replay_id === null) {
    throw new RequestRefused(limitExceeded("replays", MAX_REPLAYS, MAX_REPLAYS + 1));
  }
  return jsonAnswer({ replay_id, run_id, from_seq, upto_seq: uptoSeq }, { status: 202 });
}

/** `POST …/secrets`: a new secret, shown this once; those before it go on signing for a while. */
export async function addSubscriptionSecret(call: Call): Promise<HttpAnswer> {
  const { subscription, secrets, client } = await found(call);
  const { secret: given, overlap_ms = DEFAULT_OVERLAP_MS } = await readBody(call.request, newSecretBody(), {
    mayBeEmpty: true,
  });
  const nowMs = Date.now();
  const active = secrets.filter(({ retires_at_ms }) => retires_at_ms === null || retires_at_ms > nowMs);
  if (active.length >= MAX_ACTIVE_SECRETS && overlap_ms > 0) {
    throw new RequestRefused(limitExceeded("active_secrets", MAX_ACTIVE_SECRETS, active.length + 1));
  }
  const { sealed, secret } = await sealedSecret(call, subscription, given, nowMs);
  await addSecret(call.env.DIRECTORY, call.principal, subscription, sealed, nowMs + overlap_ms);
  await client.changed();
  return jsonAnswer(
    { secret_id: sealed.secret_id, secret, others_retire_at_ms: nowMs + overlap_ms },
    { status: 201 },
  );
}

/** `DELETE …/secrets/{secret_id}`: it signs no more. */
export async function retireSubscriptionSecret(call: Call): Promise<HttpAnswer> {
  const { subscription, client } = await found(call);
  const secretId = call.id("secret_id");
  if (!(await retireSecret(call.env.DIRECTORY, call.principal, subscription, secretId, Date.now()))) {
    throw new RequestRefused({
      code: "SECRET_NOT_FOUND",
      error: "the subscription has no such secret, or it is its newest",
    });
  }
  await client.changed();
  return { status: 204, headers: {}, body: null };
}

/** `GET …/attempts`: the last hundred, newest first. */
export async function listDeliveryAttempts(call: Call): Promise<HttpAnswer> {
  const { client } = await found(call);
  return jsonAnswer({ attempts: await client.readAttempts() });
}

/** `GET …/dead-letters`: newest first. */
export async function listDeadLetters(call: Call): Promise<HttpAnswer> {
  const { client } = await found(call);
  const { limit, cursor } = call.query({ limit: "uint", cursor: "string" });
  const beforePos = readCursor(cursor, isWholeNumber) ?? Number.MAX_SAFE_INTEGER;
  const page = await client.readLetters(beforePos, pageLimit(limit));
  return jsonAnswer({ dead_letters: page.letters, ...pageLinks(call, page.nextPos) });
}

/** `POST …/dead-letters/{letter_id}/redeliver`: once more, with all its attempts; 202. */
export async function redeliverLetter(call: Call): Promise<HttpAnswer> {
  const { client } = await found(call);
  const letter = await client.redeliver(call.id("letter_id"));
  if (letter === null) {
    throw new RequestRefused({ code: "DEAD_LETTER_NOT_FOUND", error: "dead letter not found" });
  }
  return jsonAnswer({ dead_letter: letter }, { status: 202 });
}

type Found = { subscription: Subscription; secrets: SealedSecret[]; client: SubscriptionClient };

/** The subscription that the path names. @throws RequestRefused `SUBSCRIPTION_NOT_FOUND` */
async function found(call: Call): Promise<Found> {
  const id = call.id("subscription_id");
  const stored = await findSubscription(call.env.DIRECTORY, call.tenantKey, id);
  if (stored === null) refuseUnknown();
  return { ...stored, client: subscriptionClient(call.env.SUBSCRIPTIONS, stored.subscription) };
}

function refuseUnknown(): never {
  throw new RequestRefused({ code: "SUBSCRIPTION_NOT_FOUND", error: "subscription not found" });
}

/** The subscription as a change has left it. */
async function shownNow(call: Call): Promise<HttpAnswer> {
  const { subscription, secrets } = await found(call);
  return jsonAnswer({ subscription: shown(subscription, secrets) });
}

/** A subscription as operators see it; its secrets by id and time alone. */
function shown({ tenant, origin, since_ms, ...subscription }: Subscription, secrets?: SealedSecret[]) {
  return {
    ...subscription,
    secrets: secrets?.map(({ secret_id, created_at_ms, retires_at_ms }) => ({
      secret_id,
      created_at_ms,
      retires_at_ms,
    })),
  };
}

/**
 * Where this deployment is, as the request calls it, once the address in the body was found good; empty when it calls it by
 * no name a URL can have. @throws RequestRefused
 */
function checkedOrigin(call: Call, { url }: SubscriptionBody): string {
  const origin = originOf(call.request.url);
  const ownHosts = [hostOf(origin) ?? ""];
  const fault = faultOfTarget(url, { ownHosts, anyTarget: call.env.WEBHOOK_TARGETS === "any" });
  if (fault !== null) refuseIssues("BODY_INVALID", [{ field: "url", ...fault }]);
  return origin;
}

/** A new secret, or the one that was given, and how it is stored. @throws RequestRefused */
async function sealedSecret(
  call: Call,
  subscription: Pick<Subscription, "tenant" | "subscription_id">,
  given: string | undefined,
  nowMs: number,
): Promise<{ sealed: SealedSecret; secret: string }> {
  const secret = given ?? newSecret();
  if (secretBytes(secret) === null) {
    const message = "must be whsec_ and 24 to 64 bytes in base64";
    refuseIssues("BODY_INVALID", [{ field: "secret", rule: "whsec", message }]);
  }
  const secret_id = newId("sec");
  const sealed = await keyringFor(call.env).seal(secret, secretBound(subscription, { secret_id }));
  return { secret, sealed: { secret_id, sealed, created_at_ms: nowMs, retires_at_ms: null } };
}

/** Tells a subscription of what it has missed, behind the answer; what that leaves, or loses, is cron's. */
function catchUpSoon(call: Call, subscription: Subscription): void {
  call.context.waitUntil(
    catchUpNow(call, subscription).catch((error: unknown) => console.error(String(error))),
  );
}

async function catchUpNow({ env }: Call, subscription: Subscription): Promise<void> {
  const followed = await followedSubscription(env.DIRECTORY, subscription);
  if (followed !== null) await catchUp(env, followed, Date.now(), CAUGHT_UP_AT_ONCE);
}

function isId(value: unknown): value is string {
  return typeof value === "string" && isValidId(value);
}
