import { env, exports } from "cloudflare:workers";
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { writeQuotas } from "../../../src/directory/quotas.ts";
import { applyMapping, type Mapped } from "../../../src/hooks/mapping/apply.ts";
import { deliveryRunId, keyedRunId } from "../../../src/hooks/mapping/ids.ts";
import { LOCAL_TENANT, tenantKey } from "../../../src/identity/tenant.ts";
import { type Mapping, ON_EXISTING, type OnExisting } from "../../../src/protocol/mapping.ts";
import { QUOTAS, type Quotas } from "../../../src/protocol/quotas.ts";
import type { Run } from "../../../src/protocol/run.ts";
import { storeOf, textOf } from "../../artifacts/support/store.ts";
import {
  accepted,
  claimed,
  eventsOf,
  http,
  listed,
  objectOf,
  replayOf,
  TENANT,
  wholeBlackboard,
  wholeRun,
} from "../../run/support/test-run.ts";
import { bindingsUntil, type Cut, CutOff } from "./faults.ts";

const MAPPING: Mapping = {
  when: { path: "skip", exists: false },
  run_key: "issue/{{ issue }}",
  run: { objective: "Work on {{ title }}", run_type: "issue", source_client: "github" },
  event: { type: "issue_changed", input: { title: "{{ title }}" } },
  tasks: [
    { task_type: "triage", id: "triage", payload: { title: "Triage it" }, input: { title: "{{ title }}" } },
    { task_type: "look", for_each: { in: "files" }, input: "{{ $item }}" },
    { task_type: "reply", id: "reply", status: "blocked" },
  ],
  wake_task_id: "reply",
};

/** A hook of a test's own. */
class TestHook {
  readonly id = `hook_${crypto.randomUUID()}`;
  mapping: Mapping;
  #deliveries = 0;

  constructor(fields: Partial<Mapping> = {}) {
    this.mapping = { ...MAPPING, ...fields };
  }

  /** A delivery that can be mapped any number of times. */
  delivery(body: unknown) {
    const text = JSON.stringify(body);
    return {
      delivery_id: `dlv_${this.#deliveries++}_${this.id.slice(-12)}`,
      event: "issues",
      headers: {},
      body,
      raw: new TextEncoder().encode(text),
      content_type: "application/json",
      received_at_ms: 1_700_000_000_000,
    };
  }

  map(
    delivery: ReturnType<TestHook["delivery"]>,
    bindings: Parameters<typeof applyMapping>[0] = env,
  ): Promise<Mapped> {
    const hook = { hook_id: this.id, mapping: this.mapping };
    return applyMapping(bindings, { tenant: LOCAL_TENANT, hook, delivery });
  }

  runId(issue: number): string {
    return keyedRunId(this.id, `issue/${issue}`);
  }
}

const body = (fields: Record<string, unknown> = {}) => ({
  issue: 7,
  title: "Crash",
  files: ["a", "b"],
  ...fields,
});

/** What a run came to, without what differs from one run to the next: ids, times, names of hook and delivery. */
async function outcomeOf(runId: string): Promise<unknown> {
  const run = objectOf(runId);
  const [{ tasks, status, objective }, events, { artifacts }] = await Promise.all([
    wholeRun(run),
    eventsOf(run),
    wholeBlackboard(run),
  ]);
  return {
    status,
    objective,
    events: events.map(({ type, payload }) => [type, (payload as { input?: unknown }).input ?? null]),
    tasks: tasks.map(({ task_type, status, payload }) => [
      task_type,
      status,
      (payload as { input: unknown }).input,
    ]),
    artifacts: artifacts.length,
  };
}

/** What became of the run of the key, and of the one that the answer names. */
async function outcomesOf(keyed: string, answer: Mapped): Promise<unknown[]> {
  return [await outcomeOf(keyed), await outcomeOf(answer.run_id ?? keyed)];
}

