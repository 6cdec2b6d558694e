import { expect } from "vitest";
import type { Op } from "./asks.ts";
import { isOver, type Lock, type Policy, type State, type Status, type Task, taskOf } from "./state.ts";
import { dropLease, endAttempt, isDue, settleAll, settleHalt, settleNext, settleOne } from "./time.ts";

/** What the server answered. `members`: the body, of a batch the part that is about one command. */
export interface Reply {
  ok: boolean;
  status: number;
  members: Record<string, unknown>;
}

/** Whether a command must be accepted; if not, by which codes it may be refused. `may`: both are right. */
export interface Verdict {
  may: "accept" | "refuse" | "either";
  codes: string[];
}

const ACCEPT: Verdict = { may: "accept", codes: [] };
const STALE = ["TASK_LEASE_INVALID", "TASK_LEASE_REQUIRED", "TASK_TRANSITION_INVALID"];
const refuse = (...codes: string[]): Verdict => ({ may: "refuse", codes });
const either = (...codes: string[]): Verdict => ({ may: "either", codes });

/** Holds an answer against the rules, and takes in what it changed. Throws where the two do not agree. */
export function judge(state: State, op: Op, reply: Reply, nowMs: number): void {
  const verdict = verdictOn(state, op, nowMs);
  const told = `${JSON.stringify(op)} was answered ${reply.status} ${JSON.stringify(reply.members)}`;
  if (reply.ok) {
    if (verdict.may === "refuse") throw new Error(`${told}, not ${verdict.codes.join(" or ")}`);
    apply(state, op, reply.members, nowMs);
    return;
  }
  if (verdict.may === "accept") throw new Error(`${told}, though nothing is wrong with it`);
  const code = String(reply.members.code);
  if (!verdict.codes.includes(code)) throw new Error(`${told}, not ${verdict.codes.join(" or ")}`);
  if (code.startsWith("TASK_LEASE")) judgeNamed(state, op, reply.members, nowMs);
}

/** A refusal for want of the lease names who has it, or nobody. */
function judgeNamed(state: State, { task_id }: Op, members: Record<string, unknown>, nowMs: number): void {
  const task = taskOf(state, task_id ?? "");
  const { lease_owner, fence, lease_expires_at_ms } = members;
  const named = { lease_owner, fence, lease_expires_at_ms };
  const nobody = { lease_owner: null, fence: null, lease_expires_at_ms: null };
  const lease = task?.lease ?? null;
  // Of a claim in the same batch nobody was told.
  if (lease?.token === "") return;
  const holder =
    lease === null
      ? nobody
      : { lease_owner: lease.agent, fence: lease.fence, lease_expires_at_ms: lease.expiresMs };
  const isPending = task !== undefined && isDue(state, task, nowMs);
  if (isPending && lease_owner === null) expect(named).toEqual(nobody);
  else expect(named).toEqual(holder);
}

export function verdictOn(state: State, op: Op, nowMs: number): Verdict {
  switch (op.op) {
    case "create_tasks":
      return onCreation(state, op);
    case "heartbeat":
    case "complete":
    case "fail":
    case "release":
    case "retry":
      return onTransition(state, op, nowMs);
    case "append_event":
    case "patch_blackboard":
      return op.task_id === undefined ? ACCEPT : onProof(state, op, nowMs);
    case "redrive_task": {
      const task = taskOf(state, op.task_id ?? "");
      if (task === undefined) return refuse("TASK_NOT_FOUND");
      if (task.isDeadLetter) return ACCEPT;
      return isDue(state, task, nowMs)
        ? either("TASK_TRANSITION_INVALID")
        : refuse("TASK_TRANSITION_INVALID");
    }
    case "cancel_task": {
      const task = taskOf(state, op.task_id ?? "");
      if (task === undefined) return refuse("TASK_NOT_FOUND");
      if (isOver(task)) return refuse("TASK_TRANSITION_INVALID");
      return isDue(state, task, nowMs) ? either("TASK_TRANSITION_INVALID") : ACCEPT;
    }
    case "change_dependencies":
      return onDependencies(state, op, nowMs);
    case "resume_run":
      return state.run.status === "running" ? refuse("RUN_TRANSITION_INVALID") : ACCEPT;
    case "acquire_lock":
      return conflicts(state, op.resources as Lock["resources"], nowMs).length > 0
        ? refuse("LOCK_HELD")
        : ACCEPT;
    case "heartbeat_lock":
    case "release_lock": {
      const lock = state.locks.find(({ id }) => id === op.lock_id);
      const isHeld = lock !== undefined && lock.expiresMs > nowMs && lock.token === op.lease_token;
      return isHeld ? ACCEPT : refuse("LOCK_LOST");
    }
    default:
      return ACCEPT;
  }
}

