import { setTimeout as sleep } from "node:timers/promises";
import { type Answer, type Api, NoAnswer, type Request } from "./api.ts";
import { asObject, listAt, numberAt, objectAt, stringAt } from "./fields.ts";
import { type Journal, noteLatency, type OpenRecord } from "./journal.ts";
import { describe, sendUntilAnswered } from "./patience.ts";
import {
  type CommandAnswer,
  type CommandKind,
  type CommandPart,
  type CommandRecord,
  type Delivery,
  type Effect,
  type LockHolder,
  type Resource,
  toAttempts,
} from "./records.ts";
import type { Rng } from "./rng.ts";

/** A command as an agent gives it. */
export interface Command {
  readonly kind: CommandKind;
  /** Default POST. */
  readonly method?: "GET";
  readonly path: string;
  readonly body: unknown;
  readonly commandId: string;
  readonly taskId?: string;
  readonly fence?: number;
  readonly agent?: string;
  readonly mark?: string;
  readonly parts?: readonly CommandPart[];
  readonly graceMs?: number;
  readonly resources?: readonly Resource[];
  readonly lockId?: string;
  /** Codes of refusals that are in good order, besides that of a lost lease. */
  readonly mayBe?: readonly string[];
}

/** The server did not take a command although it was sent again and again, or refused what it must not refuse. */
export class CommandFailed extends Error {
  override readonly name = "CommandFailed";
}

/** Who sent a command crashed before it was answered, and knows nothing of it any more. */
export class Forgotten extends Error {
  override readonly name = "Forgotten";
  readonly command: Command;

  constructor(command: Command) {
    super(`${command.commandId} was forgotten`);
    this.command = command;
  }
}

/** A cut connection is cut while the server is at work, or just before or after: answers take a few milliseconds. */
const cutAfterMs = { min: 0, max: 6 };
/** Of the commands of agents that would be sent more than once, those that are not. */
const lostShare = 0.03;
/** How long an agent that lost an answer takes to notice. */
const repeatAfterMs = { min: 0, max: 60 };

/** Refusals an agent may meet in good order: its lease ran out before it was done. */
const lateCodes = ["TASK_LEASE_INVALID", "TASK_LEASE_REQUIRED", "TASK_TRANSITION_INVALID"];

/** How a client sends its commands. */
export interface Manners {
  /** The share of commands that are sent more than once, 0 to 1. */
  readonly retry: number;
  /** How long a command without an answer is sent again, ms. */
  readonly outageMs: number;
  /** The share of commands that meet with no answer, and over which the client crashes rather than send them again, 0 to 1. */
  readonly forget: number;
}

/**
 * Sends commands the way bad networks do: some twice at once, some again after their answer was lost, some again after the
 * connection broke. Every answer goes into the journal, where the audit compares them.
 */
export class Sender {
  readonly #api: Api;
  readonly #journal: Journal;
  readonly #rng: Rng;
  readonly #manners: Manners;

  constructor(api: Api, journal: Journal, rng: Rng, manners: Manners) {
    this.#api = api;
    this.#journal = journal;
    this.#rng = rng;
    this.#manners = manners;
  }