describe("a delivery becomes a run", () => {
  it("with an id derived from hook and key, in the directory, with all that the mapping says, marked as untrusted", async () => {
    const hook = new TestHook();
    const delivery = hook.delivery(body());
    const run_id = hook.runId(7);
    expect(await hook.map(delivery)).toEqual({ status: "mapped", run_id, created: true });

    const run = objectOf(run_id);
    const source = { hook_id: hook.id, delivery_id: delivery.delivery_id, event: "issues" };
    const marks = { trust: "untrusted_external", source };
    const path = `webhooks/${delivery.delivery_id}.json`;
    const whole = await wholeRun(run);
    expect(whole).toMatchObject({
      run_id,
      status: "queued",
      objective: "Work on ⟪Crash⟫",
      run_type: "issue",
      source_client: "github",
      source_metadata: {
        ...source,
        run_key: "issue/7",
        trust: "untrusted_external",
        untrusted_fields: ["objective"],
      },
    });
    expect(await listed(run)).toMatchObject({ run_type: "issue", source_client: "github" });

    const artifact_ref = expect.objectContaining({ path, version: 1, content_type: "application/json" });
    const [putEvent, event] = await eventsOf(run);
    expect(putEvent?.type).toBe("context.artifact.added");
    expect(event).toMatchObject({
      type: "issue_changed",
      status: "queued",
      payload: { ...marks, input: { title: "Crash" }, untrusted_fields: ["input.title"], artifact_ref },
    });
    expect(whole.tasks.map(({ id, task_type }) => [id.startsWith("task-") ? null : id, task_type])).toEqual([
      ["triage", "triage"],
      [null, "look"],
      [null, "look"],
      ["reply", "reply"],
    ]);
    expect(whole.tasks[0]?.payload).toEqual({
      ...marks,
      title: "Triage it",
      input: { title: "Crash" },
      untrusted_fields: ["input.title"],
      artifact_ref,
    });
    expect(whole.tasks[2]?.payload).toMatchObject({ input: "b", untrusted_fields: ["input"] });

    const { sha256 } = (event as { payload: { artifact_ref: { sha256: string } } }).payload.artifact_ref;
    expect(await textOf(await storeOf(TENANT).store.read(sha256))).toBe(JSON.stringify(body()));
    expect((await replayOf(run)).drift.mismatch).toBe(false);
  });

  it("that can be exported, imported and forked, and stays marked", async () => {
    const hook = new TestHook();
    await hook.map(hook.delivery(body()));
    const path = `/v1/runs/${hook.runId(7)}`;
    const headers = { "x-agent-token": "test-token" };
    const exported = await exports.default.fetch(
      new Request(`http://baton.test${path}/export?artifacts=true`, { headers }),
    );
    const imported = await exports.default.fetch(
      new Request(`http://baton.test/v1/runs/import?run_id=${crypto.randomUUID()}`, {
        method: "POST",
        headers: { ...headers, "content-type": "application/x-ndjson" },
        body: await exported.text(),
      }),
    );
    const { run } = await imported.json<{ run: Run }>();
    const forked = await http<{ run: Run }>("POST", `${path}/fork`, { body: {}, status: 201 });
    for (const copy of [run, forked.run]) {
      expect(copy.source_metadata).toMatchObject({ hook_id: hook.id, trust: "untrusted_external" });
    }
  });

  it("of its own without a run key", async () => {
    const hook = new TestHook();
    delete hook.mapping.run_key;
    const [first, second] = [hook.delivery(body()), hook.delivery(body())];
    expect(await hook.map(first)).toMatchObject({
      run_id: deliveryRunId(hook.id, first.delivery_id),
      created: true,
    });
    expect(await hook.map(second)).toMatchObject({
      run_id: deliveryRunId(hook.id, second.delivery_id),
      created: true,
    });
  });

  it("or of no run, when the filter does not take it or the mapping does not fit", async () => {
    const hook = new TestHook();
    const skipped = await hook.map(hook.delivery(body({ skip: 1 })));
    expect(skipped).toEqual({ status: "skipped", reason: "the filter does not take it" });
    const failed = await hook.map(hook.delivery({ title: "no issue" }));
    expect(failed).toMatchObject({
      status: "mapping_failed",
      error: { code: "MAPPING_INVALID" },
      issues: [{ field: "run_key", rule: "missing" }],
    });
    hook.mapping = { run: {} } as unknown as Mapping;
    expect(await hook.map(hook.delivery(body()))).toMatchObject({
      status: "mapping_failed",
      issues: [{ field: "mapping.run.objective", rule: "required" }],
    });
  });

  it("without an artifact, where the deployment stores none", async () => {
    const hook = new TestHook();
    const { RUNS, DIRECTORY } = env;
    expect(await hook.map(hook.delivery(body()), { RUNS, DIRECTORY })).toMatchObject({ status: "mapped" });
    expect(await outcomeOf(hook.runId(7))).toMatchObject({
      artifacts: 0,
      events: [["issue_changed", { title: "Crash" }], [], [], [], []].map((expected) =>
        expected.length === 0 ? expect.anything() : expected,
      ),
    });
  });

  it("keeps a form as it came", async () => {
    const hook = new TestHook();
    const raw = new TextEncoder().encode("payload=%7B%7D");
    const content_type = "application/x-www-form-urlencoded";
    const delivery = { ...hook.delivery(body()), raw, content_type };
    await hook.map(delivery);
    const { artifacts } = await wholeBlackboard(objectOf(hook.runId(7)));
    expect(artifacts).toMatchObject([
      { id: delivery.delivery_id, path: `webhooks/${delivery.delivery_id}.txt` },
    ]);
  });
});

