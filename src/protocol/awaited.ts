import type * as z from "zod/mini";
import type { RunStatus, WorkStatus } from "./status.ts";

/** What an event must be like that is waited for. */
interface AwaitedEvent {
  types: string[] | undefined;
  task_id: string | undefined;
  since_seq: number | undefined;
}

/** The one thing that is waited for. */
export type Awaited =
  | { task_id: string; status: WorkStatus[] }
  | { run_status: RunStatus[] }
  | { event: AwaitedEvent };

/** Reads it from the fields of all of them; given otherwise than one by one it is an issue. */
export function awaited(
  given: {
    task_id: string | undefined;
    status: WorkStatus[] | undefined;
    run_status: RunStatus[] | undefined;
    event: AwaitedEvent | undefined;
  },
  context: z.core.ParsePayload,
): Awaited {
  const { task_id, status, run_status, event } = given;
  const kinds = [task_id ?? status, run_status, event].filter((kind) => kind !== undefined);
  if (kinds.length === 1 && task_id !== undefined && status !== undefined) return { task_id, status };
  if (kinds.length === 1 && run_status !== undefined) return { run_status };
  if (kinds.length === 1 && event !== undefined) return { event };
  const message = "must have just one of: task_id with status; run_status; event";
  context.issues.push({ code: "custom", input: given, message, params: { rule: "one_of" } });
  return { event: { types: undefined, task_id: undefined, since_seq: undefined } };
}
