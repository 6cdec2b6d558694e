import { abortAllDurableObjects, runDurableObjectAlarm } from "cloudflare:test";
import { exports } from "cloudflare:workers";
import { expect } from "vitest";
import { evict, newTestRun, objectOf, type TestClock } from "../run/support/test-run.ts";
import { type Ask, type Delivery, type Op, opOf, type Step, TYPES } from "./asks.ts";
import { apply, judge, type Reply, verdictOn } from "./judge.ts";
import { compareBoards, compareLocks, type Listed, type ListedLock } from "./observe.ts";
import { emptyState, type State } from "./state.ts";
import { settleAll } from "./time.ts";

interface Sent {
  op: Op;
  key: string | null;
  reply: Reply;
  text: string;
}

type Answered = Reply & { text: string; isReplay: boolean };

/** How often which command was answered how, over all runs. */
export const TALLY = new Map<string, number>();

/** One run, on the server and in the model, and the requests between them. */
export class World {
  readonly #runId: string;
  readonly #clock: TestClock;
  #state: State = emptyState();
  /** Requests that may come again. */
  readonly #sent: Sent[] = [];
  #count = 0;

  private constructor(runId: string, clock: TestClock) {
    this.#runId = runId;
    this.#clock = clock;
  }

  static async create(clock: TestClock): Promise<World> {
    const { id } = await newTestRun();
    const world = new World(id, clock);
    const { status } = await world.#send(
      { op: "append_event", type: "note", status: "running", payload: null },
      null,
    );
    expect(status).toBe(201);
    const tasks = Array.from({ length: 4 }, (_, index) => ({
      id: `t${index}`,
      task_type: TYPES[index % 2],
      priority: index % 3,
      depends_on_task_ids: [],
    }));
    await world.#ask({ op: "create_tasks", tasks }, "plain");
    return world;
  }

  /** Does a step on both sides and compares what can be seen. Throws where they differ. */
  async step(step: Step): Promise<void> {
    switch (step.do) {
      case "ask":
        await this.#ask(this.#opOf(step.ask), step.delivery);
        break;
      case "together":
        await this.#together(step.asks.map((ask) => this.#opOf(ask)));
        break;
      case "batch":
        if (step.asks.every(({ op }) => op === "put_settings")) break;
        await this.#ask(this.#batchOf(step.asks, step.isDry), step.isDry ? "plain" : step.delivery);
        break;
      case "repeat":
        await this.#repeat(step.nth);
        break;
      case "misuse":
        await this.#misuse(step.nth);
        break;
      case "clock":
        this.#clock.advance(step.ms);
        break;
      case "alarm":
        if (await runDurableObjectAlarm(objectOf(this.#runId).stub)) this.#alarmed();
        break;
      case "evict":
        // A stub from before a crash stays broken.
        await evict(objectOf(this.#runId));
        break;
      case "crash":
        await abortAllDurableObjects();
        break;
    }
    await this.#compare();
  }

  /** What must hold of a history as a whole. */
  async end(): Promise<void> {
    const replay = await this.#get<{ drift: Record<string, boolean> }>("/replay");
    const drift = Object.entries(replay.drift).filter(([name, is]) => is !== (name === "compared"));
    expect(drift, "replay drifts").toEqual([]);
    const { ok } = await this.#get<{ ok: boolean }>("/verify");
    expect(ok, "the log is what was committed").toBe(true);
  }

  #opOf(ask: Ask): Op {
    this.#count += 1;
    return opOf(ask, this.#state, `n${this.#count}`);
  }

  #batchOf(asks: readonly Ask[], isDry: boolean): Op {
    // Settings are put by a route of their own.
    const batched = asks.filter(({ op }) => op !== "put_settings");
    return { op: "batch", commands: batched.map((ask) => this.#opOf(ask)), ...(isDry && { dry_run: true }) };
  }

  async #ask(op: Op, delivery: Delivery): Promise<void> {
    const key = delivery === "plain" ? keyOf(op) : crypto.randomUUID();
    const answered = await this.#deliver(op, key, delivery);
    this.#judge(this.#state, op, answered);
    this.#sent.push({ op, key, reply: answered, text: answered.text });
  }

  async #deliver(op: Op, key: string | null, delivery: Delivery): Promise<Answered> {
    if (delivery === "twice") return this.#twice(op, key);
    if (delivery !== "crashing") return this.#send(op, key);
    const first = this.#send(op, key).catch(() => null);
    await abortAllDurableObjects();
    // Its answer may have come all the same; what counts is that the repeat knows of it.
    const early = await first;
    const answered = await this.#until(op, key);
    if (early?.ok === true) this.#sameText(answered, early, op);
    return answered;
  }

  /** Two at once: one is done, the other is its repeat. */
  async #twice(op: Op, key: string | null): Promise<Answered> {
    const both = await Promise.all([this.#send(op, key), this.#send(op, key)]);
    const [one, other] = both.toSorted((a, b) => Number(a.isReplay) - Number(b.isReplay)) as [
      Answered,
      Answered,
    ];
    expect(one.isReplay, "one of two is no repeat").toBe(false);
    expect(other.ok).toBe(one.ok);
    if (one.ok && isRemembered(op, one)) {
      expect(other.isReplay, "one of two is a repeat").toBe(true);
      this.#sameText(other, one, op);
    }
    return one;
  }

  async #until(op: Op, key: string | null): Promise<Answered> {
    for (let attempt = 1; ; attempt += 1) {
      const answered = await this.#send(op, key).catch(() => null);
      if (answered !== null && answered.status < 500) return answered;
      if (attempt === 10) throw new Error(`${op.op} was not answered`);
    }
  }

  async #repeat(nth: number): Promise<void> {
    const sent = this.#sent[nth % Math.max(1, this.#sent.length)];
    if (sent === undefined) return;
    const { op, key, reply, text } = sent;
    const answered = await this.#send(op, key);
    if (key !== null && reply.ok && isRemembered(op, reply)) {
      expect(answered.isReplay, "a repeat says so").toBe(true);
      expect(answered.status).toBe(reply.status);
      this.#sameText(answered, sent, op);
      return;
    }
    // It was refused, or changed nothing, or has no key: it is a request like any other, only late.
    expect(answered.isReplay, `a new ${op.op} says it is a repeat`).toBe(false);
    this.#judge(this.#state, op, answered);
    if (text !== answered.text) this.#sent.push({ ...sent, reply: answered, text: answered.text });
    if (key !== null) Object.assign(sent, { reply: answered, text: answered.text });
  }

  async #misuse(nth: number): Promise<void> {
    const used = this.#sent.filter(
      ({ op, key, reply }) => key !== null && reply.ok && isRemembered(op, reply),
    );
    const sent = used[nth % Math.max(1, used.length)];
    if (sent === undefined) return;
    const other: Op = {
      op: "append_event",
      type: "misuse",
      status: this.#state.run.status,
      payload: { nth },
    };
    const answered = await this.#send(other, sent.key);
    expect(answered.members.code, "a key means one request").toBe("COMMAND_ID_CONFLICT");
  }

  /** Several at once may take effect in any order: one of all orders must explain every answer, and the board. */
  async #together(ops: readonly Op[]): Promise<void> {
    const answers = await Promise.all(ops.map((op) => this.#send(op, keyOf(op))));
    const listed = await this.#list();
    const nowMs = this.#clock.nowMs();
    const reasons: string[] = [];
    for (const order of permutations([...ops.keys()])) {
      const state = structuredClone(this.#state);
      try {
        for (const index of order) {
          this.#judge(state, ops[index] as Op, answers[index] as Answered);
        }
        sameBoards(state, listed, nowMs);
        this.#state = state;
        return;
      } catch (error) {
        reasons.push(`${order.join(" ")}: ${error instanceof Error ? error.message : String(error)}`);
      }
    }
    throw new Error(`no order explains ${ops.length} answers:\n${reasons.join("\n")}`);
  }

  #judge(state: State, op: Op, reply: Reply): void {
    this.#tally(op, reply);
    if (op.op === "batch") this.#judgeBatch(state, op, reply);
    else judge(state, op, reply, this.#clock.nowMs());
  }

  /** Notes what became of a command: what is never accepted, or never refused, was not tested. */
  #tally(op: Op, { ok, members }: Reply): void {
    const isEmpty = op.op === "claim" && ok && !isRemembered(op, { members });
    const name = `${op.op} ${ok ? (isEmpty ? "found nothing" : "accepted") : String(members.code)}`;
    TALLY.set(name, (TALLY.get(name) ?? 0) + 1);
  }

  #judgeBatch(state: State, op: Op, reply: Reply): void {
    const nowMs = this.#clock.nowMs();
    const draft = structuredClone(state);
    const commands = op.commands as Op[];
    if (reply.ok) {
      const results = reply.members.results as Record<string, unknown>[];
      expect(results).toHaveLength(commands.length);
      for (const [index, command] of commands.entries()) {
        const members = results[index] ?? {};
        if (op.dry_run === true) this.#judgeDry(state, members);
        else judge(draft, command, { ok: true, status: 200, members }, nowMs);
      }
      if (op.dry_run !== true) Object.assign(state, draft);
      return;
    }
    const at = reply.members.command as number;
    const told = `${JSON.stringify(op)} was answered ${reply.status} ${JSON.stringify(reply.members)}`;
    expect(at, told).toBeTypeOf("number");
    for (const command of commands.slice(0, at)) {
      expect(verdictOn(draft, command, nowMs).may, told).not.toBe("refuse");
      apply(draft, command, null, nowMs);
    }
    judge(draft, commands[at] as Op, reply, nowMs);
  }

  /** What did not happen gives no token that would not hold. */
  #judgeDry({ given }: State, members: Record<string, unknown>): void {
    const tokens = JSON.stringify(members).match(/"lease-[^"]+"/g) ?? [];
    const known = new Set(given.map(({ token }) => JSON.stringify(token)));
    expect(
      tokens.filter((token) => !known.has(token)),
      "tokens of a dry run",
    ).toEqual([]);
  }

  async #compare(): Promise<void> {
    sameBoards(this.#state, await this.#list(), this.#clock.nowMs());
    const { locks } = await this.#get<{ locks: ListedLock[] }>("/locks");
    const differing = compareLocks(this.#state, locks, this.#clock.nowMs());
    if (differing.length > 0) throw new Error(differing.join("\n"));
  }

  async #list(): Promise<Listed[]> {
    return (await this.#get<{ tasks: Listed[] }>("/tasks?limit=1000")).tasks;
  }

  /** The alarm does what is due. It may have more to do than this. */
  #alarmed(): void {
    settleAll(this.#state, this.#clock.nowMs());
  }

  #sameText(repeat: { text: string }, first: { text: string }, op: Op): void {
    expect(repeat.text, `the repeat of ${op.op}`).toBe(first.text);
  }

  async #get<T>(path: string): Promise<T> {
    const response = await this.#fetch("GET", path, undefined, null);
    const text = await response.text();
    expect(response.status, text).toBe(200);
    return JSON.parse(text) as T;
  }

  async #send(op: Op, key: string | null): Promise<Answered> {
    const { method, path, body } = requestOf(op);
    const response = await this.#fetch(method, path, body, key);
    const text = await response.text();
    return {
      ok: response.ok,
      status: response.status,
      members: JSON.parse(text) as Record<string, unknown>,
      text,
      isReplay: response.headers.get("idempotency-replayed") === "true",
    };
  }

  #fetch(method: string, path: string, body: unknown, key: string | null): Promise<Response> {
    const headers = {
      "x-agent-token": "test-token",
      "content-type": "application/json",
      ...(key !== null && { "idempotency-key": key }),
    };
    const url = `http://baton.test/v1/runs/${this.#runId}${path}`;
    return exports.default.fetch(
      new Request(url, { method, headers, ...(body !== undefined && { body: JSON.stringify(body) }) }),
    );
  }
}