async function deleteRun(runId: string): Promise<void> {
  const headers = { "x-agent-token": "test-token" };
  const request = new Request(`http://baton.test/v1/runs/${runId}`, { method: "DELETE", headers });
  expect((await exports.default.fetch(request)).status).toBe(204);
}

/** The rest of what a second delivery does to a run that has four tasks, the last of them blocked. */
const SECOND: Record<OnExisting, { events: string[]; tasks: number; reply: string; mapped: object }> = {
  ignore: { events: [], tasks: 4, reply: "blocked", mapped: { status: "skipped" } },
  append_event: {
    events: ["context.artifact.added", "issue_changed"],
    tasks: 4,
    reply: "blocked",
    mapped: { status: "mapped", created: false },
  },
  // Both tasks with ids of their own are there already; only those of the two files come again.
  add_tasks: {
    events: ["context.artifact.added", "issue_changed", "context.task.created", "context.task.created"],
    tasks: 6,
    reply: "blocked",
    mapped: { status: "mapped", created: false },
  },
  wake_task: {
    events: ["context.artifact.added", "issue_changed", "context.task.requeued"],
    tasks: 4,
    reply: "runnable",
    mapped: { status: "mapped", created: false, woken: true },
  },
  new_run: { events: [], tasks: 4, reply: "blocked", mapped: { status: "mapped", created: true } },
};

