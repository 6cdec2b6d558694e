import { createExecutionContext, evictDurableObject, runInDurableObject } from "cloudflare:test";
import { env } from "cloudflare:workers";
import fc from "fast-check";
import { expect } from "vitest";
import type { Command } from "../../../src/domain/command.ts";
import type { FeedObject } from "../../../src/feed/feed-object.ts";
import { Call } from "../../../src/http/call.ts";
import { RequestRefused } from "../../../src/http/problem.ts";
import { streamFeedNative } from "../../../src/http/resources/streams.ts";
import { rootPrincipal } from "../../../src/identity/principal.ts";
import { type FeedScope, feedObjectName, runObjectName, tenantKey } from "../../../src/identity/tenant.ts";
import type { Run, Tenant } from "../../../src/protocol/run.ts";
import { type RunClient, runClient, submit } from "../../../src/run/run-client.ts";
import type { RunObject } from "../../../src/run/run-object.ts";
import { creation, draftOf, eventually, note, row } from "../../run/support/test-run.ts";
import type { Asking, FrameData, LogRecord } from "./sse-reader.ts";

/** A tenant of a test's own: its feed brings together nothing but that test's runs. */
export function newTenant(): Tenant {
  return { org_id: crypto.randomUUID(), workspace_id: "test", source: "local_implicit" };
}

/** A workspace of a test's own. */
export function newPath(): string {
  return `/srv/${crypto.randomUUID()}`;
}

/** A run whose object may be restarted at any time: every call asks for the object anew. */
export class Subject {
  readonly id: string = crypto.randomUUID();
  readonly tenant: Tenant;
  /** Tasks under a lease: their ids and tokens. */
  readonly #leases: { id: string; token: string }[] = [];
  #tasks = 0;
  #hasClaimed = false;

  private constructor(tenant: Tenant) {
    this.tenant = tenant;
  }

  static async create(tenant: Tenant, path = ""): Promise<Subject> {
    const subject = new Subject(tenant);
    const workspace = { workspace_id: "", canonical_path: path, lease_epoch: 0 };
    const draft = draftOf(subject.id, { workspace });
    const created = await subject.client.create({ tenant, draft, command: null });
    expect(created.ok).toBe(true);
    return subject;
  }

  get stub(): DurableObjectStub<RunObject> {
    return env.RUNS.getByName(runObjectName(tenantKey(this.tenant), this.id));
  }

  get client(): RunClient {
    return runClient(env.RUNS, runObjectName(tenantKey(this.tenant), this.id));
  }

  /** Commits something. While the object restarts a command may be lost, or be done and not be answered. */
  async commit(work: Work): Promise<void> {
    switch (work.do) {
      case "seal":
        return this.#inObject(async (object) => {
          await object.sweep();
          for (let sealed = true; sealed; ) {
            sealed = (await object.seal({ keep: work.keep, commits: 2, length: 100_000 })) !== null;
          }
        });
      case "note":
        return this.#submit(note("漢".repeat(work.length)));
      case "burst":
        await Promise.all(Array.from({ length: work.count }, (_, index) => this.#submit(note(index))));
        return;
      case "group":
        // In one turn: they share a flush, and are told as one stretch.
        await this.#inObject((object) =>
          Promise.all(
            Array.from({ length: work.count }, () =>
              submit(object, { command: note("x".repeat(work.length)) }),
            ),
          ),
        );
        return;
      case "tasks":
        return this.#submit(creation(...Array.from({ length: work.count }, () => row(`t${this.#tasks++}`))));
      case "fact":
        return this.#submit({
          op: "patch_blackboard",
          patch_op: "add_fact",
          payload: { id: crypto.randomUUID(), ts_ms: 1, text: "so" },
        });
      case "claim":
        return this.#claim();
      case "finish":
        return this.#finish();
    }
  }

  /** Puts the run as it is, but for its workspace. */
  async moveTo(path: string): Promise<void> {
    await this.#replace((run) => ({ ...run, workspace: { ...run.workspace, canonical_path: path } }));
  }

  /** All records of one kind, ascending. */
  async log(column: "event" | "patch"): Promise<LogRecord[]> {
    const answer = await this.client.readLog({ column, sinceSeq: 0, tail: null, limit: null });
    if (!answer.ok) throw new Error("the run is gone");
    return JSON.parse(await textOf(answer.value.items)) as LogRecord[];
  }

  /** The whole log as a stream shows it: of each commit the event, then the patch. */
  async records(): Promise<LogRecord[]> {
    const patches = new Map((await this.log("patch")).map((patch) => [patch.seq, patch]));
    return (await this.log("event")).flatMap((event) => [event, patches.get(event.seq) ?? []].flat());
  }

  async lastSeq(): Promise<number> {
    const answer = await this.client.readOverview();
    if (!answer.ok) throw new Error("the run is gone");
    return answer.value.last_event_seq;
  }

  /** Takes back all leases, also in the directory: it is shared with tests that look for old ones. */
  async retire(): Promise<void> {
    if (!this.#hasClaimed) return;
    await this.#replace((run) => ({ ...run, tasks: [] }));
    await retried(() => this.client.sweep());
  }

  /** Takes the object out of memory, or restarts it. */
  async disturb(how: Disturbance): Promise<void> {
    await retried(() => this.client.readOverview());
    await disturb(this.stub, how);
  }

  async #submit(command: Command): Promise<void> {
    const answer = await submit(this.client, { command }).catch(() => null);
    if (answer?.ok === false) throw new Error(`${command.op} was refused: ${answer.refusal.code}`);
  }

  async #replace(change: (run: Run) => Run): Promise<void> {
    const answer = await retried(() => this.client.readRun());
    if (!answer.ok) throw new Error("the run is gone");
    const run = JSON.parse(await textOf(answer.value.text)) as Run;
    await this.#submit({ op: "replace_run", run: change(run) });
  }

  async #inObject(body: (object: RunObject) => Promise<unknown>): Promise<void> {
    await runInDurableObject(this.stub, body).catch(() => undefined);
  }

  async #claim(): Promise<void> {
    this.#hasClaimed = true;
    const command: Command = { op: "claim_task", agent_id: "agent", lease_ms: 300_000 };
    const answer = await submit(this.client, { command }).catch(() => null);
    if (!answer?.ok || answer.outcome?.op !== "claim_task") return;
    const { task, lease } = answer.outcome;
    if (task !== null && lease !== null) this.#leases.push({ id: task.id, token: lease.token });
  }

  async #finish(): Promise<void> {
    const lease = this.#leases.shift();
    if (lease === undefined) return;
    const { id, token } = lease;
    await this.#submit({ op: "transition_task", task_id: id, action: "complete", lease_token: token });
  }
}