function onCreation(state: State, { tasks }: Op): Verdict {
  const rows = tasks as { id: string; depends_on_task_ids: string[] }[];
  const edges = new Map(state.tasks.map(({ id, dependsOn }) => [id, dependsOn]));
  const isThere = new Set(edges.keys());
  const codes: string[] = [];
  for (const { id, depends_on_task_ids } of rows) {
    if (isThere.has(id)) codes.push("TASK_EXISTS");
    isThere.add(id);
    edges.set(id, depends_on_task_ids);
    if (isInCycle(id, edges)) codes.push("TASK_DEPENDENCY_CYCLE");
    if (codes.length > 0) return refuse(...codes);
  }
  return ACCEPT;
}

function isInCycle(id: string, edges: ReadonlyMap<string, string[]>): boolean {
  const seen = new Set<string>();
  const ahead = [...(edges.get(id) ?? [])];
  for (let next = ahead.pop(); next !== undefined; next = ahead.pop()) {
    if (next === id) return true;
    if (seen.has(next)) continue;
    seen.add(next);
    ahead.push(...(edges.get(next) ?? []));
  }
  return false;
}

function onTransition(state: State, op: Op, nowMs: number): Verdict {
  const task = taskOf(state, op.task_id ?? "");
  if (task === undefined) return refuse("TASK_NOT_FOUND");
  const proof = onProof(state, op, nowMs);
  if (proof.may === "refuse") return proof;
  const allowed: Record<string, Status[]> = {
    heartbeat: ["in_progress"],
    complete: ["in_progress"],
    fail: ["in_progress", "blocked"],
    release: ["in_progress", "blocked"],
    retry: ["failed", "blocked"],
  };
  const isAllowed = allowed[op.op]?.includes(task.status) === true;
  if (proof.may === "either") return proof;
  if (isAllowed) return ACCEPT;
  return isDue(state, task, nowMs) ? either("TASK_TRANSITION_INVALID") : refuse("TASK_TRANSITION_INVALID");
}

/** Whether a command may be made under the lease that it brings, or without one. */
function onProof(state: State, { op, task_id, lease_token }: Op, nowMs: number): Verdict {
  const task = taskOf(state, task_id ?? "");
  if (task === undefined) return refuse("TASK_NOT_FOUND");
  const { lease } = task;
  const isPending = isDue(state, task, nowMs);
  const isWrite = op === "append_event" || op === "patch_blackboard";
  if (lease_token === undefined) {
    if (isWrite) return refuse("TASK_LEASE_REQUIRED");
    if (lease === null) return ACCEPT;
    if (isPending) return either(...STALE);
    return refuse("TASK_LEASE_REQUIRED");
  }
  if (lease === null || lease.token !== lease_token || lease.expiresMs <= nowMs) {
    return refuse("TASK_LEASE_INVALID");
  }
  return isPending ? either("TASK_LEASE_INVALID") : ACCEPT;
}

