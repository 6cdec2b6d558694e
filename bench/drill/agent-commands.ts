import type { AgentOptions, Held, HeldLock } from "./agent.ts";
import type { CommandPart, Resource } from "./records.ts";
import type { Command } from "./sender.ts";

/** The commands of one agent under one name. */
export interface AgentCommands {
  /** @param more `wait_ms`, `max`, `locks` */
  claim(more: {
    readonly wait_ms?: number;
    readonly max?: number;
    readonly locks?: readonly Resource[];
  }): Command;
  heartbeat(lease: Held): Command;
  fact(lease: Held): Command;
  complete(lease: Held): Command;
  fail(lease: Held, code: string): Command;
  release(lease: Held): Command;
  lock(resources: readonly Resource[]): Command;
  renew(lock: HeldLock): Command;
  unlock(lock: HeldLock): Command;
  /** A fact and the completion for each of them, in one request. */
  finish(leases: readonly Held[]): Command;
  /** The same agent's, after it came back as somebody else. */
  renamed(name: string): AgentCommands;
}

export function agentCommands(
  options: AgentOptions,
  name: string,
  count: { commands: number } = { commands: 0 },
): AgentCommands {
  const { runId, number, leaseMs } = options;
  const run = `/v1/runs/${runId}`;

  /** Names the run too: command ids belong to a run, but people read them in logs of many. */
  const nextId = (): string => {
    count.commands += 1;
    return `${runId}.a${number + 1}.${count.commands}`;
  };

  const transition = (action: "heartbeat" | "complete" | "fail" | "release", lease: Held, more: object) => ({
    kind: action,
    path: `${run}/tasks/${encodeURIComponent(lease.task_id)}/transition`,
    body: { action, agent_id: name, lease_token: lease.lease_token, ...more },
    commandId: nextId(),
    taskId: lease.task_id,
    fence: lease.fence,
  });

  const lockCommand = (kind: "renew" | "unlock", lock: HeldLock, more: object): Command => ({
    kind,
    path: `${run}/locks/${encodeURIComponent(lock.lock_id)}/${kind === "renew" ? "heartbeat" : "release"}`,
    body: { lease_token: lock.lease_token, ...more },
    commandId: nextId(),
    lockId: lock.lock_id,
    fence: lock.fence,
    resources: lock.resources,
    mayBe: ["LOCK_LOST"],
  });

  const proof = ({ task_id, lease_token }: Held) => ({ task_id, lease_token });
  const noteOf = (mark: string, { task_id }: Held) => ({
    id: mark,
    ts_ms: Date.now(),
    text: `${name} worked on ${task_id}`,
  });

  return {
    claim: (more) => ({
      kind: "claim",
      path: `${run}/tasks/claim`,
      body: { agent_id: name, lease_ms: leaseMs, ...more },
      commandId: nextId(),
      agent: name,
      ...(more.locks !== undefined && { resources: more.locks }),
    }),
    lock: (resources) => ({
      kind: "lock",
      path: `${run}/locks`,
      body: { agent_id: name, resources, lease_ms: leaseMs },
      commandId: nextId(),
      agent: name,
      resources,
      mayBe: ["LOCK_HELD"],
    }),
    renew: (lock) => lockCommand("renew", lock, { lease_ms: leaseMs }),
    unlock: (lock) => lockCommand("unlock", lock, {}),
    heartbeat: (lease) =>
      transition("heartbeat", lease, { lease_ms: leaseMs, progress: { percent: 50, note: "half way" } }),
    complete: (lease) => transition("complete", lease, {}),
    fail: (lease, code) => transition("fail", lease, { error: `it ${code}`, error_code: code }),
    release: (lease) => transition("release", lease, {}),
    fact: (lease) => {
      const commandId = nextId();
      const mark = `fact-${commandId}`;
      const body = { op: "add_fact", payload: noteOf(mark, lease), ...proof(lease) };
      const { task_id: taskId, fence } = lease;
      return { kind: "fact", path: `${run}/blackboard/patches`, body, commandId, taskId, fence, mark };
    },
    finish: (leases) => {
      const commandId = nextId();
      const parts = leases.flatMap(({ task_id, fence }, index): CommandPart[] => [
        { kind: "fact", task_id, fence, mark: `fact-${commandId}.${index}` },
        { kind: "complete", task_id, fence },
      ]);
      const commands = leases.flatMap((lease, index) => [
        {
          op: "patch_blackboard",
          patch_op: "add_fact",
          payload: noteOf(`fact-${commandId}.${index}`, lease),
          ...proof(lease),
        },
        { op: "complete", agent_id: name, ...proof(lease) },
      ]);
      return { kind: "batch", path: `${run}/commands`, body: { commands }, commandId, parts };
    },
    renamed: (next) => agentCommands(options, next, count),
  };
}