/** Something that is committed. */
export type Work =
  | { do: "note"; length: number }
  | { do: "burst"; count: number }
  | { do: "group"; count: number; length: number }
  | { do: "tasks"; count: number }
  | { do: "fact" }
  | { do: "claim" }
  | { do: "finish" }
  /** Nothing is committed: old commits move to R2. */
  | { do: "seal"; keep: number };

export const anyWork: fc.Arbitrary<Work> = fc.oneof(
  fc.record({ do: fc.constant("note" as const), length: fc.integer({ min: 0, max: 300 }) }),
  fc.record({ do: fc.constant("burst" as const), count: fc.integer({ min: 2, max: 6 }) }),
  fc.record({
    do: fc.constant("group" as const),
    count: fc.integer({ min: 2, max: 5 }),
    // The longest do not fit into what is told at once, and are read from the log.
    length: fc.constantFrom(10, 1_000, 90_000),
  }),
  fc.record({ do: fc.constant("tasks" as const), count: fc.integer({ min: 1, max: 5 }) }),
  fc.record({ do: fc.constantFrom("fact" as const, "claim" as const, "finish" as const) }),
  fc.record({ do: fc.constant("seal" as const), keep: fc.nat(5) }),
);

/** What an object goes through: it sleeps and keeps its sockets, or is aborted in the middle of whatever it does. */
export type Disturbance = "sleep" | "abort";

export const anyDisturbance = fc.constantFrom<Disturbance>("sleep", "abort");

const MAX_EVICTION_MS = 2_000;

/** Does that to an object which is awake. */
export async function disturb(stub: DurableObjectStub, how: Disturbance): Promise<void> {
  if (how === "sleep") {
    // An object is not evicted before what it is doing has ended. That is not waited for longer than this.
    await Promise.race([evictDurableObject(stub).catch(() => undefined), scheduler.wait(MAX_EVICTION_MS)]);
    return;
  }
  const aborted = runInDurableObject(stub, (_object, state) => state.abort("the test aborts it"));
  await aborted.catch(() => undefined);
}

/** The feed of a workspace, or of a tenant. */
export function feedOf(tenant: Tenant, workspace: string | null): DurableObjectStub<FeedObject> {
  const scope: FeedScope = { tenant: tenantKey(tenant), workspace };
  return env.FEEDS.getByName(feedObjectName(scope));
}

/** How many follow an object. */
export function followersOf(stub: DurableObjectStub): Promise<number> {
  return runInDurableObject(stub, (_object, state) => state.getWebSockets().length);
}

/** Lets a feed's object sleep, or aborts it. */
export async function disturbFeed(tenant: Tenant, scope: string | null, how: Disturbance): Promise<void> {
  await retried(() => followersOf(feedOf(tenant, scope)));
  await disturb(feedOf(tenant, scope), how);
}

/** Waits until so many follow an object. One that left is missed at the latest when the next keep-alive cannot be written, after 10 s. */
export async function untilFollowers(stub: () => DurableObjectStub, count: number): Promise<void> {
  await eventually(
    () => followersOf(stub()),
    (followers) => followers === count,
    20_000,
  );
}

/** Asks for `/v1/events/stream` as another tenant than the one that every credential is. */
export function fetchAs(tenant: Tenant): (asking: Asking) => Promise<Response> {
  return async ({ path, headers }) => {
    const request = new Request(`http://baton.test${path}`, { headers: headers ?? {} });
    try {
      const context = createExecutionContext();
      const principal = rootPrincipal(tenant);
      const call = new Call({ request, env, context, principal, door: "native", ids: {} });
      const answer = await streamFeedNative(call);
      return new Response(answer.body, { status: answer.status, headers: answer.headers });
    } catch (error) {
      return new Response(String(error), { status: error instanceof RequestRefused ? 400 : 500 });
    }
  };
}

/** The records among frames, in order. */
export function recordsIn(content: readonly FrameData[]): LogRecord[] {
  return content.flatMap(({ properties, payload }) => properties ?? payload ?? []);
}

/** Of these records one run's of one kind. */
export function recordsOf(
  content: readonly FrameData[],
  runId: string,
  kind: "context_run_event" | "blackboard_patch",
): LogRecord[] {
  return content.flatMap((frame) =>
    frame.run_id === runId && frame.kind === kind && frame.payload !== undefined ? [frame.payload] : [],
  );
}

/** Calls again while the object restarts. */
export async function retried<T>(call: () => Promise<T>): Promise<T> {
  for (let tries = 1; ; tries += 1) {
    try {
      return await call();
    } catch (error) {
      if (tries === 10) throw error;
      await scheduler.wait(tries);
    }
  }
}

async function textOf(text: string | ReadableStream<Uint8Array>): Promise<string> {
  return new Response(text).text();
}
