import type { AnyCommand, CommandOf, CommandOp } from "../domain/command.ts";
import type { OutcomeOf } from "../domain/outcome.ts";
import { commandIdConflict, type Refusal } from "../domain/refusals.ts";
import type { BodyName, BodyOf } from "../protocol/bodies.ts";
import type { Task } from "../protocol/task.ts";
import type { Answer, Submission } from "../run/engine.ts";
import { submit } from "../run/run-client.ts";
import type { RowCounts } from "../run/storage/sql.ts";
import type { Call } from "./call.ts";
import type { HttpAnswer } from "./http-answer.ts";
import { identify } from "./idempotency.ts";
import { type AnswerInit, jsonAnswer, RawJson } from "./json.ts";
import { RequestRefused } from "./problem.ts";
import type { Door } from "./route-facts.ts";

/** An accepted command, as a door's writer sees it. */
export interface Done<Op extends CommandOp> {
  outcome: OutcomeOf<Op>;
  /** The echo `/context` asked for, ready to be spread into the answer. */
  echo: Record<string, unknown>;
}

/** A repeat under a used command id on `/context`, where the contract has answers of its own for it. */
export interface Repeated<Op extends CommandOp> {
  /** Whether the request is the one that used the id. */
  same: boolean;
  /** Null when the id was used by another kind of command. */
  outcome: OutcomeOf<Op> | null;
  currentTask: Task | null;
  echo: Record<string, unknown>;
}

/** A mutation: how a request becomes a command, and how each door writes what came of it. */
export interface Mutation<Op extends CommandOp, Name extends BodyName> {
  body: Name;
  /** Whether the body may be missing (contract 07 D101). */
  bodyMayBeEmpty?: boolean;
  command(body: BodyOf<Name>, call: Call): CommandOf<Op> | Promise<CommandOf<Op>>;
  /** How the command is carried out, where it is not simply submitted. */
  submit?(
    submission: Submission & { command: CommandOf<Op> },
    body: BodyOf<Name>,
    call: Call,
  ): Promise<Answer>;
  /** What makes two requests the same, where it is more than their bodies. */
  asked?(body: BodyOf<Name>, call: Call): unknown;
  /** What `/context` echoes after it. */
  echo?: "run" | "blackboard";
  /** The members of the `/context` answer; always 200. */
  context(done: Done<Op>, call: Call): Record<string, unknown>;
  /** The `/context` answer to a used command id; without it, the first answer is given again. */
  contextRepeated?(repeated: Repeated<Op>): Record<string, unknown>;
  /** The lean `/v1` answer; a refusal where the outcome is one there. */
  native(
    done: Done<Op>,
    call: Call,
  ): ({ members: Record<string, unknown> } & AnswerInit) | { refusal: Refusal };
  /** What `Prefer: return=representation` adds on `/v1`. */
  represents?: ("run" | "blackboard")[];
}

/** Handles a mutation at the door it came in by. */
export async function mutate<Op extends CommandOp, Name extends BodyName>(
  mutation: Mutation<Op, Name>,
  call: Call,
): Promise<HttpAnswer> {
  const run = call.run();
  const body = await call.body(mutation.body, mutation.bodyMayBeEmpty);
  const command = await mutation.command(body, call);
  const { command_id, ...input } = { command_id: undefined, ...body };
  const identified = await identify(call, command_id, mutation.asked?.(body, call) ?? input);
  const wantsEcho = call.door === "context" && call.preferredReturn() !== "minimal";
  const submission = {
    command: byRulesOf(call.door, command as AnyCommand) as CommandOf<Op>,
    commandId: identified?.commandId,
    fingerprint: identified?.fingerprint,
    ...(wantsEcho && mutation.echo !== undefined && { echo: mutation.echo }),
  };
  const answer = await (mutation.submit === undefined
    ? submit(run, submission as Submission)
    : mutation.submit(submission, body, call));
  if (!answer.ok) throw new RequestRefused(answer.refusal);

  const outcome = answer.outcome as OutcomeOf<Op> | null;
  const echo = echoed(mutation.echo, answer.echo);
  const headers = rowHeaders(answer.rows);
  if (answer.repeat !== null) {
    if (call.door === "context" && mutation.contextRepeated !== undefined) {
      return jsonAnswer(mutation.contextRepeated({ ...answer.repeat, outcome, echo }), { headers });
    }
    if (!answer.repeat.same) throw new RequestRefused(commandIdConflict);
    Object.assign(headers, replayHeaders(answer.repeat));
  }
  if (outcome === null) throw new RequestRefused(commandIdConflict);
  const done: Done<Op> = { outcome, echo };
  if (call.door === "context") return jsonAnswer(mutation.context(done, call), { headers });

  const written = mutation.native(done, call);
  if ("refusal" in written) throw new RequestRefused(written.refusal, headers);
  const { members, ...init } = written;
  const representation = await represent(call, mutation.represents ?? []);
  return jsonAnswer(
    { ...members, ...representation.members },
    { ...init, headers: { ...headers, ...init.headers, ...representation.headers } },
  );
}

/** Says that an answer is that of an earlier request, and how long ago it was given: a lease in it is older by that. */
export function replayHeaders({ afterMs }: { afterMs: number | null }): Record<string, string> {
  return {
    "idempotency-replayed": "true",
    ...(afterMs !== null && { "baton-replayed-after-ms": String(afterMs) }),
  };
}

/** The command, by the rules of the door that it came in by: those of `/v1` are the strict ones. */
export function byRulesOf<C extends AnyCommand>(door: Door, command: C): C {
  if (door !== "native") return command;
  if (command.op !== "batch") return { ...command, strict: true };
  return { ...command, commands: command.commands.map((part) => byRulesOf(door, part)) };
}

/** What the platform bills for the command, so that anyone can see what an operation costs. */
export function rowHeaders(rows: RowCounts): Record<string, string> {
  return { "baton-rows-read": String(rows.read), "baton-rows-written": String(rows.written) };
}

function echoed(
  what: "run" | "blackboard" | undefined,
  text: string | null | undefined,
): Record<string, unknown> {
  if (what === undefined || text === undefined) return {};
  return text === null ? { [`${what}_omitted`]: true } : { [what]: new RawJson(text) };
}

async function represent(
  call: Call,
  parts: ("run" | "blackboard")[],
): Promise<{ members: Record<string, unknown>; headers: Record<string, string> }> {
  if (parts.length === 0 || call.preferredReturn() !== "representation") return { members: {}, headers: {} };
  const members: Record<string, unknown> = {};
  const run = call.run();
  if (parts.includes("run")) {
    const overview = await run.readOverview();
    if (overview.ok) members.run = overview.value;
  }
  if (parts.includes("blackboard")) {
    const board = await run.readBlackboard(false);
    if (board.ok) members.blackboard = new RawJson(board.value);
  }
  return { members, headers: { "preference-applied": "return=representation" } };
}