  /** How the next command will be sent. */
  drawDelivery(): Delivery {
    if (!this.#rng.chance(this.#manners.retry)) return "once";
    const mayForget = this.#manners.forget > 0;
    if (mayForget && this.#rng.chance(lostShare)) return "lost";
    return this.#rng.pick(["twice", "repeated", "cut"]);
  }

  /**
   * Sends a command and gives the effect an agent may act on: what was accepted, null for a claim that found nothing, or
   * undefined for a refusal that tells of a lost lease. Throws {@link Forgotten} where the sender crashes, {@link CommandFailed}
   * on anything else.
   *
   * @param sinceMs when the claim whose lease is used was first sent, by `performance.now()`
   */
  async send(
    command: Command,
    delivery: Delivery = this.drawDelivery(),
    sinceMs?: number,
  ): Promise<Effect | null | undefined> {
    const record = this.open(command, delivery, sinceMs);
    if (delivery !== "once" && delivery !== "lost") this.#journal.counts.retries[delivery] += 1;
    switch (delivery) {
      case "once":
        await this.sendOnce(command, record);
        break;
      case "twice":
        await both(this.sendOnce(command, record), this.sendOnce(command, record));
        break;
      case "repeated":
        await this.sendOnce(command, record);
        await this.#pause(repeatAfterMs);
        await this.sendOnce(command, record);
        break;
      case "cut":
        await this.#cut(command, record);
        await this.#pause(repeatAfterMs);
        await this.sendOnce(command, record);
        break;
      case "lost":
        await this.#cut(command, record);
        return this.#forget(command);
    }
    return outcome(record);
  }

  async #cut(command: Command, record: OpenRecord): Promise<void> {
    record.missed += 1;
    await this.#api.cut(toRequest(command), this.#rng.between(cutAfterMs.min, cutAfterMs.max));
  }

  #forget(command: Command): never {
    this.#journal.counts.neverAnswered += 1;
    throw new Forgotten(command);
  }

  /** Starts the record of a command that is sent right after, for callers that send by themselves. */
  open(command: Command, delivery: Delivery, sinceMs?: number): OpenRecord {
    const record: OpenRecord = {
      command_id: command.commandId,
      kind: command.kind,
      delivery,
      ...(command.taskId === undefined ? {} : { task_id: command.taskId }),
      ...(command.fence === undefined ? {} : { fence: command.fence }),
      ...(command.parts === undefined ? {} : { parts: command.parts }),
      ...(command.graceMs === undefined ? {} : { grace_ms: command.graceMs }),
      ...(command.agent === undefined ? {} : { agent: command.agent }),
      ...(command.mark === undefined ? {} : { mark: command.mark }),
      ...(command.resources === undefined ? {} : { resources: command.resources }),
      ...(command.lockId === undefined ? {} : { lock_id: command.lockId }),
      sent_ms: performance.now(),
      ...(sinceMs === undefined ? {} : { claimed_ms: sinceMs }),
      missed: 0,
      answers: [],
    };
    this.#journal.commands.push(record as CommandRecord);
    return record;
  }

  /**
   * Sends a command until it is answered and notes the answer. Throws {@link CommandFailed} when no answer comes, or one
   * that no agent should ever get, and {@link Forgotten}.
   */
  async sendOnce(command: Command, record: OpenRecord): Promise<void> {
    const answer = await this.#answerTo(command, record);
    noteLatency(this.#journal, command.kind, answer.elapsedMs);
    record.answers.push(this.#read(command, answer));
  }

  async #answerTo(command: Command, record: OpenRecord): Promise<Answer> {
    const { outageMs, forget } = this.#manners;
    let mayCrash = true;
    const onMiss = (putOff: Answer | undefined): void => {
      // A server that is restarted, or busy, says so with 503 or 429, or nothing at all; 500 is a fault, though a repeat heals it.
      if (putOff?.status === 500) this.#note(command, "internal_error", describe(putOff));
      record.missed += 1;
      this.#journal.counts.unanswered += 1;
      if (mayCrash && this.#rng.chance(forget)) this.#forget(command);
      mayCrash = false;
    };
    try {
      return await sendUntilAnswered(this.#api, toRequest(command), { outageMs, rng: this.#rng, onMiss });
    } catch (error) {
      if (error instanceof NoAnswer) this.#fail(command, "no_answer", error.message);
      throw error;
    }
  }

  #read(command: Command, answer: Answer): CommandAnswer {
    const { status, replayed } = answer;
    const code = stringAt(answer.body, "code");
    const told = { status, code, replayed, answered_ms: performance.now() };
    if (status >= 200 && status < 300) {
      const effect = readEffect(command.kind, answer.body);
      const lease =
        objectAt(answer.body, "lease") ??
        objectAt(listAt(answer.body, "claims")[0], "lease") ??
        objectAt(answer.body, "lock");
      const term_ms = numberAt(lease, "expires_in_ms");
      if (effect !== undefined) {
        return { ...told, effect, ...(term_ms !== undefined && { term_ms }), ...readConflicts(answer.body) };
      }
    } else if (code !== undefined && this.#isExpected(command, code)) {
      const holder = readHolder(answer.body);
      const refused_part = numberAt(answer.body, "command");
      return {
        ...told,
        effect: undefined,
        ...(holder !== undefined && { holder }),
        ...(refused_part !== undefined && { refused_part }),
        ...readConflicts(answer.body),
      };
    }
    return this.#fail(command, "unexpected_answer", describe(answer));
  }

  #isExpected({ fence, parts, mayBe = [] }: Command, code: string): boolean {
    const isUnderLease = fence !== undefined || parts !== undefined;
    return mayBe.includes(code) || (isUnderLease && lateCodes.includes(code));
  }

  #fail(command: Command, rule: string, detail: string): never {
    throw new CommandFailed(this.#note(command, rule, detail));
  }

  /** Notes a violation, and gives what is told of it. */
  #note(command: Command, rule: string, detail: string): string {
    const { commandId, taskId, path, body } = command;
    const told = `${detail}, to ${command.method ?? "POST"} ${path} ${(JSON.stringify(body) ?? "").slice(0, 300)}`;
    this.#journal.violations.push({
      check: "answers",
      rule,
      detail: told,
      command_id: commandId,
      ...(taskId === undefined ? {} : { task_id: taskId }),
    });
    return told;
  }

  #pause(range: { readonly min: number; readonly max: number }): Promise<void> {
    return sleep(this.#rng.between(range.min, range.max));
  }
}

