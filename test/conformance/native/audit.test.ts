import { describe, expect, it } from "vitest";
import {
  type AuditBody,
  append,
  appendLedger,
  appendMutation,
  audited,
  createdFile,
  mutatedFile,
  rollBack,
  sha256,
  typesOf,
} from "../audit-support.ts";
import {
  call,
  claim,
  eventsOf,
  everything,
  lastEvent,
  must,
  newRun,
  type RunRoutes,
  routes,
  runOf,
  taskOf,
} from "../support.ts";
import { artifactPath, fileOf, upload } from "./artifact-calls.ts";
import { addNativeTasks, allPages, good, newNativeRun, problem } from "./support.ts";

const deletedFile = (path: string, content: string) =>
  mutatedFile({ path, existed_after: false, rollback_snapshot: { status: "inline_text", content } });

/** Brings a path of the artifact space to a content, and answers the version that this makes. */
async function write(run: RunRoutes, path: string, content: string): Promise<number> {
  const id = await appendMutation(run, [deletedFile(path, content)]);
  return good(await rollBack(run, [id])).event.seq;
}

const MUTATION = { session_id: "s", message_id: "m", tool: "edit", outcome: "succeeded" };

describe("v1 audit views", () => {
  it("GET run shows the audit beside the run, as /context does", async () => {
    const run = await newNativeRun();
    await appendLedger(run);
    await appendMutation(run, [createdFile()]);
    const { run: _run, ...members } = audited(await routes(run.id).get());
    expect(audited(await run.get()).audit).toEqual(members);
    const answer = await run.put({ ...(await runOf(run)), command_id: "k" });
    good(answer);
    expect(audited(await run.get()).audit).toEqual(members);
  });

  it.each([
    ["/ledger", "records"],
    ["/checkpoints/mutations", "records"],
    ["/checkpoints/mutations/rollback-preview", "steps"],
    ["/checkpoints/mutations/rollback-history", "entries"],
  ] as const)("%s in pages, with the totals of the whole run", async (path, member) => {
    const run = await newNativeRun();
    for (let index = 0; index < 3; index += 1) {
      await appendLedger(run, { tool: `t${index}` });
      await appendMutation(run, [createdFile({ path: `f${index}` })]);
      await append(run, "note", null);
      await append(run, "rollback_execution_blocked", { reason: `r${index}` });
    }
    const { [member]: items, ...totals } = audited(await routes(run.id).get(path));
    expect(items).toHaveLength(3);
    for (const limit of [1, 2, 3, 1000]) {
      const first = audited(await run.get(`${path}?limit=${limit}`));
      expect(first).toMatchObject(totals);
      const pages = await allPages(
        `/v1/runs/${run.id}${path}?limit=${limit}`,
        (body) => (body as unknown as AuditBody)[member] as unknown[],
      );
      expect(pages.rows).toEqual(items);
    }
    const since = await allPages(
      `/v1/runs/${run.id}${path}?since_seq=4&limit=1`,
      (body) => (body as unknown as AuditBody)[member] as { seq: number }[],
    );
    expect(since.rows.map(({ seq }) => seq > 4)).toEqual([true, true]);
    expect(audited(await run.get(`${path}?tail=4`))[member]).toHaveLength(1);
    problem(await run.get(`${path}?cursor=x`), 400, "CURSOR_INVALID");
    problem(await routes("nowhere", "/v1").get(path), 404, "RUN_NOT_FOUND");
  });
});