describe("a later delivery of the same key", () => {
  it.each(ON_EXISTING)("%s", async (on_existing) => {
    const hook = new TestHook({ on_existing });
    await hook.map(hook.delivery(body()));
    const run = objectOf(hook.runId(7));
    const before = (await wholeRun(run)).last_event_seq;
    const delivery = hook.delivery(body({ title: "Again" }));
    const expected = SECOND[on_existing];
    const run_id = on_existing === "new_run" ? deliveryRunId(hook.id, delivery.delivery_id) : run.id;

    expect(await hook.map(delivery)).toMatchObject({ ...expected.mapped, run_id });
    const { tasks, status, objective } = await wholeRun(run);
    expect((await eventsOf(run, before)).map(({ type }) => type)).toEqual(expected.events);
    expect(tasks).toHaveLength(expected.tasks);
    expect(tasks.find(({ id }) => id === "reply")?.status).toBe(expected.reply);
    expect([status, objective]).toEqual(["queued", "Work on ⟪Crash⟫"]);
    if (on_existing === "new_run") {
      expect((await wholeRun(objectOf(run_id))).objective).toBe("Work on ⟪Again⟫");
    }
  });

  it("keeps the run's status, whatever that is, unless the mapping says another", async () => {
    const hook = new TestHook({ on_existing: "append_event" });
    await hook.map(hook.delivery(body()));
    const run = objectOf(hook.runId(7));
    await accepted(run, { op: "append_event", type: "run_paused", status: "paused", payload: null });
    await hook.map(hook.delivery(body()));
    expect((await wholeRun(run)).status).toBe("paused");
    hook.mapping = { ...hook.mapping, event: { type: "issue_changed", status: "running" } };
    await hook.map(hook.delivery(body()));
    expect((await wholeRun(run)).status).toBe("running");
  });

  it("cannot steer the run by members of its body", async () => {
    const hook = new TestHook({ event: { input: "{{ $body }}" } });
    await hook.map(hook.delivery(body({ error: "broke", step_status: "done", why_next_step: "because" })));
    const run = await wholeRun(objectOf(hook.runId(7)));
    expect(run.last_error).toBeUndefined();
    expect([run.status, run.why_next_step]).toEqual(["queued", null]);
  });

  const awake: [what: string, prepare: (runId: string) => Promise<unknown>][] = [
    [
      "at work",
      async (id) => {
        const run = objectOf(id);
        await accepted(run, {
          op: "transition_task",
          task_id: "reply",
          action: "status",
          status: "runnable",
        });
        return claimed(run, { task_type: "reply" });
      },
    ],
    [
      "done",
      async (id) => {
        const run = objectOf(id);
        await accepted(run, {
          op: "transition_task",
          task_id: "reply",
          action: "status",
          status: "runnable",
        });
        const { token } = await claimed(run, { task_type: "reply" });
        return accepted(run, {
          op: "transition_task",
          task_id: "reply",
          action: "complete",
          lease_token: token,
        });
      },
    ],
  ];
  it.each(awake)("leaves a task alone that is %s, and says so", async (_what, prepare) => {
    const hook = new TestHook({ on_existing: "wake_task" });
    await hook.map(hook.delivery(body()));
    await prepare(hook.runId(7));
    expect(await hook.map(hook.delivery(body()))).toMatchObject({ status: "mapped", woken: false });
  });

  it("is told when there is no task to wake; once there is, mapping it again wakes it", async () => {
    const hook = new TestHook({ on_existing: "wake_task", wake_task_id: "later" });
    await hook.map(hook.delivery(body()));
    const run = objectOf(hook.runId(7));
    const delivery = hook.delivery(body());
    const failed = { status: "mapping_failed", error: { code: "TASK_NOT_FOUND" }, run_id: run.id };
    expect(await hook.map(delivery)).toMatchObject(failed);
    const row = { task_type: "t", id: "later", status: "blocked", payload: null };
    await http("POST", `/v1/runs/${run.id}/tasks`, { body: { tasks: [row] }, status: 201 });
    expect(await hook.map(delivery)).toMatchObject({ status: "mapped", woken: true });
    const events = await eventsOf(run);
    expect(events.filter(({ type }) => type === "issue_changed")).toHaveLength(2);
  });

  it("is told when the run was deleted; with new_run it makes another", async () => {
    const hook = new TestHook();
    await hook.map(hook.delivery(body()));
    await deleteRun(hook.runId(7));
    const delivery = hook.delivery(body());
    expect(await hook.map(delivery)).toMatchObject({
      status: "mapping_failed",
      error: { code: "RUN_DELETED" },
    });
    hook.mapping = { ...hook.mapping, on_existing: "new_run" };
    expect(await hook.map(delivery)).toMatchObject({ status: "mapped", created: true });
  });

  it("is told what the run refuses, and can be mapped again when that is mended", async () => {
    const hook = new TestHook({ on_existing: "add_tasks" });
    await hook.map(hook.delivery(body()));
    const run = objectOf(hook.runId(7));
    await http("POST", `/v1/runs/${run.id}/tasks`, {
      body: { tasks: [{ task_type: "t", id: "taken" }] },
      status: 201,
    });
    const delivery = hook.delivery(body());
    hook.mapping = { ...hook.mapping, tasks: [{ task_type: "t", id: "taken" }] };
    const failed = { status: "mapping_failed", error: { code: "TASK_EXISTS" }, run_id: run.id };
    expect(await hook.map(delivery)).toMatchObject(failed);
    hook.mapping = { ...hook.mapping, tasks: [{ task_type: "t", id: "free" }] };
    expect(await hook.map(delivery)).toMatchObject({ status: "mapped" });
    expect((await eventsOf(run)).filter(({ type }) => type === "issue_changed")).toHaveLength(2);
  });
});

