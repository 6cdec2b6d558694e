import { runDurableObjectAlarm, runInDurableObject } from "cloudflare:test";
import { env, exports } from "cloudflare:workers";
import { Webhook } from "standardwebhooks";
import { afterEach, beforeEach, expect, vi } from "vitest";
import type { SubscriptionState } from "../../../src/hooks/out/subscription-object.ts";
import { SubscriptionObject } from "../../../src/hooks/out/subscription-object.ts";
import { subscriptionObjectName } from "../../../src/identity/tenant.ts";
import type { RunStatus } from "../../../src/protocol/status.ts";
import { accepted, eventually, note, TENANT, type TestRun } from "../../run/support/test-run.ts";

/** A delivery as it arrived. */
export interface Received {
  headers: Record<string, string>;
  text: string;
  body: { type: string; timestamp: string; data: { run_id: string; seq: number; [name: string]: unknown } };
}

type Answer = (received: Received, signal: AbortSignal) => Response | Promise<Response>;

/** A receiver somewhere on the internet. */
export class Receiver {
  readonly url = `https://${crypto.randomUUID()}.example.com/hook?key=1`;
  readonly received: Received[] = [];
  answer: Answer = () => new Response(null, { status: 204 });

  /** What has arrived of a run, by seq in the order of arrival. */
  seqs({ id }: Pick<TestRun, "id">): number[] {
    return this.received.flatMap(({ body }) => (body.data.run_id === id ? body.data.seq : []));
  }

  /** Waits until so many deliveries have arrived. */
  async has(count: number): Promise<void> {
    await eventually(
      async () => this.received.length,
      (length) => length >= count,
      5_000,
    );
    expect(this.received).toHaveLength(count);
  }
}

const receivers = new Map<string, Receiver>();
const made: string[] = [];
let tests = 0;

/**
 * Stands in for the internet, where receivers are; everything else on this side is the platform's own. Behind the clock:
 * each test has a time of its own, and leaves no subscription to the next.
 */
export function useInternet(): void {
  beforeEach(() => {
    tests += 1;
    vi.setSystemTime(Date.now() + tests * 100 * 24 * 3_600_000);
    vi.spyOn(globalThis, "fetch").mockImplementation(async (url, init) => {
      const receiver = receivers.get(String(url));
      if (receiver === undefined || typeof init?.body !== "string")
        throw new Error("Network connection lost.");
      expect(init).toMatchObject({ method: "POST", redirect: "manual" });
      const text = init.body;
      const received = {
        headers: init.headers as Record<string, string>,
        text,
        body: JSON.parse(text) as Received["body"],
      };
      receiver.received.push(received);
      return receiver.answer(received, init.signal as AbortSignal);
    });
  });
  afterEach(async () => {
    for (const id of made.splice(0)) await api("DELETE", `/${id}`);
    vi.restoreAllMocks();
  });
}

export function aReceiver(): Receiver {
  const receiver = new Receiver();
  receivers.set(receiver.url, receiver);
  return receiver;
}

/** One request as an operator; its status is the test's to look at. */
export async function api<T = Record<string, unknown>>(
  method: string,
  path: string,
  body?: unknown,
  headers: Record<string, string> = {},
): Promise<{ status: number; headers: Headers; body: T }> {
  const response = await exports.default.fetch(
    new Request(`https://baton.example.com/v1/subscriptions${path}`, {
      method,
      headers: { "x-agent-token": "test-token", "content-type": "application/json", ...headers },
      ...(body !== undefined && { body: JSON.stringify(body) }),
    }),
  );
  const text = await response.text();
  return {
    status: response.status,
    headers: response.headers,
    body: (text === "" ? {} : JSON.parse(text)) as T,
  };
}

export interface Created {
  subscription: { subscription_id: string; status: string; [name: string]: unknown };
  secret_id: string;
  secret: string;
}

/** A subscription of a test's own. */
export class TestSubscription {
  readonly id: string;
  readonly secret: string;
  readonly secretId: string;
  readonly receiver: Receiver;

  constructor({ subscription, secret, secret_id }: Created, receiver: Receiver) {
    this.id = subscription.subscription_id;
    this.secret = secret;
    this.secretId = secret_id;
    this.receiver = receiver;
    made.push(this.id);
  }

  static async make(fields: Record<string, unknown> = {}): Promise<TestSubscription> {
    const receiver = aReceiver();
    const { status, body } = await api<Created>("POST", "", { url: receiver.url, ...fields });
    expect(body).toMatchObject({ subscription: { status: "active" } });
    expect(status).toBe(201);
    return new TestSubscription(body, receiver);
  }

  get stub(): DurableObjectStub<SubscriptionObject> {
    return env.SUBSCRIPTIONS.getByName(subscriptionObjectName(TENANT, this.id));
  }

  /** The parsed body, verified by the providers' own library. */
  verified(received: Received | undefined, secret = this.secret): unknown {
    if (received === undefined) throw new Error("nothing has arrived");
    return new Webhook(secret).verify(received.text, received.headers);
  }

  async get(): Promise<{ subscription: Record<string, unknown>; state: SubscriptionState }> {
    const { status, body } = await api("GET", `/${this.id}`);
    expect(status).toBe(200);
    return body as never;
  }

  async post(path: string, body?: unknown, status = 200): Promise<Record<string, unknown>> {
    const answer = await api("POST", `/${this.id}/${path}`, body);
    expect(answer.body).toBeDefined();
    expect(answer.status, JSON.stringify(answer.body)).toBe(status);
    return answer.body;
  }

  async list<T>(what: "attempts" | "dead-letters"): Promise<T[]> {
    const { body } = await api<Record<string, T[]>>("GET", `/${this.id}/${what}`);
    return body[what.replace("-", "_")] ?? [];
  }

  /** Lets the object's alarm fire, if it is set: nothing fires by itself in the year 2100. */
  alarm(): Promise<boolean> {
    return runDurableObjectAlarm(this.stub);
  }

  /** Waits until nothing more is to be sent now: all lines are done or wait. */
  async settled(): Promise<SubscriptionState> {
    const { state } = await eventually(
      () => this.get(),
      ({ state: { backlog } }) => backlog.next_due_at_ms === null || backlog.next_due_at_ms > Date.now(),
      5_000,
    );
    return state;
  }

  rows(query: string): Promise<Record<string, SqlStorageValue>[]> {
    return runInDurableObject(this.stub, (_object: SubscriptionObject, state) =>
      state.storage.sql.exec(query).toArray(),
    );
  }
}

/** Commits so many notes and has the directory told, which tells the subscriptions. */
export async function commitNotes(
  run: TestRun,
  clock: { advance(ms: number): void },
  count: number,
  status: RunStatus = "running",
): Promise<void> {
  for (let index = 0; index < count; index += 1) await accepted(run, note({ index }, status));
  clock.advance(1_000);
  await runDurableObjectAlarm(run.stub);
}

/** Loses every nudge that what is done sends, and waits for the last one about each of these runs: nobody else does. */
export async function loseNudges(of: TestRun[], body: () => Promise<unknown>): Promise<void> {
  const lost = vi.spyOn(SubscriptionObject.prototype, "nudge").mockImplementation(async () => undefined);
  await body();
  for (const { id, client } of of) {
    const answer = await client.readOverview();
    const lastSeq = answer.ok ? answer.value.last_event_seq : 0;
    await eventually(
      async () => lost.mock.calls.flat(2),
      (nudges) => nudges.some(({ run_id, seq }) => run_id === id && seq === lastSeq),
      5_000,
    );
  }
  lost.mockRestore();
}