function onDependencies(state: State, { task_id, add, remove }: Op, nowMs: number): Verdict {
  const task = taskOf(state, task_id ?? "");
  if (task === undefined) return refuse("TASK_NOT_FOUND");
  if (task.status === "in_progress" || isOver(task)) {
    const codes = ["TASK_TRANSITION_INVALID", "FIELD_INVALID"];
    return isDue(state, task, nowMs) ? either(...codes, "TASK_DEPENDENCY_CYCLE") : refuse(...codes);
  }
  const [added, removed] = [add as string[], remove as string[]];
  const isKnown = (id: string): boolean => task.dependsOn.includes(id);
  // What is asked for must be a change, each edge of it.
  if (added.length + removed.length === 0 || added.some(isKnown) || !removed.every(isKnown)) {
    return refuse("FIELD_INVALID", "TASK_TRANSITION_INVALID");
  }
  const edges = new Map(state.tasks.map(({ id, dependsOn }) => [id, dependsOn]));
  edges.set(task.id, edgesAfter(task, added, removed));
  if (isInCycle(task.id, edges)) {
    // Time may have ended it first.
    const over = isDue(state, task, nowMs) ? ["TASK_TRANSITION_INVALID"] : [];
    return refuse("TASK_DEPENDENCY_CYCLE", ...over);
  }
  return isDue(state, task, nowMs) ? either("TASK_TRANSITION_INVALID") : ACCEPT;
}

function edgesAfter({ dependsOn }: Task, add: string[], remove: string[]): string[] {
  const kept = dependsOn.filter((id) => !remove.includes(id));
  return [...new Set([...kept, ...add])];
}

/** @param members the answer's; null where there is none, because a later part of the same batch was refused. */
export function apply(state: State, op: Op, members: Record<string, unknown> | null, nowMs: number): void {
  const task = taskOf(state, op.task_id ?? "");
  switch (op.op) {
    case "create_tasks":
      create(state, op, nowMs);
      return;
    case "claim":
      claim(state, op, members, nowMs);
      return;
    case "heartbeat":
      heartbeat(state, present(task), op, members, nowMs);
      return;
    case "complete":
      present(task).status = "done";
      present(task).revokeMs = null;
      dropLease(state, present(task));
      return;
    case "fail": {
      const end = {
        outcome: "failed",
        errorCode: op.error_code as string,
        retryable: op.retryable as boolean,
      };
      endAttempt(state, present(task), end, nowMs);
      return;
    }
    case "release":
      endAttempt(state, present(task), { outcome: "released" }, nowMs);
      return;
    case "retry":
      // What time brought the task itself is noticed first; what it brought others, only where that is why it failed.
      while (settleOne(state, present(task), nowMs));
      while (!isRetryable(present(task)) && settleNext(state, present(task), nowMs));
      if (present(task).status === "failed")
        Object.assign(present(task), { clockMs: nowMs, wasClaimed: false });
      Object.assign(present(task), {
        status: "runnable",
        attempt: present(task).attempt + 1,
        retry: { fromMs: nowMs, toMs: nowMs },
        isDeadLetter: false,
        cause: null,
      });
      return;
    case "append_event":
    case "patch_blackboard":
      if (members !== null && op.task_id !== undefined) judgeUnder(state, op, members);
      // An event declares the run's status, whoever sends it and however late.
      if (op.op === "append_event" && op.status !== state.run.status) {
        settleHalt(state, nowMs);
        if (op.status === "paused") pause(state, undefined, nowMs);
        else state.run = { status: String(op.status), halt: null };
      }
      return;
    case "redrive_task":
      while (!present(task).isDeadLetter && settleNext(state, present(task), nowMs));
      redrive(present(task), nowMs);
      return;
    case "redrive_tasks":
      redriveMany(state, op, members, nowMs);
      return;
    case "cancel_task":
      cancelTask(state, present(task), op, members, nowMs);
      return;
    case "change_dependencies":
      while (present(task).status === "in_progress" && settleOne(state, present(task), nowMs));
      present(task).dependsOn = edgesAfter(present(task), op.add as string[], op.remove as string[]);
      return;
    case "pause_run":
      pause(state, op.grace_ms, nowMs);
      return;
    case "resume_run":
      settleHalt(state, nowMs);
      state.run = { status: "running", halt: null };
      return;
    case "put_settings":
      state.limits = op.concurrency_limits as Record<string, number>;
      state.graceMs = op.grace_ms as number;
      return;
    case "acquire_lock":
      acquire(state, op, members, nowMs);
      return;
    case "heartbeat_lock":
      for (const lock of state.locks) {
        if (lock.id === op.lock_id) lock.expiresMs = nowMs + (op.lease_ms as number);
      }
      return;
    case "release_lock":
      state.locks = state.locks.filter(({ id }) => id !== op.lock_id);
      return;
    default:
      throw new Error(`the model knows no ${op.op}`);
  }
}

