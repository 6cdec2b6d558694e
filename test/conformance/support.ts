import { randomUUID } from "node:crypto";
import { expect, inject } from "vitest";
import type { Body, EventRecord, Patch, Run, Task } from "./wire.ts";

export type * from "./wire.ts";

/** Header changes of one request; null removes a header that is sent otherwise. */
export type HeaderChanges = Record<string, string | null>;

/** One answer; `body` is the parsed JSON, or an empty object when the text is not JSON. */
export interface Answer {
  status: number;
  headers: Headers;
  text: string;
  body: Body;
}

/** Sends one request with the credential. A byte array goes out as it is, anything else as JSON. */
export async function call(
  method: string,
  path: string,
  body?: unknown,
  headers: HeaderChanges = {},
): Promise<Answer> {
  const sent = new Headers({ "x-agent-token": inject("token") });
  if (body !== undefined) sent.set("content-type", "application/json");
  for (const [name, value] of Object.entries(headers)) {
    if (value === null) sent.delete(name);
    else sent.set(name, value);
  }
  const bytes = body === undefined || body instanceof Uint8Array ? body : raw(JSON.stringify(body));
  const response = await fetch(inject("baseUrl") + path, {
    method,
    headers: sent,
    redirect: "manual",
    ...(bytes === undefined ? {} : { body: bytes }),
  });
  const text = await response.text();
  const isJson = /[/+]json/.test(response.headers.get("content-type") ?? "") && text !== "";
  return {
    status: response.status,
    headers: response.headers,
    text,
    body: (isJson ? JSON.parse(text) : {}) as Body,
  };
}

/** Text as the bytes of a request body, for JSON that `JSON.stringify` cannot write. */
export function raw(text: string): Uint8Array<ArrayBuffer> {
  return new Uint8Array(new TextEncoder().encode(text));
}

/** The routes of one run at one door. */
export interface RunRoutes {
  id: string;
  get(sub?: string, headers?: HeaderChanges): Promise<Answer>;
  post(sub: string, body?: unknown, headers?: HeaderChanges): Promise<Answer>;
  put(body: unknown, headers?: HeaderChanges): Promise<Answer>;
}

/** A run by its id; nothing is sent. */
export function routes(id: string, door: "/context" | "/v1" = "/context"): RunRoutes {
  const path = (sub: string) => `${door}/runs/${encodeURIComponent(id)}${sub}`;
  return {
    id,
    get: (sub = "", headers = {}) => call("GET", path(sub), undefined, headers),
    post: (sub, body, headers = {}) => call("POST", path(sub), body, headers),
    put: (body, headers = {}) => call("PUT", path(""), body, headers),
  };
}

/** An id no other test uses. */
export function freshId(prefix = "conf"): string {
  return `${prefix}-${randomUUID()}`;
}

/** Creates a run of its own for a test. */
export async function newRun(
  fields: Record<string, unknown> = {},
  door: "/context" | "/v1" = "/context",
): Promise<RunRoutes> {
  const id = freshId();
  must(
    await call("POST", `${door}/runs`, { run_id: id, objective: "", ...fields }),
    door === "/v1" ? 201 : 200,
  );
  return routes(id, door);
}

/** The body of an answer that has to have this status. */
export function must(answer: Answer, status = 200): Body {
  expect(answer.status, answer.text).toBe(status);
  return answer.body;
}

/** The run as `/context` shows it now. */
export async function runOf(run: RunRoutes): Promise<Run> {
  return must(await routes(run.id).get()).run;
}

/** All events of the run. */
export async function eventsOf(run: RunRoutes): Promise<EventRecord[]> {
  return must(await routes(run.id).get("/events")).events;
}

/** All patches of the run. */
export async function patchesOf(run: RunRoutes): Promise<Patch[]> {
  return must(await routes(run.id).get("/blackboard/patches")).patches;
}

/** The newest event of the run. */
export async function lastEvent(run: RunRoutes): Promise<EventRecord> {
  const event = (await eventsOf(run)).at(-1);
  if (event === undefined) throw new Error("the run has no event");
  return event;
}

/** The newest patch of the run. */
export async function lastPatch(run: RunRoutes): Promise<Patch> {
  const patch = (await patchesOf(run)).at(-1);
  if (patch === undefined) throw new Error("the run has no patch");
  return patch;
}

/** One task of the run as everybody sees it. */
export async function taskOf(run: RunRoutes, id: string): Promise<Task> {
  const task = (await runOf(run)).tasks.find((row) => row.id === id);
  if (task === undefined) throw new Error(`the run has no task ${id}`);
  return task;
}

/** Brings the run to a state by PUT: the stored run with some members replaced; undefined removes one. */
export async function arrange(run: RunRoutes, fields: Record<string, unknown>): Promise<Run> {
  return must(await routes(run.id).put({ ...(await runOf(run)), ...fields })).run;
}

/** Creates tasks from rows; `task_type` is "custom" unless a row says otherwise. */
export async function addTasks(run: RunRoutes, ...rows: Record<string, unknown>[]): Promise<Task[]> {
  const tasks = rows.map((row) => ({ task_type: "custom", ...row }));
  const body = must(await routes(run.id).post("/tasks", { tasks }));
  expect(body.ok, JSON.stringify(body)).toBe(true);
  return body.tasks;
}

/** Claims the next task and answers it with its token. */
export async function claim(
  run: RunRoutes,
  fields: Record<string, unknown> = {},
): Promise<Task & { lease_token: string }> {
  const { task } = must(await routes(run.id).post("/tasks/claim", { agent_id: "agent-1", ...fields }));
  if (task?.lease_token === undefined) throw new Error("nothing was claimed");
  return { ...task, lease_token: task.lease_token };
}

/** Everything a client can see of a run, for comparing before and after. */
export async function everything(run: RunRoutes): Promise<Record<string, unknown>> {
  const at = routes(run.id);
  const [state, events, patches, board] = await Promise.all([
    at.get(),
    at.get("/events"),
    at.get("/blackboard/patches"),
    at.get("/blackboard"),
  ]);
  return {
    run: must(state).run,
    events: must(events).events,
    patches: must(patches).patches,
    blackboard: must(board).blackboard,
  };
}

/** Asks again until the answer is there; fails after the deadline. */
export async function eventually<T>(ask: () => Promise<T | undefined>, deadlineMs: number): Promise<T> {
  const endMs = Date.now() + deadlineMs;
  while (Date.now() < endMs) {
    const found = await ask();
    if (found !== undefined) return found;
    await new Promise((resolve) => setTimeout(resolve, 100));
  }
  throw new Error(`nothing within ${deadlineMs} ms`);
}

/** What stands for a lease token in every view but the claimer's answer. */
export const FINGERPRINT = /^sha256:[0-9a-f]{32}$/;

/** A generated id: a prefix and a lower-case UUID of version 4. */
export function generatedId(prefix: string): unknown {
  return expect.stringMatching(
    new RegExp(`^${prefix}-[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$`),
  );
}

export const RUN_STATUSES = [
  "queued",
  "planning",
  "running",
  "awaiting_approval",
  "paused",
  "blocked",
  "failed",
  "completed",
  "cancelled",
] as const;

export const TERMINAL = ["failed", "completed", "cancelled"] as const;

export const TASK_STATUSES = ["pending", "runnable", "in_progress", "blocked", "done", "failed"] as const;
