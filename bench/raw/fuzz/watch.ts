import type { Env } from "../../../src/env.ts";
import type { Writes } from "./writes.ts";

/** Where what is written now is to be noted. */
export type Place = () => Writes;

const WRITE =
  /^\s*(INSERT(?:\s+OR\s+\w+)?\s+INTO|UPDATE|DELETE\s+FROM|REPLACE\s+INTO|CREATE|DROP|ALTER)\b\s*"?(\w+)/i;

/** What a statement writes to, or null when it only reads: a table's name, or `schema` when it changes that. */
export function tableWritten(query: string): string | null {
  const match = WRITE.exec(query);
  if (match === null) return /^\s*WITH\b[\s\S]*\b(INSERT|UPDATE|DELETE)\b/i.test(query) ? "with" : null;
  const [, verb = "", name = ""] = match;
  return /^(CREATE|DROP|ALTER)/i.test(verb) ? "schema" : name;
}

/** The type of the event among a statement's bindings and, where it says one, the reason. */
function eventIn(bindings: readonly unknown[]): string {
  for (const binding of bindings) {
    if (typeof binding !== "string" || !binding.startsWith("{") || !binding.includes('"event_id"')) continue;
    const { type, payload } = JSON.parse(binding) as { type: string; payload?: { reason?: unknown } | null };
    const reason = payload?.reason;
    return /^context\.(task|lock)\./.test(type) && typeof reason === "string" ? `${type} ${reason}` : type;
  }
  return "";
}

/** Notes all that an object writes to its own storage. What a transaction undoes was not written. */
export function watchStorage(ctx: DurableObjectState, kind: string, place: Place): void {
  const { storage } = ctx;
  const { sql } = storage;
  const exec = sql.exec.bind(sql);
  const holdsRun = (): boolean => {
    try {
      return exec("SELECT 1 FROM run").toArray().length > 0;
    } catch {
      return false;
    }
  };
  const watchedExec = (query: string, ...bindings: unknown[]) => {
    const table = tableWritten(query);
    if (table === null) return exec(query, ...bindings);
    const writes = place();
    if (kind === "run" && writes.isNew(storage)) writes.found(storage, holdsRun());
    const cursor = exec(query, ...bindings);
    const emptied = /^DELETE FROM "(\w+)"$/.exec(query)?.[1];
    // All tables are emptied one after the other, and only then (run/tombstone.ts).
    if (kind === "run" && emptied === "run") writes.wiped(storage);
    else if (emptied !== undefined) return cursor;
    else if (cursor.rowsWritten > 0 || /\bRETURNING\b/i.test(query)) {
      const event = table === "commits" ? eventIn(bindings) : "";
      writes.add(storage, `${kind} ${table}${event === "" ? "" : ` ${event}`}`);
    }
    return cursor;
  };
  Object.defineProperty(sql, "exec", { value: watchedExec });

  const transactionSync = storage.transactionSync.bind(storage);
  const watchedTransaction: typeof transactionSync = (body) => {
    const writes = place();
    const before = writes.length;
    try {
      return transactionSync(body);
    } catch (error) {
      writes.undoTo(before);
      throw error;
    }
  };
  Object.defineProperty(storage, "transactionSync", { value: watchedTransaction });
}

/** The bindings, with all that is written by way of them noted. @param from what stands before the binding's name, `run>` */
export function watchEnv(env: Env, from: string, place: Place): Env {
  const watched = { ...env, DIRECTORY: watchDatabase(env.DIRECTORY, from, place) };
  if (env.ARTIFACTS !== undefined) watched.ARTIFACTS = watchBucket(env.ARTIFACTS, from, place);
  return watched;
}

const queries = new WeakMap<D1PreparedStatement, string>();

function watchDatabase(database: D1Database, from: string, place: Place): D1Database {
  const note = (query: string, changes: number) => {
    const table = tableWritten(query);
    if (table !== null && changes > 0) place().add(database, `${from}directory ${table}`);
  };
  const changesOf = (result: D1Result): number => result.meta.rows_written ?? result.meta.changes ?? 1;
  const statement = (inner: D1PreparedStatement, query: string): D1PreparedStatement => {
    const watched = new Proxy(inner, {
      get(target, name) {
        if (name === "bind") return (...values: unknown[]) => statement(target.bind(...values), query);
        if (name === "run" || name === "all") {
          return async () => {
            const result = await target[name]();
            note(query, changesOf(result));
            return result;
          };
        }
        if (name === "first" || name === "raw") {
          return async (...args: unknown[]) => {
            const read = target[name] as (...args: unknown[]) => Promise<unknown>;
            const result = await read.apply(target, args);
            const isEmpty = result === null || (Array.isArray(result) && result.length === 0);
            note(query, isEmpty ? 0 : 1);
            return result;
          };
        }
        const value: unknown = Reflect.get(target, name, target);
        return typeof value === "function" ? value.bind(target) : value;
      },
    });
    queries.set(watched, query);
    inners.set(watched, inner);
    return watched;
  };
  return new Proxy(database, {
    get(target, name) {
      if (name === "prepare") return (query: string) => statement(target.prepare(query), query);
      if (name === "batch") {
        return async (statements: D1PreparedStatement[]) => {
          const results = await target.batch(statements.map((one) => inners.get(one) ?? one));
          for (const [index, result] of results.entries()) {
            const asked = statements[index];
            if (asked !== undefined) note(queries.get(asked) ?? "", changesOf(result));
          }
          return results;
        };
      }
      const value: unknown = Reflect.get(target, name, target);
      return typeof value === "function" ? value.bind(target) : value;
    },
  });
}

const inners = new WeakMap<D1PreparedStatement, D1PreparedStatement>();

const BUCKET_WRITES = new Set(["put", "delete", "createMultipartUpload", "resumeMultipartUpload"]);
const UPLOAD_WRITES = new Set(["uploadPart", "abort", "complete"]);

function watchBucket(bucket: R2Bucket, from: string, place: Place): R2Bucket {
  return watchCalls(bucket, BUCKET_WRITES, (name, result) => {
    if (name === "createMultipartUpload" || name === "resumeMultipartUpload") {
      if (name === "createMultipartUpload") place().add(bucket, `${from}bucket ${name}`);
      return watchCalls(result as R2MultipartUpload, UPLOAD_WRITES, (call, part) => {
        place().add(bucket, `${from}bucket ${call}`);
        return part;
      });
    }
    place().add(bucket, `${from}bucket ${name}`);
    return result;
  });
}

/** An object whose calls of these names are told when they have come to a result, which may be replaced. */
function watchCalls<T extends object>(
  inner: T,
  names: ReadonlySet<string>,
  done: (name: string, result: unknown) => unknown,
): T {
  return new Proxy(inner, {
    get(target, name) {
      const value: unknown = Reflect.get(target, name, target);
      if (typeof value !== "function") return value;
      if (typeof name !== "string" || !names.has(name)) return value.bind(target);
      return (...args: unknown[]) => {
        const result: unknown = value.apply(target, args);
        return result instanceof Promise ? result.then((come) => done(name, come)) : done(name, result);
      };
    },
  });
}