function isRetryable({ status }: Task): boolean {
  return status === "failed" || status === "blocked";
}

function present(task: Task | undefined): Task {
  if (task === undefined) throw new Error("a command about no task was accepted");
  return task;
}

interface Row {
  id: string;
  task_type: string;
  priority?: number;
  status?: Status;
  depends_on_task_ids: string[];
  max_attempts?: number;
  retry?: { base_ms: number; factor: number; max_ms: number; jitter: number; non_retryable: string[] };
  clocks?: Task["clocks"];
  on_dependency_failure?: Task["onFailure"];
  concurrency_key?: string;
}

const DEFAULT_POLICY: Policy = { baseMs: 1_000, factor: 2, maxMs: 300_000, jitter: 0.2, nonRetryable: [] };

function create(state: State, { tasks }: Op, nowMs: number): void {
  for (const row of tasks as Row[]) {
    state.tasks.push({
      id: row.id,
      type: row.task_type,
      priority: row.priority ?? 0,
      createdMs: nowMs,
      dependsOn: row.depends_on_task_ids,
      status: row.status ?? "pending",
      attempt: 0,
      maxAttempts: row.max_attempts ?? 3,
      policy: policyOf(row),
      clocks: row.clocks ?? {},
      onFailure: row.on_dependency_failure ?? "wait",
      key: row.concurrency_key ?? null,
      retry: null,
      lease: null,
      lastFence: 0,
      attempts: [],
      isDeadLetter: false,
      cause: null,
      isSkipped: false,
      revokeMs: null,
      clockMs: nowMs,
      wasClaimed: false,
      progress: { percent: null, sinceMs: 0 },
    });
  }
}

/** A policy is in force for rows that name one, or a cap. */
function policyOf({ retry, max_attempts }: Row): Policy | null {
  if (retry === undefined && max_attempts === undefined) return null;
  if (retry === undefined) return DEFAULT_POLICY;
  const { base_ms, factor, max_ms, jitter, non_retryable } = retry;
  return { baseMs: base_ms, factor, maxMs: max_ms, jitter, nonRetryable: non_retryable };
}

/** What a claim by this filter takes next; null for nothing. */
export function nextOf(state: State, type: string | null, nowMs: number): Task | null {
  const ready = state.tasks.filter(
    (task) => (type === null || task.type === type) && isReady(state, task, nowMs),
  );
  // The list's order decides where priority and age do not.
  const [first] = ready.toSorted((a, b) => b.priority - a.priority || a.createdMs - b.createdMs);
  return first ?? null;
}

function isReady(state: State, task: Task, nowMs: number): boolean {
  if (task.status !== "pending" && task.status !== "runnable") return false;
  if (task.retry !== null && task.retry.fromMs > nowMs) return false;
  if (!task.dependsOn.every((id) => taskOf(state, id)?.status === "done")) return false;
  if (task.key === null) return true;
  const busy = state.tasks.filter(({ key, status }) => key === task.key && status === "in_progress").length;
  return busy < (state.limits[task.key] ?? 1);
}

interface Claimed {
  task: { id: string } | null;
  lease: { token: string; fence?: number; expires_at_ms: number } | null;
  handover?: { attempt: number; previous_attempts: { fence: number; outcome: string }[] } | null;
}