/** Waits for both, also when one fails: nobody may be sending still when the drill is read back. */
async function both(first: Promise<void>, second: Promise<void>): Promise<void> {
  await Promise.allSettled([first, second]);
  await Promise.all([first, second]);
}

/** What an agent may go by once all its sends were answered: any effect before none. */
export function outcome(record: OpenRecord): Effect | null | undefined {
  const effects = record.answers.map((answer) => answer.effect);
  return (
    effects.find((effect) => effect !== undefined && effect !== null) ??
    effects.find((effect) => effect === null)
  );
}

function toRequest({ method, path, body, commandId }: Command): Request {
  return method === "GET" ? { method, path } : { method: "POST", path, body, commandId };
}

/** What an accepted command changed, as its answer tells it; undefined when the answer is not of the promised shape. */
function readEffect(kind: CommandKind, body: unknown): Effect | null | undefined {
  switch (kind) {
    case "run": {
      const id = stringAt(objectAt(body, "run"), "run_id");
      return id === undefined ? undefined : { created: id };
    }
    case "create": {
      const created = listAt(body, "tasks").map(
        (task) => `${stringAt(task, "id")}@${numberAt(task, "task_rev")}`,
      );
      return created.length === 0 ? undefined : { created: created.join(" ") };
    }
    case "event":
    case "fact":
    case "checkpoint": {
      const member = kind === "event" ? "event" : kind === "fact" ? "patch" : "checkpoint";
      const seq = numberAt(objectAt(body, member), "seq");
      return seq === undefined ? undefined : { seq };
    }
    case "claim":
      return claimEffect(body);
    case "heartbeat":
      return heartbeatEffect(body);
    case "complete":
    case "fail":
    case "release":
    case "cancel":
      return taskEffect(objectAt(body, "task"), undefined, false);
    case "batch":
      return batchEffect(listAt(body, "results"));
    case "redrive": {
      const one = stringAt(objectAt(body, "task"), "id");
      const redriven = one === undefined ? listAt(body, "task_ids").map(String) : [one];
      return redriven.length === 0 ? null : { redriven };
    }
    case "lock":
    case "renew":
      return lockEffect(objectAt(body, "lock"));
    case "unlock": {
      const lock_id = stringAt(body, "lock_id");
      return lock_id === undefined ? undefined : { lock_id };
    }
    case "read":
      return readTask(objectAt(body, "task"));
    case "pause":
    case "resume": {
      const seq = numberAt(objectAt(body, "event"), "seq");
      return seq === undefined ? undefined : { seq };
    }
  }
}

