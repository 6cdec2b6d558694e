import { recordAuditIfChanged } from "../../directory/audit-events.ts";
import {
  addSecret,
  countHooks,
  deleteHook,
  findHook,
  type Hook,
  insertHook,
  listHooks,
  removeSecret,
  updateHook,
} from "../../directory/hooks.ts";
import { limitExceeded } from "../../domain/refusals.ts";
import { canBeSecret, makesSecret } from "../../hooks/in/schemes/schemes.ts";
import { newId, newPublicId, newSecret, sealSecret } from "../../hooks/in/secrets.ts";
import { readMapping } from "../../hooks/mapping/read.ts";
import { hookBodies, type SchemeConfig } from "../../protocol/hooks.ts";
import { isValidId } from "../../protocol/ids.ts";
import { MAX_HOOK_SECRETS, MAX_HOOKS } from "../../protocol/limits.ts";
import { readBody } from "../body.ts";
import { refuseBound } from "../bounds.ts";
import type { Call } from "../call.ts";
import type { HttpAnswer } from "../http-answer.ts";
import { jsonAnswer } from "../json.ts";
import { keyringFor } from "../keyring.ts";
import { pageLimit, pageLinks, readCursor } from "../pages.ts";
import { RequestRefused, refuseIssues } from "../problem.ts";
import { originOf } from "../target.ts";

/** Each may have a mapping of 64 KiB. */
const MAX_HOOKS_PER_PAGE = 100;

/** The tenant's hook that the path names. @throws RequestRefused `HOOK_NOT_FOUND` */
export async function hookOf(call: Call): Promise<Hook> {
  const hook = await findHook(call.env.DIRECTORY, call.tenantKey, call.id("hook_id"));
  if (hook === null) throw new RequestRefused({ code: "HOOK_NOT_FOUND", error: "hook not found" });
  return hook;
}

/** A hook as its operators see it: everything but its secrets. */
function shown(call: Call, hook: Hook) {
  const { tenant, public_id, owner, secrets, refused_count, last_refused_at_ms, last_refusal, ...told } =
    hook;
  return {
    ...told,
    url: `${originOf(call.request.url)}/hooks/${public_id}`,
    // A shared secret proves who sends and nothing about what: whoever sees one delivery can send another.
    weak: hook.scheme.kind === "shared_secret",
    secrets: secrets.map(({ secret_id, created_at_ms }) => ({ secret_id, created_at_ms })),
    refusals: { count: refused_count, last_at_ms: last_refused_at_ms, last_reason: last_refusal },
  };
}

/** `POST /v1/hooks`: makes a hook, which makes tasks of any type. Its secret is told here and never again. */
export async function createHook(call: Call): Promise<HttpAnswer> {
  refuseBound(call.principal, "task_types");
  const keyring = keyringFor(call.env);
  const body = await readBody(call.request, hookBodies().create, { mayBeEmpty: false });
  checkMapping(body.mapping);
  const secret = secretFor(body.scheme, body.secret);
  const db = call.env.DIRECTORY;
  const hooks = await countHooks(db, call.tenantKey, MAX_HOOKS);
  if (hooks >= MAX_HOOKS) throw new RequestRefused(limitExceeded("hooks", MAX_HOOKS, hooks + 1));
  const nowMs = Date.now();
  const key = { tenant: call.tenantKey, hook_id: newId("hook") };
  const { org_id, workspace_id, source } = call.tenant;
  const hook: Hook = {
    ...key,
    public_id: newPublicId(),
    name: body.name,
    owner: { org_id, workspace_id, source },
    scheme: body.scheme,
    mapping: body.mapping,
    secrets: secret === null ? [] : [await sealSecret(keyring, key, secret, nowMs)],
    enabled: body.enabled,
    max_body_bytes: body.max_body_bytes,
    created_at_ms: nowMs,
    updated_at_ms: nowMs,
    refused_count: 0,
    last_refused_at_ms: null,
    last_refusal: null,
  };
  const detail = { name: hook.name, scheme: hook.scheme.kind };
  await db.batch([insertHook(db, hook), audited(call, hook, "hook.created", detail, nowMs)]);
  const headers = { location: `/v1/hooks/${hook.hook_id}` };
  return jsonAnswer({ hook: shown(call, hook), secret }, { status: 201, headers });
}

/** `GET /v1/hooks`: by id. */
export async function listHooksNative(call: Call): Promise<HttpAnswer> {
  const { limit: asked, cursor } = call.query({ limit: "uint", cursor: "string" });
  const limit = Math.min(pageLimit(asked), MAX_HOOKS_PER_PAGE);
  const after = readCursor(cursor, isHookId) ?? "";
  const hooks = await listHooks(call.env.DIRECTORY, call.tenantKey, after, limit);
  const last = hooks.length < limit ? null : (hooks.at(-1)?.hook_id ?? null);
  return jsonAnswer({ hooks: hooks.map((hook) => shown(call, hook)), ...pageLinks(call, last) });
}

function isHookId(value: unknown): value is string {
  return typeof value === "string" && isValidId(value);
}

/** `GET /v1/hooks/{hook_id}`. */
export async function getHook(call: Call): Promise<HttpAnswer> {
  return jsonAnswer({ hook: shown(call, await hookOf(call)) });
}

