import { beforeEach, describe, expect, it } from "vitest";
import { type Answered, callAs, mint, newTenant } from "../support/tokens.ts";

let operator: string;
let run: string;

beforeEach(async () => {
  ({ token: operator } = await mint({ scopes: ["operator"], tenant: newTenant() }));
  const { body } = await callAs(operator, "POST", "/v1/runs", { objective: "o" });
  run = body.run.run_id;
  await addTasks(operator, [
    { id: "x1", task_type: "x" },
    { id: "y1", task_type: "y" },
    { id: "z1", task_type: "z" },
  ]);
});

const DOORS = ["/v1", "/context"] as const;

function addTasks(credential: string, tasks: object[], door: string = "/v1"): Promise<Answered> {
  return callAs(credential, "POST", `${door}/runs/${run}/tasks`, { tasks });
}

function claim(credential: string, body: object, door: string = "/v1"): Promise<Answered> {
  return callAs(credential, "POST", `${door}/runs/${run}/tasks/claim`, body);
}

function move(credential: string, task: string, body: object, door: string = "/v1"): Promise<Answered> {
  return callAs(credential, "POST", `${door}/runs/${run}/tasks/${task}/transition`, body);
}

function expectBound(answer: Answered, bound: string, allowed: string[]): void {
  expect(answer.status).toBe(403);
  expect(answer.body).toMatchObject({ code: "TOKEN_BOUND", bound, allowed });
}

describe.each(DOORS)("a token that is bound to an agent, at %s", (door) => {
  let token: string;
  beforeEach(async () => {
    ({ token } = await mint({ scopes: ["planner"], agent_id: "a-1" }, operator));
  });

  it("claims as that agent, whether it says so or not, and as no other", async () => {
    expectBound(await claim(token, { agent_id: "a-2" }, door), "agent_id", ["a-1"]);
    expectBound(await claim(token, { agent_id: "" }, door), "agent_id", ["a-1"]);
    expect((await claim(token, {}, door)).body.task).toMatchObject({ lease_owner: "a-1" });
    expect((await claim(token, { agent_id: null }, door)).body.task).toMatchObject({ lease_owner: "a-1" });
    expect((await claim(token, { agent_id: " a-1 " }, door)).body.task).toMatchObject({ lease_owner: "a-1" });
  });

  it("moves tasks as that agent", async () => {
    expectBound(await move(token, "x1", { action: "complete", agent_id: "a-2" }, door), "agent_id", ["a-1"]);
    const { body } = await move(token, "x1", { action: "status", status: "in_progress" }, door);
    expect(body.code).not.toBe("TOKEN_BOUND");
  });

  it("cannot put tasks of other agents in place of the run's", async () => {
    const { body } = await callAs(operator, "GET", `/context/runs/${run}`);
    expectBound(await callAs(token, "PUT", `${door}/runs/${run}`, body.run), "agent_id", ["a-1"]);
  });

  it("a body that is no object is refused as ever", async () => {
    expect((await claim(token, [], door)).status).toBe(422);
  });
});