describe("v1 POST checkpoints/mutations", () => {
  it("records engine-side what became of paths, and its undo can be applied", async () => {
    const run = await newNativeRun();
    const first = await write(run, "a.bin", "v1");
    const second = await write(run, "b.txt", "new");
    const removed = await appendMutation(run, [createdFile({ path: "a.bin", after_hash: sha256("v1") })]);
    const third = good(await rollBack(run, [removed])).event.seq;
    const files = [
      { path: "a.bin", before_version: first, after_version: third },
      { path: "b.txt", before_version: null, after_version: second },
      { path: "c.txt", before_version: null, after_version: null },
    ];
    const body = good(
      await run.post("/checkpoints/mutations", { ...MUTATION, tool_call_id: "c", files }),
      201,
    );
    const record = {
      ...MUTATION,
      tool_call_id: "c",
      file_count: 3,
      changed_file_count: 2,
      files: [
        {
          path: "a.bin",
          resolved_path: "a.bin",
          existed_before: true,
          existed_after: false,
          changed: true,
          before_hash: `sha256:${sha256("v1")}`,
          rollback_snapshot: {
            status: "stored",
            sha256: sha256("v1"),
            byte_count: 2,
            content_type: "text/plain; charset=utf-8",
            version: first,
          },
        },
        {
          path: "b.txt",
          resolved_path: "b.txt",
          existed_before: false,
          existed_after: true,
          changed: true,
          after_hash: `sha256:${sha256("new")}`,
          rollback_snapshot: { status: "not_needed" },
        },
        {
          path: "c.txt",
          resolved_path: "c.txt",
          existed_before: false,
          existed_after: false,
          changed: false,
          rollback_snapshot: { status: "not_needed" },
        },
      ],
    };
    const { event } = body;
    expect(event).toMatchObject({
      type: "mutation_checkpoint_recorded",
      status: "paused",
      run_status: "paused",
    });
    expect(event.origin).toBeUndefined();
    expect(event.payload).toEqual({ sessionID: "s", messageID: "m", tool: "edit", record });
    const { records } = audited(await run.get("/checkpoints/mutations?tail=1"));
    expect(records).toMatchObject([{ event_id: event.event_id, record }]);
    const { steps } = audited(await run.get("/checkpoints/mutations/rollback-preview?tail=1"));
    expect(steps).toMatchObject([
      {
        executable: true,
        operations: [
          {
            path: "a.bin",
            action: "recreate_deleted_file",
            operation: {
              kind: "write_file",
              path: "a.bin",
              artifact: {
                sha256: sha256("v1"),
                bytes: 2,
                content_type: "text/plain; charset=utf-8",
                version: first,
              },
            },
          },
          { path: "b.txt", action: "delete_created_file" },
        ],
      },
    ]);
    expect(good(await rollBack(run, [event.event_id])).event.payload).toMatchObject({
      files: [
        { path: "a.bin", sha256: sha256("v1"), bytes: 2, content_type: "text/plain; charset=utf-8" },
        { path: "b.txt", sha256: null, bytes: 0 },
      ],
    });
    expect(audited(await routes(run.id).get("/replay")).drift.mismatch).toBe(false);
  });

  it("a repeat under one key gets the same record", async () => {
    const run = await newNativeRun();
    const body = { ...MUTATION, files: [], command_id: "k" };
    const first = good(await run.post("/checkpoints/mutations", body), 201);
    const answer = await run.post("/checkpoints/mutations", body);
    expect(good(answer, 201).event).toEqual(first.event);
    expect(answer.headers.get("idempotency-replayed")).toBe("true");
  });

  it.each<[string, Record<string, unknown>, string, string]>([
    ["a version that no commit made", { before_version: 99 }, "files[0].before_version", "known_version"],
    [
      "a version of another path",
      { path: "other", after_version: 2 },
      "files[0].after_version",
      "known_version",
    ],
    [
      "versions in the wrong order",
      { before_version: 2, after_version: 1 },
      "files[0].after_version",
      "order",
    ],
    ["a path outside", { path: "../a" }, "files[0].path", "segments"],
    ["an absolute path", { path: "/a" }, "files[0].path", "relative"],
  ])("refuses %s", async (_, members, field, rule) => {
    const run = await newNativeRun();
    await write(run, "a", "v");
    const before = await everything(run);
    const files = [{ path: "a", before_version: null, after_version: null, ...members }];
    const { issues } = problem(
      await run.post("/checkpoints/mutations", { ...MUTATION, files }),
      400,
      "FIELD_INVALID",
    );
    expect(issues).toMatchObject([{ field, rule }]);
    expect(await everything(run)).toEqual(before);
  });

  it("refuses a path twice, and a body of the wrong shape; /context has no such route", async () => {
    const run = await newNativeRun();
    const file = { path: "a", before_version: null, after_version: null };
    const post = (members: Record<string, unknown>) =>
      run.post("/checkpoints/mutations", { ...MUTATION, ...members });
    problem(await post({ files: [file, file] }), 400, "FIELD_INVALID");
    for (const files of [
      undefined,
      [{ path: "a" }],
      [{ ...file, before_version: -1 }],
      [{ ...file, x: 1 }],
    ]) {
      problem(await post({ files }), 422, "BODY_INVALID");
    }
    expect((await routes(run.id).post("/checkpoints/mutations", { ...MUTATION, files: [] })).status).toBe(
      405,
    );
  });
});