/** `PUT /v1/hooks/{hook_id}`: replaces what the hook is told to be. URL, secrets and the kind of scheme stay. */
export async function putHook(call: Call): Promise<HttpAnswer> {
  refuseBound(call.principal, "task_types");
  const body = await readBody(call.request, hookBodies().put, { mayBeEmpty: false });
  checkMapping(body.mapping);
  const hook = await hookOf(call);
  if (body.scheme.kind !== hook.scheme.kind) {
    const message = `is ${hook.scheme.kind} and stays so: its secrets belong to it. Make another hook`;
    refuseIssues("BODY_INVALID", [{ field: "scheme.kind", rule: "immutable", message }]);
  }
  const nowMs = Date.now();
  const changed: Hook = { ...hook, ...body, updated_at_ms: nowMs };
  const detail = { name: changed.name, enabled: changed.enabled };
  const db = call.env.DIRECTORY;
  await db.batch([updateHook(db, changed), audited(call, hook, "hook.changed", detail, nowMs)]);
  return jsonAnswer({ hook: shown(call, changed) });
}

/** `DELETE /v1/hooks/{hook_id}`: its URL is nobody's from then on; its deliveries are forgotten. */
export async function deleteHookNative(call: Call): Promise<HttpAnswer> {
  const hook = await hookOf(call);
  const nowMs = Date.now();
  const db = call.env.DIRECTORY;
  const detail = { name: hook.name };
  await db.batch([deleteHook(db, hook, nowMs), audited(call, hook, "hook.deleted", detail, nowMs)]);
  return { status: 204, headers: {}, body: null };
}

/** `POST /v1/hooks/{hook_id}/secrets`: one more that counts, given or made. Told here and never again. */
export async function addHookSecret(call: Call): Promise<HttpAnswer> {
  const keyring = keyringFor(call.env);
  const body = await readBody(call.request, hookBodies().addSecret, { mayBeEmpty: true });
  const hook = await hookOf(call);
  const secret = secretFor(hook.scheme, body.secret);
  if (secret === null) refuseSecret(hook.scheme, "required", "is needed: the provider makes it");
  const nowMs = Date.now();
  const sealed = await sealSecret(keyring, hook, secret, nowMs);
  const db = call.env.DIRECTORY;
  const tooMany = () => limitExceeded("secrets", MAX_HOOK_SECRETS, MAX_HOOK_SECRETS + 1);
  if (hook.secrets.length >= MAX_HOOK_SECRETS) throw new RequestRefused(tooMany());
  const { secret_id, created_at_ms } = sealed;
  const [added] = await db.batch([
    addSecret(db, hook, sealed, MAX_HOOK_SECRETS),
    audited(call, hook, "hook.secret_added", { secret_id }, nowMs),
  ]);
  // Others came before: nothing was added.
  if (added?.meta.changes === 0) throw new RequestRefused(tooMany());
  return jsonAnswer({ secret_id, created_at_ms, secret }, { status: 201 });
}

/** `DELETE /v1/hooks/{hook_id}/secrets/{secret_id}`: what was signed with it is not believed any more. */
export async function removeHookSecret(call: Call): Promise<HttpAnswer> {
  const hook = await hookOf(call);
  const secretId = call.id("secret_id");
  if (!hook.secrets.some(({ secret_id }) => secret_id === secretId)) {
    throw new RequestRefused({ code: "SECRET_NOT_FOUND", error: "secret not found" });
  }
  const nowMs = Date.now();
  const db = call.env.DIRECTORY;
  await db.batch([
    removeSecret(db, hook, secretId, nowMs),
    audited(call, hook, "hook.secret_retired", { secret_id: secretId }, nowMs),
  ]);
  return { status: 204, headers: {}, body: null };
}

/** For right behind the change: of several at once, those that came too late have changed nothing. */
function audited(
  call: Call,
  { hook_id }: Hook,
  type: string,
  detail: Record<string, unknown>,
  nowMs: number,
): D1PreparedStatement {
  return recordAuditIfChanged(call.env.DIRECTORY, call.principal, { type, subject: hook_id, detail }, nowMs);
}

/** @throws RequestRefused naming what is wrong with it */
function checkMapping(mapping: unknown): void {
  const read = readMapping(mapping);
  if (!read.ok) refuseIssues("BODY_INVALID", read.issues);
}

/** The secret that a hook of this scheme gets; null when it gets none now. @throws RequestRefused */
function secretFor(scheme: SchemeConfig, given: string | undefined): string | null {
  if (given === undefined) return makesSecret(scheme) ? newSecret() : null;
  if (canBeSecret(scheme, given)) return given;
  refuseSecret(scheme, "secret_format", SECRET_FORMATS[scheme.kind] ?? "is none that the scheme can use");
}

const SECRET_FORMATS: Partial<Record<SchemeConfig["kind"], string>> = {
  standard: "must be whsec_ and 24 to 64 bytes in base64, or whpk_ and a public key of 32 bytes in base64",
  hmac: "must be written as secret_encoding says",
  shared_secret: "must be of ASCII that a header takes as it is, without a comma",
  bearer: "is none of this scheme: senders use a token with the scope ingest",
};

function refuseSecret(scheme: SchemeConfig, rule: string, message: string): never {
  refuseIssues("BODY_INVALID", [{ field: "secret", rule, message: `${message} (scheme ${scheme.kind})` }]);
}