describe("the tenant's quotas", () => {
  /** A hook of a tenant with quotas of its own. */
  function tenantOf(quotas: Partial<Quotas>) {
    const tenant = { ...LOCAL_TENANT, workspace_id: crypto.randomUUID() };
    const hook = new TestHook({ on_existing: "add_tasks" });
    const map = (delivery: ReturnType<TestHook["delivery"]>) =>
      applyMapping(env, { tenant, hook: { hook_id: hook.id, mapping: hook.mapping }, delivery });
    const set = (changed: Partial<Quotas>) => {
      const none = Object.fromEntries(QUOTAS.map((name) => [name, null])) as unknown as Quotas;
      const all = { ...none, ...changed };
      return writeQuotas(env.DIRECTORY, tenantKey(tenant), all, Date.now()).run();
    };
    return { hook, map, set, ready: set(quotas) };
  }

  it("of runs: no more are made, those that are there go on, and what was refused can be mapped later", async () => {
    const { hook, map, set, ready } = tenantOf({ runs: 1 });
    await ready;
    const first = hook.delivery(body());
    expect(await map(first)).toMatchObject({ status: "mapped", created: true });
    expect(await map(first)).toMatchObject({ status: "mapped", created: true });
    const refused = hook.delivery(body({ issue: 8 }));
    const error = { code: "QUOTA_EXCEEDED", quota: "runs", limit: 1, used: 1 };
    expect(await map(refused)).toMatchObject({ status: "mapping_failed", error });
    expect(await map(hook.delivery(body()))).toMatchObject({ status: "mapped", created: false });
    await set({ runs: 2 });
    expect(await map(refused)).toMatchObject({ status: "mapped", created: true });
  });

  it("of bytes: a payload that does not fit is told, before it is kept", async () => {
    const { hook, map, set, ready } = tenantOf({ artifact_bytes: 10 });
    await ready;
    const delivery = hook.delivery(body());
    const error = { code: "QUOTA_EXCEEDED", quota: "artifact_bytes", limit: 10, used: 0 };
    const refused = await map(delivery);
    expect(refused).toMatchObject({ status: "mapping_failed", error });
    await set({});
    const done = await map(delivery);
    expect(done).toMatchObject({ status: "mapped", created: true });
    // What is kept already takes nothing more.
    await set({ artifact_bytes: 10 });
    expect(await map(delivery)).toEqual(done);
    expect(await map(hook.delivery(body()))).toMatchObject({
      status: "mapping_failed",
      error: { used: expect.any(Number) },
    });
  });
});