describe("v1 rollback-execute", () => {
  it("a blocked rollback is 409 ROLLBACK_BLOCKED, and recorded", async () => {
    const run = await newNativeRun();
    const blocked = problem(await rollBack(run, ["x"]), 409, "ROLLBACK_BLOCKED");
    expect(blocked).toMatchObject({
      error: "rollback execution is not allowed for the current run status",
      run_status: "queued",
      selected_event_ids: ["x"],
    });
    expect(await lastEvent(run)).toEqual(blocked.event);
  });

  it("more different contents than a request can store are refused; the same content many times is one", async () => {
    const run = await newNativeRun();
    const many = await appendMutation(
      run,
      Array.from({ length: 201 }, (_, index) => deletedFile(`many/${index}`, `${index}`)),
    );
    const refused = problem(await rollBack(run, [many]), 413, "LIMIT_EXCEEDED");
    expect(refused).toMatchObject({ limit_name: "rollback_contents", limit: 200, actual: 201 });
    const same = await appendMutation(
      run,
      Array.from({ length: 201 }, (_, index) => deletedFile(`same/${index}`, "x")),
    );
    expect(good(await rollBack(run, [same])).event.payload).toMatchObject({ applied_operation_count: 201 });
  });

  it("an applied one answers with its event", async () => {
    const run = await newNativeRun();
    const id = await appendMutation(run, [deletedFile("a", "x")]);
    const body = good(await rollBack(run, [id]));
    expect(body).toMatchObject({ applied: true, applied_step_count: 1, event: { seq: 2 } });
    expect(await lastEvent(run)).toEqual(body.event);
  });
});

describe("v1 rollback of uploaded artifacts", () => {
  it("brings back a binary of any size that was overwritten, and takes away what was made", async () => {
    const run = await newNativeRun();
    const before = new Uint8Array(1024 * 1024).map((_, index) => index * 7);
    const headers = { "content-type": "image/png" };
    const first = fileOf(await upload(run, "img/logo.png", before, headers));
    const second = fileOf(await upload(run, "img/logo.png", "broken"));
    const made = fileOf(await upload(run, "new.txt", "new"));
    const files = [
      { path: "img/logo.png", before_version: first.version, after_version: second.version },
      { path: "new.txt", before_version: null, after_version: made.version },
    ];
    await append(run, "note", null);
    const { event } = good(await run.post("/checkpoints/mutations", { ...MUTATION, files }), 201);
    expect(good(await rollBack(run, [event.event_id])).event.type).toBe("rollback_execution_applied");
    const logo = await call("GET", artifactPath(run, "img/logo.png"));
    expect([logo.status, logo.headers.get("content-type"), logo.headers.get("etag")]).toEqual([
      200,
      "image/png",
      `"${first.sha256}"`,
    ]);
    expect((await call("GET", artifactPath(run, "new.txt"))).status).toBe(404);
    expect((await call("GET", `${artifactPath(run, "new.txt")}?version=${made.version}`)).text).toBe("new");
  });

  it("an upload after the recorded change blocks it", async () => {
    const run = await newNativeRun();
    const first = fileOf(await upload(run, "a", "1"));
    const second = fileOf(await upload(run, "a", "2"));
    await append(run, "note", null);
    const files = [{ path: "a", before_version: first.version, after_version: second.version }];
    const { event } = good(await run.post("/checkpoints/mutations", { ...MUTATION, files }), 201);
    await upload(run, "a", "3");
    const blocked = problem(await rollBack(run, [event.event_id]), 409, "ROLLBACK_BLOCKED");
    expect(blocked).toMatchObject({ conflicting_paths: ["a"] });
    expect((await call("GET", artifactPath(run, "a"))).text).toBe("3");
  });
});

