import type * as z from "zod/mini";
import type { QuotaExceeded } from "../directory/quotas.ts";
import type { Env } from "../env.ts";
import type { Principal } from "../identity/principal.ts";
import { runObjectName, tenantKey } from "../identity/tenant.ts";
import { type BodyName, type BodyOf, contextBodies, nativeBodies } from "../protocol/bodies.ts";
import { type QuerySpec, type QueryValues, readQuery } from "../protocol/query.ts";
import type { Tenant } from "../protocol/run.ts";
import { type RunClient, runClient } from "../run/run-client.ts";
import type { Result } from "../run/run-object.ts";
import { readBody } from "./body.ts";
import { checkBound, completed } from "./bounds.ts";
import { RequestRefused, refuseIssues } from "./problem.ts";
import type { Door } from "./route-facts.ts";
import { targetOf } from "./target.ts";

/** Ids that routes have in their paths. */
export type PathId =
  | "run_id"
  | "task_id"
  | "lock_id"
  | "upload_id"
  | "part"
  | "checkpoint"
  | "token_id"
  | "hook_id"
  | "secret_id"
  | "delivery_id"
  | "subscription_id"
  | "letter_id";

/** One request on its way to a handler: authenticated, routed, its path decoded. */
export class Call {
  readonly request: Request;
  readonly env: Env;
  readonly context: ExecutionContext;
  readonly principal: Principal;
  readonly door: Door;
  readonly #ids: Readonly<Record<string, string>>;
  readonly #over: QuotaExceeded | null;
  #url: URL | null = null;
  /** As it was read: it can be read but once. */
  #body: unknown;

  constructor(incoming: {
    request: Request;
    env: Env;
    context: ExecutionContext;
    principal: Principal;
    door: Door;
    ids: Readonly<Record<string, string>>;
    /** Which quota it would go over (quota.ts). */
    over?: QuotaExceeded | null;
  }) {
    this.request = incoming.request;
    this.env = incoming.env;
    this.context = incoming.context;
    this.principal = incoming.principal;
    this.door = incoming.door;
    this.#ids = incoming.ids;
    this.#over = incoming.over ?? null;
  }

  /** The same request on behalf of another tenant. What was read of it stays read. */
  inTenant(tenant: Tenant): Call {
    const { request, env, context, door } = this;
    const principal = { ...this.principal, tenant };
    const call = new Call({ request, env, context, principal, door, ids: this.#ids });
    call.#body = this.#body;
    return call;
  }

  /** The same request as one about something below the run that its path does not name. */
  about(ids: Partial<Record<PathId, string>>): Call {
    const { request, env, context, principal, door } = this;
    return new Call({ request, env, context, principal, door, ids: { ...this.#ids, ...ids } });
  }

  /** Whose runs the request is about. */
  get tenant(): Tenant {
    return this.principal.tenant;
  }

  /** The request's path and query, parsed when first asked for: many requests never need them. */
  get url(): URL {
    // Whatever name the client calls this host by.
    this.#url ??= new URL(targetOf(this.request.url), "http://host");
    return this.#url;
  }

  /** An id in the path, checked; a route without it is a fault of the routing table. */
  id(name: PathId): string {
    const id = this.#ids[name];
    if (id === undefined) throw new Error(`the route has no ${name}`);
    return id;
  }

  /** The run in the path; null when it has none. */
  get runId(): string | null {
    return this.#ids.run_id ?? null;
  }

  /** The rest of the path, decoded and checked: an artifact's. */
  artifactPath(): string {
    const path = this.#ids.path;
    if (path === undefined) throw new Error("the route has no path of an artifact");
    return path;
  }

  /**
   * The object of a run of this tenant; that the run exists is for the object to say.
   * @throws RequestRefused `TOKEN_BOUND`: whoever is bound to a run does not reach another by way of it.
   */
  run(runId: string = this.id("run_id")): RunClient {
    checkBound(this.principal, "run_id", runId);
    return runClient(this.env.RUNS, runObjectName(tenantKey(this.tenant), runId));
  }

  /** The tenant as a key of the directory and of names. */
  get tenantKey(): string {
    return tenantKey(this.tenant);
  }

  /**
   * To be called before anything is taken of a quota.
   * @param isDone whether nothing will be taken, because it was done before; asked only where the quota is used up.
   * @throws RequestRefused `QUOTA_EXCEEDED`
   */
  async requireRoom(isDone: () => Promise<boolean>): Promise<void> {
    if (this.#over !== null && !(await isDone())) throw new RequestRefused(this.#over);
  }

  /** The query parameters a route knows. @throws RequestRefused `QUERY_INVALID` */
  query<const Spec extends QuerySpec>(spec: Spec): QueryValues<Spec> {
    const read = readQuery(this.url.searchParams, spec);
    if (!read.ok) refuseIssues("QUERY_INVALID", read.issues);
    return read.values;
  }

  /** The body, by this door's schema of that name; a route has one. @throws RequestRefused */
  async body<Name extends BodyName>(name: Name, mayBeEmpty = false): Promise<BodyOf<Name>> {
    const bodies = this.door === "context" ? contextBodies() : nativeBodies();
    const schema = bodies[name] as unknown as z.core.$ZodType<BodyOf<Name>>;
    this.#body ??= await readBody(this.request, schema, {
      mayBeEmpty,
      complete: (value) => completed(name, value, this.principal),
    });
    return this.#body as BodyOf<Name>;
  }

  /** What the `Prefer` header asks to return (RFC 7240). */
  preferredReturn(): "representation" | "minimal" | null {
    const prefer = this.request.headers.get("prefer");
    if (prefer === null) return null;
    const match = /(?:^|[,;\s])return\s*=\s*"?(representation|minimal)\b/i.exec(prefer);
    const word = match?.[1]?.toLowerCase();
    return word === "representation" || word === "minimal" ? word : null;
  }
}

/** The value of a result, or its refusal as the answer. */
export function unwrap<T>(result: Result<T>): T {
  if (!result.ok) throw new RequestRefused(result.refusal);
  return result.value;
}