function claim(state: State, op: Op, members: Record<string, unknown> | null, nowMs: number): void {
  const stop = state.run.status === "paused" ? "run_paused" : null;
  if (stop === null) settleAll(state, nowMs);
  const max = op.max as number | undefined;
  const wanted = (op.locks as Lock["resources"] | undefined) ?? [];
  const isLocked =
    conflicts(state, wanted, nowMs).length > 0 &&
    nextOf(state, (op.task_type as string) ?? null, nowMs) !== null;
  const told =
    members === null
      ? null
      : max === undefined
        ? [members as unknown as Claimed]
        : (members.claims as Claimed[]);
  const given: Task[] = [];
  while (given.length < (max ?? 1)) {
    const task = stop !== null || isLocked ? null : nextOf(state, (op.task_type as string) ?? null, nowMs);
    const answer = told?.[given.length];
    if (told !== null) expect(answer?.task?.id ?? null, "what was claimed").toBe(task?.id ?? null);
    if (task === null) break;
    give(state, task, op, answer, nowMs);
    given.push(task);
  }
  const [first] = given;
  if (wanted.length > 0 && first?.lease) {
    // They live and end with the lease.
    const { agent, token, fence, expiresMs } = first.lease;
    const lock = { agent, token, fence, expiresMs, resources: wanted };
    state.locks.push({ id: `of ${first.id}`, task: first.id, ...lock });
  }
  if (told === null) return;
  if (max === undefined) expect(told[0]?.lease === null).toBe(given.length === 0);
  else expect(told).toHaveLength(given.length);
  const reason = given.length > 0 ? null : (stop ?? (isLocked ? "locks_held" : "nothing_claimable"));
  expect(members?.reason, "why nothing was claimed").toBe(reason);
}

/** A claimed task, with the lease that the answer tells of. */
function give(state: State, task: Task, op: Op, answer: Claimed | undefined, nowMs: number): void {
  const agent = op.agent_id as string;
  const expiresMs = nowMs + (op.lease_ms as number);
  const told = answer?.task as { fence?: number } | undefined;
  const fence = answer?.lease?.fence ?? told?.fence ?? task.lastFence + 1;
  const token = answer?.lease?.token ?? "";
  if (answer !== undefined) {
    expect(answer.lease?.expires_at_ms, "the lease's end").toBe(expiresMs);
    const others = state.tasks.map(({ lastFence }) => lastFence);
    expect(fence, "fences only grow").toBeGreaterThan(Math.max(0, ...others));
    expect(
      state.given.map((one) => one.token),
      "tokens are new",
    ).not.toContain(token);
    judgeHandover(task, answer);
    state.given.push({ kind: "task", id: task.id, token, agent });
  }
  Object.assign(task, {
    status: "in_progress",
    lease: { token, agent, fence, claimedMs: nowMs, expiresMs },
    lastFence: fence,
    wasClaimed: true,
    progress: { percent: null, sinceMs: nowMs },
  } satisfies Partial<Task>);
}

function judgeHandover({ attempts }: Task, { handover }: Claimed): void {
  const told = handover?.previous_attempts.map(({ fence, outcome }) => ({ fence, outcome })) ?? [];
  const known = attempts.map(({ fence, outcome }) => ({ fence, outcome })).slice(-KEPT_ATTEMPTS);
  expect(told, "the attempts handed over").toEqual(known);
}

/** How many attempts a task tells of. */
export const KEPT_ATTEMPTS = 10;
function heartbeat(
  state: State,
  task: Task,
  op: Op,
  members: Record<string, unknown> | null,
  nowMs: number,
): void {
  const { lease } = task;
  if (lease === null) throw new Error(`${task.id} has no lease, and got a heartbeat`);
  const expiresMs = nowMs + (op.lease_ms as number);
  const told = (members?.lease as { expires_at_ms?: number } | undefined)?.expires_at_ms;
  if (members !== null) expect(told, "the lease's new end").toBe(expiresMs);
  lease.expiresMs = expiresMs;
  for (const lock of state.locks) if (lock.task === task.id) lock.expiresMs = expiresMs;
  const percent = (op.progress as { percent: number } | undefined)?.percent;
  if (percent !== undefined) task.progress = { percent, sinceMs: nowMs };
}

function redrive(task: Task, nowMs: number): void {
  Object.assign(task, {
    status: "runnable",
    attempt: 0,
    isDeadLetter: false,
    cause: null,
    retry: null,
    clockMs: nowMs,
    wasClaimed: false,
  } satisfies Partial<Task>);
}

