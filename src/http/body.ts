import type * as z from "zod/mini";
import { limitExceeded } from "../domain/refusals.ts";
import { ID_RULE } from "../protocol/bodies.ts";
import { type IJsonProblem, parseIJson } from "../protocol/i-json.ts";
import type { Issue } from "../protocol/issue.ts";
import { MAX_BODY_BYTES } from "../protocol/limits.ts";
import { LENGTH_RULE } from "../protocol/schema.ts";
import { readShape } from "../protocol/shape.ts";
import { RequestRefused, refuseIssues } from "./problem.ts";

/** What of a body over its limit is read all the same. */
const MAX_DRAINED_BYTES = 7 * MAX_BODY_BYTES;

/**
 * Reads a request's JSON body and checks its shape. Checks in the contract's order: content type, size, encoding and
 * syntax, shape (contract 02 §1.3).
 * @param options.mayBeEmpty whether no body at all counts as `{}` (contract 07 D101).
 * @param options.complete adds what the body may leave open before its shape is checked.
 * @throws RequestRefused naming what is wrong.
 */
export async function readBody<Schema extends z.core.$ZodType>(
  request: Request,
  schema: Schema,
  options: { mayBeEmpty: boolean; complete?: (value: unknown) => unknown },
): Promise<z.output<Schema>> {
  if (!(options.mayBeEmpty && isEmpty(request))) checkContentType(request);
  const text = decode(await readBytes(request, MAX_BODY_BYTES));
  const parsed =
    options.mayBeEmpty && text.trim() === "" ? { ok: true as const, value: {} } : parseIJson(text);
  if (!parsed.ok) refuseJson(parsed.problem);
  const { complete = (value: unknown) => value } = options;
  const read = readShape(schema, complete(parsed.value));
  if (!read.ok) refuseShape(read.issues);
  return read.value;
}

function isEmpty(request: Request): boolean {
  return request.headers.get("content-length") === "0" || request.body === null;
}

/** Refuses a body for its shape, if there is anything wrong with it. @throws RequestRefused */
export function checkShape(issues: Issue[]): void {
  if (issues.length > 0) refuseShape(issues);
}

function refuseShape(issues: Issue[]): never {
  const malformedIds = issues.filter((issue) => issue.rule === ID_RULE);
  if (malformedIds.length > 0) refuseIssues("ID_INVALID", malformedIds);
  // A body whose only fault is a length over a limit crosses that limit; it is not of the wrong shape.
  const [first] = issues;
  if (first?.limit !== undefined && issues.every((issue) => issue.rule === LENGTH_RULE)) {
    throw new RequestRefused(limitExceeded(first.field, first.limit, first.actual ?? first.limit + 1));
  }
  refuseIssues("BODY_INVALID", issues);
}

function checkContentType(request: Request): void {
  const type = request.headers.get("content-type")?.split(";")[0]?.trim().toLowerCase() ?? "";
  if (type === "application/json" || /^application\/[^/]+\+json$/.test(type)) return;
  throw new RequestRefused({
    code: "CONTENT_TYPE_UNSUPPORTED",
    error: "content type must be application/json",
  });
}

/**
 * Reads until the limit, so that no client can make the Worker hold more. What is over it is read too, up to a bound,
 * and thrown away: a client that is still sending does not see an answer that comes before it is done.
 * @throws RequestRefused `BODY_TOO_LARGE`, `BODY_MALFORMED`
 */
export async function readBytes(request: Request, limit: number): Promise<Uint8Array> {
  // A body whose length is known and allowed needs no counting, and reading it at once is much cheaper.
  const declared = request.headers.get("content-length");
  if (declared !== null && Number(declared) <= limit) return request.bytes().catch(refuseBrokenOff);
  const chunks: Uint8Array[] = [];
  let length = 0;
  for await (const chunk of chunksOf(request)) {
    length += chunk.length;
    if (length > limit + MAX_DRAINED_BYTES) throw bodyTooLarge(limit);
    if (length <= limit) chunks.push(chunk);
  }
  if (length > limit) throw bodyTooLarge(limit);
  if (chunks.length === 1 && chunks[0] !== undefined) return chunks[0];
  const bytes = new Uint8Array(length);
  let offset = 0;
  for (const chunk of chunks) {
    bytes.set(chunk, offset);
    offset += chunk.length;
  }
  return bytes;
}

/** A request's body, piece by piece. @throws RequestRefused `BODY_MALFORMED` when it breaks off */
export async function* chunksOf({ body }: Request): AsyncGenerator<Uint8Array> {
  if (body === null) return;
  const reader = body.getReader();
  try {
    for (;;) {
      const { done, value } = await reader.read().catch(refuseBrokenOff);
      if (done) return;
      yield value;
    }
  } finally {
    // Whoever wants no more of it cancels the rest; of one that broke off there is none.
    await reader.cancel().catch(() => undefined);
  }
}

/**
 * The platform says of a body whose connection is lost, or whose chunks are none, what it says of a lost connection to an object: as
 * a fault of its own that passes. It is the client's.
 */
function refuseBrokenOff(): never {
  throw new RequestRefused({ code: "BODY_MALFORMED", error: "the body broke off before its end" });
}

export function bodyTooLarge(limit: number): RequestRefused {
  return new RequestRefused({
    code: "BODY_TOO_LARGE",
    error: `body is limited to ${limit} bytes`,
    limit_name: "body_bytes",
    limit,
  });
}

const utf8 = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });

function decode(bytes: Uint8Array): string {
  try {
    return utf8.decode(bytes);
  } catch {
    throw new RequestRefused({ code: "BODY_MALFORMED", error: "body is not UTF-8" });
  }
}

function refuseJson(problem: IJsonProblem): never {
  if (problem.kind === "syntax") {
    throw new RequestRefused({ code: "BODY_MALFORMED", error: `body is not JSON: ${problem.message}` });
  }
  refuseIssues("BODY_INVALID", [issueOf(problem)]);
}

function issueOf(problem: Exclude<IJsonProblem, { kind: "syntax" }>): Issue {
  switch (problem.kind) {
    case "duplicate_name":
      return {
        field: problem.path,
        rule: "unique_names",
        message: "is given twice",
      };
    case "unsafe_integer":
      return {
        field: problem.path,
        rule: "safe_integer",
        message: "integers must lie within ±(2^53 - 1)",
        limit: Number.MAX_SAFE_INTEGER,
      };
    case "number_out_of_range":
      return { field: problem.path, rule: "finite_number", message: "is out of the range of numbers" };
    case "lone_surrogate":
      return { field: problem.path, rule: "well_formed_text", message: "has half a surrogate pair" };
    case "too_deep":
      return {
        field: "",
        rule: "max_depth",
        message: `body is nested deeper than ${problem.limit} levels`,
        limit: problem.limit,
      };
  }
}
