import { createServer } from "node:http2";
import { createEndpointHandler, type ObjectContext, object, TerminalError } from "@restatedev/restate-sdk";
import { host } from "./network.ts";
import type { Payload } from "./phases.ts";

/** A task as the queue keeps it, under a key of its own. */
export interface StoredTask {
  payload: Payload;
  status: "open" | "held" | "done";
  holder?: string;
  heldUntilMs?: number;
}

/** Claimed tasks come before `head`, created ones before `tail`. */
interface Cursor {
  head: number;
  tail: number;
}

/** What a caller says about its hold. The caller's clock counts: reading one here would be a durable step more. */
export interface HoldRequest {
  id: number;
  holder: string;
  heldUntilMs: number;
}

const cursorKey = "cursor";
const taskKey = (id: number): string => `task/${id}`;

const queue = object({
  name: "Queue",
  // The state of a run grows with its tasks, and eager state would travel whole with every call.
  options: { enableLazyState: true },
  handlers: {
    create: async (context: ObjectContext, payload: Payload): Promise<number> => {
      const { head, tail } = await readCursor(context);
      context.set<StoredTask>(taskKey(tail), { payload, status: "open" });
      context.set<Cursor>(cursorKey, { head, tail: tail + 1 });
      return tail;
    },

    claim: async (
      context: ObjectContext,
      { holder, heldUntilMs }: Omit<HoldRequest, "id">,
    ): Promise<{ id: number; payload: Payload } | null> => {
      const { head: id, tail } = await readCursor(context);
      if (id === tail) return null;
      const { payload } = await readTask(context, id);
      context.set<StoredTask>(taskKey(id), { payload, status: "held", holder, heldUntilMs });
      context.set<Cursor>(cursorKey, { head: id + 1, tail });
      return { id, payload };
    },

    heartbeat: async (context: ObjectContext, { id, holder, heldUntilMs }: HoldRequest): Promise<void> => {
      const task = await readHeld(context, id, holder);
      context.set<StoredTask>(taskKey(id), { ...task, heldUntilMs });
    },

    complete: async (
      context: ObjectContext,
      { id, holder }: Omit<HoldRequest, "heldUntilMs">,
    ): Promise<void> => {
      const { payload } = await readHeld(context, id, holder);
      context.set<StoredTask>(taskKey(id), { payload, status: "done", holder });
    },
  },
});

async function readCursor(context: ObjectContext): Promise<Cursor> {
  return (await context.get<Cursor>(cursorKey)) ?? { head: 0, tail: 0 };
}

async function readTask(context: ObjectContext, id: number): Promise<StoredTask> {
  const task = await context.get<StoredTask>(taskKey(id));
  if (task === null) throw new TerminalError(`there is no task ${id}`);
  return task;
}

async function readHeld(context: ObjectContext, id: number, holder: string): Promise<StoredTask> {
  const task = await readTask(context, id);
  if (task.status !== "held" || task.holder !== holder)
    throw new TerminalError(`${holder} does not hold task ${id}`);
  return task;
}

const server = createServer(createEndpointHandler({ services: [queue] }));
server.listen(0, host, () => process.send?.(server.address()));
process.once("disconnect", () => process.exit());