describe("exactly once", () => {
  it("a delivery that is mapped again changes nothing, and is answered the same", async () => {
    for (const on_existing of ON_EXISTING) {
      const hook = new TestHook({ on_existing });
      const deliveries = [hook.delivery(body()), hook.delivery(body({ title: "Again" }))];
      const answers: Mapped[] = [];
      for (const delivery of deliveries) answers.push(await hook.map(delivery));
      const after = await outcomeOf(hook.runId(7));
      for (const [index, delivery] of [...deliveries.entries()].reverse()) {
        expect(await hook.map(delivery)).toEqual(answers[index]);
      }
      expect(await outcomeOf(hook.runId(7))).toEqual(after);
    }
  });

  it("a hundred at once are one", async () => {
    const hook = new TestHook({ on_existing: "add_tasks" });
    const delivery = hook.delivery(body());
    const answers = await Promise.all(Array.from({ length: 100 }, () => hook.map(delivery)));
    const [first] = answers;
    expect(first).toMatchObject({ status: "mapped", created: true });
    for (const answer of answers) expect(answer).toEqual(first);
    expect(await outcomeOf(hook.runId(7))).toMatchObject({
      tasks: { length: 4 },
      events: { length: 6 },
      artifacts: 1,
    });
  });

  it.each(ON_EXISTING)(
    "%s: cut off at any call, before or after it took effect, and mapped again",
    async (on_existing) => {
      const whole = new TestHook({ on_existing });
      const firstDelivery = whole.delivery(body());
      await whole.map(firstDelivery);
      const counted = bindingsUntil(env, null);
      const secondDelivery = whole.delivery(body({ title: "Again" }));
      const answer = await whole.map(secondDelivery, counted.env);
      const expected = await outcomesOf(whole.runId(7), answer);
      const cuts = Array.from({ length: counted.calls() }, (_, call) => call).flatMap((call) =>
        (["before", "after"] as const).map((when): Cut => ({ call, when })),
      );
      expect(cuts.length).toBeGreaterThan(1);
      for (const cut of cuts) {
        const hook = new TestHook({ on_existing });
        await hook.map(hook.delivery(body()));
        const delivery = hook.delivery(body({ title: "Again" }));
        await expect(hook.map(delivery, bindingsUntil(env, cut).env), JSON.stringify(cut)).rejects.toThrow(
          CutOff,
        );
        const again = await hook.map(delivery);
        expect(again.status).toBe(answer.status);
        expect(await outcomesOf(hook.runId(7), again), JSON.stringify(cut)).toEqual(expected);
      }
    },
  );

  it("the first delivery, cut off any number of times anywhere, makes one run", async () => {
    const whole = new TestHook();
    const counted = bindingsUntil(env, null);
    await whole.map(whole.delivery(body()), counted.env);
    const expected = await outcomeOf(whole.runId(7));
    const cut = fc.record({
      call: fc.nat({ max: counted.calls() - 1 }),
      when: fc.constantFrom("before" as const, "after" as const),
    });
    await fc.assert(
      fc.asyncProperty(fc.array(cut, { minLength: 1, maxLength: 6 }), async (cuts) => {
        const hook = new TestHook();
        const delivery = hook.delivery(body());
        for (const cut of cuts) {
          await hook.map(delivery, bindingsUntil(env, cut).env).catch((error: unknown) => {
            if (!(error instanceof CutOff)) throw error;
          });
        }
        const run_id = hook.runId(7);
        expect(await hook.map(delivery)).toEqual({ status: "mapped", run_id, created: true });
        expect(await outcomeOf(run_id)).toEqual(expected);
        expect((await replayOf(objectOf(run_id))).drift.mismatch).toBe(false);
      }),
      { numRuns: 40 },
    );
  });

  it("deliveries of one key that meet make one run, each once in it", async () => {
    const hook = new TestHook({ on_existing: "append_event" });
    const deliveries = Array.from({ length: 20 }, (_, n) => hook.delivery(body({ title: `${n}` })));
    const answers = await Promise.all([...deliveries, ...deliveries].map((delivery) => hook.map(delivery)));
    expect(new Set(answers.flatMap((answer) => (answer.status === "mapped" ? [answer.run_id] : [])))).toEqual(
      new Set([hook.runId(7)]),
    );
    expect(answers.filter((answer) => answer.status === "mapped" && answer.created)).toHaveLength(2);
    const events = await eventsOf(objectOf(hook.runId(7)));
    expect(events.filter(({ type }) => type === "issue_changed")).toHaveLength(20);
  });
});
