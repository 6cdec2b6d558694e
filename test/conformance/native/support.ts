import { expect } from "vitest";
import { type Answer, type Body, call, must, newRun, type RunRoutes } from "../support.ts";

/** The members of an answer that only `/v1` has. */
export interface NativeBody extends Body {
  type: string;
  title: string;
  status: number;
  detail: string;
  instance: string;
  retryable: boolean;
  request_id: string;
  revision: number;
  task_rev: number;
  claimable: boolean;
  open_dependency_ids: string[];
  attempts_exhausted: boolean;
}

/** A run made and addressed at `/v1`. */
export function newNativeRun(fields: Record<string, unknown> = {}): Promise<RunRoutes> {
  return newRun({ objective: "o", ...fields }, "/v1");
}

/** The body of an accepted `/v1` answer. */
export function good(answer: Answer, status = 200): NativeBody {
  return must(answer, status) as NativeBody;
}

/** Creates tasks at `/v1`; `task_type` is "custom" unless a row says otherwise. */
export async function addNativeTasks(
  run: RunRoutes,
  ...rows: Record<string, unknown>[]
): Promise<NativeBody> {
  const tasks = rows.map((row) => ({ task_type: "custom", ...row }));
  return good(await run.post("/tasks", { tasks }), 201);
}

/** Proves that an answer is a complete problem document with this status and code, and gives it back. */
export function problem(answer: Answer, status: number, code: string): NativeBody {
  expect([answer.status, answer.body.code], answer.text).toEqual([status, code]);
  expect(answer.headers.get("content-type")).toMatch(/^application\/problem\+json/);
  const body = answer.body as NativeBody;
  expect(body).toMatchObject({
    type: expect.stringMatching(new RegExp(`^https?://[^/]+/problems/${code}$`)),
    title: expect.stringMatching(/./),
    status,
    detail: expect.stringMatching(/./),
    instance: expect.stringMatching(/./),
    code,
    error: body.detail,
    retryable: expect.any(Boolean),
    request_id: expect.stringMatching(/./),
  });
  return body;
}

/** All rows of a list, page by page, and how many pages there were. */
export async function allPages<T>(
  path: string,
  rowsOf: (body: NativeBody) => T[],
): Promise<{ rows: T[]; sizes: number[] }> {
  const rows: T[] = [];
  const sizes: number[] = [];
  for (let next: string | null = path; next !== null; ) {
    const body: NativeBody = good(await call("GET", next));
    rows.push(...rowsOf(body));
    sizes.push(rowsOf(body).length);
    expect(body.next === null).toBe(body.next_cursor === null);
    if (body.next !== null) {
      const url: URL = new URL(body.next, "http://any");
      expect(url.searchParams.get("cursor")).toBe(body.next_cursor);
      next = url.pathname + url.search;
    } else {
      next = null;
    }
    if (sizes.length > 1000) throw new Error("the pages never end");
  }
  return { rows, sizes };
}