/** Null when nothing was claimed. */
function claimEffect(body: unknown): Effect | null | undefined {
  const several = asObject(body)?.claims;
  if (Array.isArray(several)) {
    if (several.length === 0) return null;
    const parts = several.map((one) => claimEffect(one) ?? undefined);
    return parts.includes(undefined) ? undefined : { parts: parts as Effect[] };
  }
  if (asObject(body)?.task === null && asObject(body)?.lease === null) return null;
  const effect = taskEffect(objectAt(body, "task"), objectAt(body, "lease"), true);
  const handover = toAttempts(objectAt(body, "handover")?.previous_attempts);
  const lock_id = stringAt(objectAt(body, "lock"), "lock_id");
  return effect && { ...effect, handover, ...(lock_id !== undefined && { lock_id }) };
}

function lockEffect(lock: unknown): Effect | undefined {
  const lock_id = stringAt(lock, "lock_id");
  const fence = numberAt(lock, "fence");
  const lease_token = stringAt(lock, "token");
  const lease_expires_at_ms = numberAt(lock, "expires_at_ms");
  if (lock_id === undefined || fence === undefined || lease_token === undefined) return undefined;
  return { lock_id, fence, lease_token, ...(lease_expires_at_ms !== undefined && { lease_expires_at_ms }) };
}

function readTask(task: unknown): Effect | undefined {
  const effect = taskEffect(task, undefined, false);
  const agent = stringAt(task, "lease_owner");
  const fence = numberAt(task, "fence");
  return effect && agent !== undefined && fence !== undefined
    ? { ...effect, holder: { agent, fence } }
    : effect;
}

/** Whose locks an answer names. */
function readConflicts(body: unknown): { conflicts?: LockHolder[] } {
  const conflicts = listAt(body, "conflicts").flatMap((one): LockHolder[] => {
    const resource = stringAt(one, "wanted");
    const agent = stringAt(one, "agent_id");
    const fence = numberAt(one, "fence");
    return resource === undefined || agent === undefined || fence === undefined
      ? []
      : [{ resource, mode: stringAt(one, "mode") === "shared" ? "shared" : "exclusive", agent, fence }];
  });
  return conflicts.length === 0 ? {} : { conflicts };
}

function heartbeatEffect(body: unknown): Effect | undefined {
  const effect = taskEffect(objectAt(body, "task"), objectAt(body, "lease"), true);
  const stop = stringAt(objectAt(body, "stop"), "reason");
  return effect && stop !== undefined ? { ...effect, stop } : effect;
}

function batchEffect(results: readonly unknown[]): Effect | undefined {
  const parts = results.map((result) =>
    stringAt(result, "op") === "complete"
      ? taskEffect(objectAt(result, "task"), undefined, false)
      : { seq: numberAt(objectAt(result, "patch"), "seq") ?? 0 },
  );
  return parts.length === 0 || parts.includes(undefined) ? undefined : { parts: parts as Effect[] };
}

/** Whom a refusal names; undefined when it does not name a fence, or none for certain. */
function readHolder(body: unknown): CommandAnswer["holder"] {
  const { lease_owner, fence } = asObject(body) ?? {};
  if (lease_owner === null && fence === null) return null;
  return typeof lease_owner === "string" && typeof fence === "number"
    ? { agent: lease_owner, fence }
    : undefined;
}

function taskEffect(task: unknown, lease: unknown, leased: boolean): Effect | undefined {
  const task_id = stringAt(task, "id");
  const task_rev = numberAt(task, "task_rev");
  const status = stringAt(task, "status");
  if (task_id === undefined || task_rev === undefined || status === undefined) return undefined;
  const has_policy = objectAt(task, "retry") !== undefined;
  const effect = { task_id, task_rev, status, has_policy };
  if (!leased) return effect;
  const lease_token = stringAt(lease, "token");
  const lease_expires_at_ms = numberAt(lease, "expires_at_ms");
  if (lease_token === undefined || lease_expires_at_ms === undefined) return undefined;
  const fence = numberAt(lease, "fence") ?? numberAt(task, "fence");
  return { ...effect, lease_token, lease_expires_at_ms, ...(fence !== undefined && { fence }) };
}