function redriveMany(state: State, op: Op, members: Record<string, unknown> | null, nowMs: number): void {
  const isMeant = (task: Task): boolean =>
    task.isDeadLetter &&
    (op.task_type === undefined || task.type === op.task_type) &&
    (op.cause === undefined || task.cause === op.cause);
  const meant = state.tasks.filter(isMeant);
  const isDueSomewhere = state.tasks.some((task) => isDue(state, task, nowMs));
  if (op.preview === true) {
    if (members !== null && !isDueSomewhere) expect(members.matched, "dead letters found").toBe(meant.length);
    return;
  }
  const told = members?.task_ids as string[] | undefined;
  const limit = op.limit as number;
  const taken = told === undefined ? meant.slice(0, limit) : told.map((id) => present(taskOf(state, id)));
  for (const task of taken) while (!task.isDeadLetter && settleNext(state, task, nowMs));
  if (!isDueSomewhere) expect(taken.length, "dead letters redriven").toBe(Math.min(limit, meant.length));
  for (const task of taken) {
    expect(isMeant(task), `${task.id} is a dead letter of that filter`).toBe(true);
    redrive(task, nowMs);
  }
}

function cancelTask(
  state: State,
  task: Task,
  op: Op,
  members: Record<string, unknown> | null,
  nowMs: number,
): void {
  const told = members?.task as { attempts?: { outcome: string }[] } | undefined;
  const { lease } = task;
  const isOut = lease !== null && lease.expiresMs > nowMs;
  // The server may have noticed first that the lease ran out, or not.
  if (lease !== null && !isOut && told?.attempts?.at(-1)?.outcome !== "cancelled")
    settleOne(state, task, nowMs);
  const revokeMs = nowMs + ((op.grace_ms as number | undefined) ?? state.graceMs);
  const firstMs = Math.min(task.revokeMs ?? revokeMs, revokeMs);
  if (isOut && firstMs > nowMs) task.revokeMs = firstMs;
  else if (!isOver(task)) endAttempt(state, task, { outcome: "cancelled" }, nowMs);
}

function pause(state: State, graceMs: unknown, nowMs: number): void {
  settleHalt(state, nowMs);
  const { run } = state;
  run.status = "paused";
  const fences = state.tasks.flatMap(({ lease }) => (lease === null ? [] : [lease.fence]));
  const wantedMs = nowMs + ((graceMs as number | undefined) ?? state.graceMs);
  // To ask again may make a grace that runs shorter, never longer.
  const isRunning = run.halt !== null && run.halt.revokeMs > nowMs;
  run.halt = { revokeMs: isRunning ? Math.min(run.halt?.revokeMs ?? wantedMs, wantedMs) : wantedMs, fences };
}

/** Names that some path has both of, the names themselves aside. */
const MEETING = new Set(["src/* src/a", "src/* src/b", "** doc/a", "** src/*", "** src/a", "** src/b"]);

function meets(one: string, other: string): boolean {
  return one === other || MEETING.has([one, other].sort().join(" "));
}

/** Locks that are out, and in the way. */
function conflicts(state: State, resources: Lock["resources"], nowMs: number): Lock[] {
  return state.locks.filter(
    (lock) =>
      lock.expiresMs > nowMs &&
      lock.resources.some((held) =>
        resources.some(
          ({ name, mode }) => meets(held.name, name) && (held.mode === "exclusive" || mode === "exclusive"),
        ),
      ),
  );
}

function acquire(state: State, op: Op, members: Record<string, unknown> | null, nowMs: number): void {
  const told = members?.lock as
    | { lock_id: string; token: string; fence: number; expires_at_ms: number }
    | undefined;
  const expiresMs = nowMs + (op.lease_ms as number);
  const { lock_id: id, token, fence } = told ?? { lock_id: "", token: "", fence: 0 };
  const agent = op.agent_id as string;
  if (told !== undefined) {
    expect(told.expires_at_ms, "the lock's end").toBe(expiresMs);
    state.given.push({ kind: "lock", id, token, agent });
  }
  const resources = op.resources as Lock["resources"];
  state.locks.push({ id, agent, token, fence, expiresMs, resources, task: null });
}

/** The event of a write under a lease says whose it is. */
function judgeUnder(state: State, { op, task_id }: Op, members: Record<string, unknown>): void {
  const lease = taskOf(state, task_id ?? "")?.lease;
  if (op !== "append_event" || lease === null || lease === undefined) return;
  const { under } = members.event as { under?: unknown };
  expect(under, "the lease an event was written under").toEqual({
    task_id,
    agent_id: lease.agent,
    fence: lease.fence,
  });
}
