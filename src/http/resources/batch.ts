import type * as z from "zod/mini";
import type { AnyCommand, Command } from "../../domain/command.ts";
import type { Outcome } from "../../domain/outcome.ts";
import { hasScope } from "../../identity/scopes.ts";
import { type BodyName, type BodyOf, nativeBodies } from "../../protocol/bodies.ts";
import { issueForId } from "../../protocol/ids.ts";
import type { Issue } from "../../protocol/issue.ts";
import { readShape } from "../../protocol/shape.ts";
import { BATCHED_OP_NAMES, type BatchedOp, batchedOp } from "../batched-ops.ts";
import { checkShape } from "../body.ts";
import { completed } from "../bounds.ts";
import type { Call } from "../call.ts";
import { type Mutation, mutate } from "../command.ts";
import type { HttpAnswer } from "../http-answer.ts";
import { RequestRefused } from "../problem.ts";

/** Fields that routes have and commands of a batch do not: the key is the batch's, and nothing waits within one. */
const NOT_IN_BATCHES: readonly string[] = ["command_id", "wait_ms"];

/** A command of a batch, read. */
interface Part {
  /** As it was sent. */
  op: string;
  mutation: BatchedOp["mutation"];
  body: BodyOf<BodyName>;
  /** The request as one about this command alone. */
  call: Call;
}

type Read = { part: Part } | { issues: Issue[] };

/** `POST /v1/…/commands`: many mutations in one commit group, all or none (docs/http-api.md). */
export async function runCommands(call: Call): Promise<HttpAnswer> {
  // What is not this run's to see is refused before anything else.
  call.run();
  const { commands, command_id } = await call.body("commands");
  const reads = commands.map((command, index) => readPart(command, index, call));
  const issues = reads.flatMap((read) => ("issues" in read ? read.issues : []));
  checkShape(issues);
  const parts = reads.flatMap((read) => ("part" in read ? read.part : []));
  if (command_id !== undefined) checkShape(parts.flatMap(rowKeyIssues));
  return mutate(batchOf(parts), call);
}

function batchOf(parts: readonly Part[]): Mutation<"batch", "commands"> {
  return {
    body: "commands",
    command: async ({ expected_revision, dry_run }) => ({
      op: "batch",
      commands: await commandsOf(parts),
      expected_revision,
      dry_run: dry_run ?? false,
    }),
    context: () => {
      throw new Error("/context has no batches");
    },
    native: ({ outcome: { outcomes, revision, dry_run } }) => ({
      members: {
        results: parts.map((part, index) => resultOf(part, outcomes[index])),
        revision,
        dry_run: dry_run || undefined,
      },
    }),
    represents: ["run", "blackboard"],
  };
}

/** The commands in order; the first that is refused is named. */
async function commandsOf(parts: readonly Part[]): Promise<Command[]> {
  const commands: Command[] = [];
  for (const [index, { mutation, body, call }] of parts.entries()) {
    try {
      const command: AnyCommand = await mutation.command(body, call);
      if (command.op === "batch") throw new Error("a batch holds no batches");
      commands.push(command);
    } catch (error) {
      throw error instanceof RequestRefused ? error.atCommand(index) : error;
    }
  }
  return commands;
}

/** What the command's route would answer, without status and headers. */
function resultOf({ op, mutation, call }: Part, outcome: Outcome | undefined): Record<string, unknown> {
  if (outcome === undefined) throw new Error("a batch has an outcome for each command");
  const written = mutation.native({ outcome, echo: {} }, call);
  if ("refusal" in written) throw new Error("what is done is not refused");
  return { op, ...written.members };
}

/** @throws RequestRefused `SCOPE_INSUFFICIENT` */
function readPart(command: { op: string }, index: number, call: Call): Read {
  const place = `commands[${index}]`;
  const { op, ...fields } = command as { op: string } & Record<string, unknown>;
  const known = batchedOp(op);
  if (known === null) {
    const message = `must be one of ${BATCHED_OP_NAMES.join(", ")}`;
    return { issues: [{ field: `${place}.op`, rule: "one_of", message }] };
  }
  requireScope(known, index, call);
  const { mutation, path = [], says = {}, renamed } = known;
  const alien = [...NOT_IN_BATCHES, ...Object.keys(says), ...(renamed === undefined ? [] : [renamed.inBody])];
  const issues = alien
    .filter((name) => fields[name] !== undefined)
    .map((name) => ({
      field: `${place}.${name}`,
      rule: "unknown_field",
      message: "is not a field of this command",
    }));
  const ids: Partial<Record<(typeof path)[number], string>> = {};
  for (const name of path) {
    const issue = idIssue(`${place}.${name}`, fields[name]);
    if (issue === null) ids[name] = fields[name] as string;
    else issues.push(issue);
    delete fields[name];
  }
  if (renamed !== undefined) {
    fields[renamed.inBody] = fields[renamed.here];
    delete fields[renamed.here];
  }
  if (issues.length > 0) return { issues };
  const schema = nativeBodies()[mutation.body] as unknown as z.core.$ZodType<BodyOf<BodyName>>;
  const read = readShape(schema, completed(mutation.body, { ...fields, ...says }, call.principal), place);
  if (!read.ok) return { issues: read.issues.map((issue) => renamedBack(issue, place, renamed)) };
  return { part: { op, mutation, body: read.value, call: call.about(ids) } };
}

/** The first commit carries the key of the batch, so rows cannot bring keys of their own beside it. */
function rowKeyIssues({ body }: Part, index: number): Issue[] {
  const rows = "tasks" in body ? body.tasks : [];
  return rows.flatMap((row, place) => {
    if (!("command_id" in row) || row.command_id === undefined) return [];
    const message = "cannot be combined with a command_id of the batch";
    return [{ field: `commands[${index}].tasks[${place}].command_id`, rule: "one_key", message }];
  });
}

function requireScope({ needs }: BatchedOp, index: number, { principal: { scopes } }: Call): void {
  if (needs === undefined || hasScope(scopes, needs)) return;
  const error = `this credential may not do what needs the scope ${needs}`;
  throw new RequestRefused({
    code: "SCOPE_INSUFFICIENT",
    error,
    needs,
    scopes: [...scopes],
  }).atCommand(index);
}

function idIssue(field: string, value: unknown): Issue | null {
  if (value === undefined || value === null) return { field, rule: "required", message: "is required" };
  if (typeof value !== "string") return { field, rule: "string", message: "must be a string" };
  return issueForId(field, value);
}

function renamedBack(issue: Issue, place: string, renamed: BatchedOp["renamed"]): Issue {
  if (renamed === undefined || issue.field !== `${place}.${renamed.inBody}`) return issue;
  return { ...issue, field: `${place}.${renamed.here}` };
}