describe.each(DOORS)("a token that is bound to task types, at %s", (door) => {
  it("one: claims ask for it, whether they say so or not", async () => {
    const { token } = await mint({ scopes: ["agent"], task_types: ["y"] }, operator);
    expectBound(await claim(token, { agent_id: "a", task_type: "x" }, door), "task_types", ["y"]);
    expectBound(await claim(token, { agent_id: "a", task_type: "" }, door), "task_types", ["y"]);
    expect((await claim(token, { agent_id: "a" }, door)).body.task.id).toBe("y1");
    expect((await claim(token, { agent_id: "a", task_type: "y" }, door)).body.task).toBeNull();
  });

  it("several: claims must say which", async () => {
    const { token } = await mint({ scopes: ["agent"], task_types: ["y", "z"] }, operator);
    expectBound(await claim(token, { agent_id: "a" }, door), "task_types", ["y", "z"]);
    expect((await claim(token, { agent_id: "a", task_type: "z" }, door)).body.task.id).toBe("z1");
  });

  it("moves only tasks of these types, by the type that the task has", async () => {
    const { token } = await mint({ scopes: ["agent"], task_types: ["y"] }, operator);
    const action = { action: "status", status: "blocked" };
    expectBound(await move(token, "x1", action, door), "task_types", ["y"]);
    expect((await move(token, "y1", action, door)).body.task.status).toBe("blocked");
    expect((await move(token, "none", action, door)).body.code).toBe("TASK_NOT_FOUND");
  });

  it("creates only tasks of these types, all or none, and none in place of others", async () => {
    const { token } = await mint({ scopes: ["agent"], task_types: ["y"] }, operator);
    expectBound(
      await addTasks(token, [{ task_type: "y", id: "new" }, { task_type: "x" }], door),
      "task_types",
      ["y"],
    );
    expect((await callAs(operator, "GET", `/v1/runs/${run}/tasks/new`)).status).toBe(404);
    expectBound(await addTasks(token, [{ task_type: "y", id: "x1" }], door), "task_types", ["y"]);
    expect((await addTasks(token, [{ task_type: "y" }], door)).body.tasks).toHaveLength(1);
  });

  it("cannot bring tasks of other types along with a run", async () => {
    const { token } = await mint({ scopes: ["planner"], task_types: ["y"] }, operator);
    const { body } = await callAs(operator, "GET", `/context/runs/${run}`);
    expectBound(await callAs(token, "PUT", `${door}/runs/${run}`, body.run), "task_types", ["y"]);
    const lines = { "content-type": "application/x-ndjson" };
    expectBound(await callAs(token, "POST", "/v1/runs/import", "{}", lines), "task_types", ["y"]);
  });

  it("cannot have tasks of other types made for it: by a fork, or by what a hook is told to make", async () => {
    const planner = await mint({ scopes: ["planner"], task_types: ["y"] }, operator);
    expectBound(await callAs(planner.token, "POST", `/v1/runs/${run}/fork`, {}), "task_types", ["y"]);
    const { token } = await mint({ scopes: ["operator"], task_types: ["y"] }, operator);
    const hook = {
      name: "h",
      scheme: { kind: "shared_secret", header: "x-token" },
      mapping: { run: { objective: "o" }, run_key: "all", tasks: { task_type: "x" } },
    };
    expectBound(
      await callAs(token, "POST", "/v1/hooks", { ...hook, secret: "a shared secret" }),
      "task_types",
      ["y"],
    );
    expectBound(await callAs(token, "PUT", "/v1/hooks/hook_any", hook), "task_types", ["y"]);
    expectBound(await callAs(token, "POST", "/v1/hooks/hook_any/deliveries/d/replay"), "task_types", ["y"]);
  });

  it("a repeat of its own claim is answered as the first time", async () => {
    const { token } = await mint({ scopes: ["agent"], task_types: ["y"], agent_id: "a" }, operator);
    const asked = { command_id: "c-1" };
    const first = await claim(token, asked, door);
    const again = await claim(token, asked, door);
    const lease = (answer: Answered) => (answer.body.task ?? answer.body.deduped_task).lease_token;
    expect(lease(again)).toBe(lease(first));
  });
});

describe("a batch, with a token that is bound", () => {
  const send = (credential: string, commands: object[]): Promise<Answered> =>
    callAs(credential, "POST", `/v1/runs/${run}/commands`, { commands });
  const note = { op: "append_event", type: "n", status: "running" };

  it("each command keeps to the agent, and says it where the sender does not", async () => {
    const { token } = await mint({ scopes: ["agent"], agent_id: "a-1" }, operator);
    const other = await send(token, [note, { op: "claim", agent_id: "a-2" }]);
    expectBound(other, "agent_id", ["a-1"]);
    expect(other.body).toMatchObject({ command: 1, issues: [{ field: "commands[1]" }] });
    const { body } = await send(token, [note, { op: "claim" }]);
    expect(body.results[1].task).toMatchObject({ lease_owner: "a-1" });
  });

  it("each command keeps to the task types, those of tasks that are there too", async () => {
    const { token } = await mint({ scopes: ["agent"], task_types: ["y"] }, operator);
    const create = (task_type: string) => ({ op: "create_tasks", tasks: [{ task_type }] });
    expectBound(await send(token, [note, create("x")]), "task_types", ["y"]);
    const cancelled = await send(token, [note, { op: "status", task_id: "x1", status: "blocked" }]);
    expectBound(cancelled, "task_types", ["y"]);
    expect(cancelled.body.command).toBe(1);
    const { body } = await send(token, [create("y"), { op: "claim", agent_id: "a" }]);
    expect(body.results[1].task.id).toBe("y1");
  });

  it("a viewer sends none, and a token of another run finds nothing", async () => {
    const { token } = await mint({ scopes: ["viewer"] }, operator);
    expect((await send(token, [note])).status).toBe(403);
    const elsewhere = await mint({ scopes: ["agent"], run_id: "another" }, operator);
    expect((await send(elsewhere.token, [note])).status).toBe(404);
  });
});