describe("v1 rollback by an agent", () => {
  /** A run with a step that an agent was asked to undo. */
  async function requested() {
    const run = await newNativeRun({
      workspace: { workspace_id: "w", canonical_path: "/srv/ws", lease_epoch: 1 },
    });
    const step = await appendMutation(run, [mutatedFile({ after_hash: "any" })]);
    const answer = await rollBack(run, [step], { executor: "agent", command_id: "k" });
    const body = good(answer, 202) as unknown as AuditBody & { task_id: string };
    return { run, step, body, taskId: body.task_id };
  }
  const preview = async (run: RunRoutes) =>
    audited(await run.get("/checkpoints/mutations/rollback-preview")).steps;
  const end = async (run: RunRoutes, action: string, members = {}) => {
    const { id, lease_token } = await claim(run);
    return good(await run.post(`/tasks/${id}/transition`, { action, lease_token, ...members }));
  };

  it("makes a task with the plan, and its completion is the outcome", async () => {
    const { run, step, body, taskId } = await requested();
    expect(body).toMatchObject({
      applied: false,
      event: { type: "rollback_execution_requested", status: "paused" },
    });
    expect(await taskOf(run, taskId)).toMatchObject({
      task_type: "context.rollback",
      status: "pending",
      max_attempts: 1,
      payload: {
        workspace_root: "/srv/ws",
        steps: [
          {
            seq: 1,
            event_id: step,
            tool: "edit",
            operations: [
              {
                path: "a.txt",
                action: "restore_previous_contents",
                kind: "write_file",
                content: "before",
                expected: { exists: true, hash: "any" },
              },
            ],
          },
        ],
      },
    });
    expect((await preview(run))[0]).not.toHaveProperty("applied");
    await end(run, "complete");
    const event = await lastEvent(run);
    expect(event).toMatchObject({
      type: "rollback_execution_applied",
      status: "paused",
      run_status: "paused",
    });
    expect(event.payload).toEqual({
      workspace_root: "/srv/ws",
      selected_event_ids: [step],
      applied_step_count: 1,
      applied_operation_count: 1,
      applied_by_action: { restore_previous_contents: 1 },
      steps: [
        {
          seq: 1,
          event_id: step,
          tool: "edit",
          operation_count: 1,
          operations: [{ path: "a.txt", action: "restore_previous_contents", kind: "write_file" }],
        },
      ],
      task_id: taskId,
    });
    expect(await preview(run)).toMatchObject([{ applied: true, applied_seq: event.seq }]);
    problem(await rollBack(run, [step], { executor: "agent" }), 409, "ROLLBACK_BLOCKED");
    expect(audited(await routes(run.id).get("/replay")).drift.mismatch).toBe(false);
  });

  it("the first transition under a key that ends it can be repeated", async () => {
    const { run, taskId } = await requested();
    const { lease_token } = await claim(run);
    const body = { action: "complete", lease_token, command_id: "done" };
    const first = good(await run.post(`/tasks/${taskId}/transition`, body));
    expect(good(await run.post(`/tasks/${taskId}/transition`, body))).toEqual(first);
    expect((await typesOf(run)).filter((type) => type === "rollback_execution_applied")).toHaveLength(1);
  });

  it("a failed task blocks the rollback, with its error as the reason", async () => {
    const { run, step, taskId } = await requested();
    await end(run, "fail", { error: "file is locked" });
    expect((await lastEvent(run)).payload).toEqual({
      reason: "file is locked",
      selected_event_ids: [step],
      missing_event_ids: null,
      task_id: taskId,
    });
    expect(audited(await run.get()).audit).toMatchObject({
      last_rollback_outcome: { outcome: "blocked", reason: "file is locked" },
    });
    // It may be asked for again; the old task no longer counts.
    good(await run.post(`/tasks/${taskId}/transition`, { action: "retry" }));
    await end(run, "complete");
    expect(await typesOf(run)).not.toContain("rollback_execution_applied");
    good(await rollBack(run, [step], { executor: "agent" }), 202);
  });

  it("a released, blocked or requeued task decides nothing", async () => {
    const { run } = await requested();
    await end(run, "release");
    await end(run, "status", { status: "blocked" });
    expect((await typesOf(run)).filter((type) => type.startsWith("rollback_"))).toEqual([
      "rollback_execution_requested",
    ]);
  });

  it("a step that an agent is undoing cannot be asked for twice", async () => {
    const { run, step } = await requested();
    for (const executor of ["agent", "artifacts"]) {
      const blocked = problem(await rollBack(run, [step], { executor }), 409, "ROLLBACK_BLOCKED");
      expect(blocked.error).toBe("selected rollback step is being applied by an agent");
    }
  });

  it("a repeat under one key gets the same task", async () => {
    const { run, step, body } = await requested();
    const again = good(await rollBack(run, [step], { executor: "agent", command_id: "k" }), 202);
    expect(again).toEqual(body);
  });

  it("a look-alike task has no such effect", async () => {
    const run = await newNativeRun();
    const step = await appendMutation(run, [createdFile()]);
    const payload = { workspace_root: "", steps: [{ seq: 1, event_id: step, operations: [] }] };
    await addNativeTasks(run, { id: "rollback-x", task_type: "context.rollback", payload });
    await append(run, "rollback_execution_requested", {
      task_id: "rollback-x",
      applied: { steps: [{ seq: 1 }] },
    });
    await end(run, "complete");
    expect(await typesOf(run)).not.toContain("rollback_execution_applied");
    expect((await preview(run))[0]).not.toHaveProperty("applied");
  });

  it("neither has one that takes the task's place, by its id or by a PUT", async () => {
    const one = await requested();
    const context = routes(one.run.id);
    expect(
      must(await context.post("/tasks", { tasks: [{ id: one.taskId, task_type: "context.rollback" }] })).ok,
    ).toBe(true);
    await end(one.run, "complete");
    expect(await typesOf(one.run)).not.toContain("rollback_execution_applied");

    const other = await requested();
    good(await other.run.put(await runOf(other.run)));
    await end(other.run, "complete");
    expect(await typesOf(other.run)).not.toContain("rollback_execution_applied");
  });

  it("needs an eligible run, known steps and safe paths, as any rollback", async () => {
    const run = await newNativeRun();
    const agent = { executor: "agent" };
    problem(await rollBack(run, ["x"], agent), 409, "ROLLBACK_BLOCKED");
    const outside = await appendMutation(run, [deletedFile("../x", "x")]);
    problem(await rollBack(run, ["x"], agent), 409, "ROLLBACK_BLOCKED");
    problem(await rollBack(run, [outside], agent), 400, "FIELD_INVALID");
    problem(await rollBack(run, [outside], { executor: "me" }), 422, "BODY_INVALID");
    expect(await eventsOf(run)).toHaveLength(3);
  });

  it("16 at once, and no more", async () => {
    const run = await newNativeRun();
    for (let index = 0; index < 17; index += 1) {
      const step = await appendMutation(run, [createdFile({ path: `f${index}` })]);
      const answer = await rollBack(run, [step], { executor: "agent" });
      if (index < 16) good(answer, 202);
      else
        expect(problem(answer, 413, "LIMIT_EXCEEDED")).toMatchObject({ limit_name: "open_rollback_tasks" });
    }
  });

  it("a plan that is too large for a task is refused", async () => {
    const run = await newNativeRun();
    const big = "x".repeat(200_000);
    const one = await appendMutation(run, [deletedFile("a", big)]);
    const two = await appendMutation(run, [deletedFile("b", big)]);
    const refused = problem(await rollBack(run, [one, two], { executor: "agent" }), 413, "LIMIT_EXCEEDED");
    expect(refused).toMatchObject({ limit_name: "task_payload_bytes" });
    expect(good(await rollBack(run, [one, two])).event.type).toBe("rollback_execution_applied");
  });

  it("is not offered on /context, which ignores the field", async () => {
    const run = await newRun();
    const step = await appendMutation(run, [deletedFile("a", "x")]);
    expect(audited(await rollBack(run, [step], { executor: "agent" })).applied).toBe(true);
  });
});