/** Throws where a board is not what the model has. */
function sameBoards(state: State, listed: readonly Listed[], nowMs: number): void {
  const differing = compareBoards(state, listed, nowMs);
  if (differing.length > 0) throw new Error(differing.join("\n"));
}

/** Whether an accepted command is remembered with its key: one that changed nothing is not. */
function isRemembered({ op, preview, dry_run }: Op, { members }: Pick<Reply, "members">): boolean {
  switch (op) {
    case "claim":
      return members.claims === undefined ? members.task !== null : (members.claims as []).length > 0;
    case "redrive_tasks":
      return preview !== true && (members.task_ids as []).length > 0;
    case "batch": {
      const results = members.results as ({ op: string } & Record<string, unknown>)[];
      return dry_run !== true && results.some((one) => isRemembered(one, { members: one }));
    }
    default:
      return true;
  }
}

/**
 * The key of a request that needs none. Only heartbeats get one: without, they are recorded when real time has passed, which stands
 * still in no model.
 */
function keyOf(op: Op): string | null {
  const isBeat = (one: Op): boolean => one.op === "heartbeat";
  return isBeat(op) || (op.op === "batch" && (op.commands as Op[]).some(isBeat)) ? crypto.randomUUID() : null;
}

/** The request that a command is by itself. */
function requestOf({ op, ...fields }: Op): { method: string; path: string; body: unknown } {
  const { task_id, lock_id, ...rest } = fields;
  const post = (path: string, body: unknown) => ({ method: "POST", path, body });
  switch (op) {
    case "create_tasks":
      return post("/tasks", fields);
    case "claim":
      return post("/tasks/claim", fields);
    case "append_event":
      return post("/events", fields);
    case "patch_blackboard": {
      const { patch_op, ...others } = fields;
      return post("/blackboard/patches", { op: patch_op, ...others });
    }
    case "redrive_task":
      return post(`/tasks/${task_id}/redrive`, rest);
    case "redrive_tasks":
      return post("/tasks/redrive", fields);
    case "cancel_task":
      return post(`/tasks/${task_id}/cancel`, rest);
    case "change_dependencies":
      return post(`/tasks/${task_id}/dependencies`, rest);
    case "pause_run":
      return post("/pause", fields);
    case "resume_run":
      return post("/resume", {});
    case "put_settings":
      return { method: "PUT", path: "/settings", body: fields };
    case "acquire_lock":
      return post("/locks", fields);
    case "heartbeat_lock":
      return post(`/locks/${lock_id}/heartbeat`, rest);
    case "release_lock":
      return post(`/locks/${lock_id}/release`, rest);
    case "batch":
      return post("/commands", fields);
    default:
      return post(`/tasks/${task_id}/transition`, { action: op, ...rest });
  }
}

function permutations<T>(values: readonly T[]): T[][] {
  if (values.length < 2) return [[...values]];
  return values.flatMap((first, index) =>
    permutations(values.filter((_, other) => other !== index)).map((rest) => [first, ...rest]),
  );
}
