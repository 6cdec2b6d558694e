import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { newTask } from "./baton.ts";
import { accepted } from "./connection.ts";
import type { Target } from "./measure.ts";

/** Rows that one request cost, as its answer tells. */
export interface Rows {
  read: number;
  written: number;
}

/** What it costs to create a task that nobody can claim, in the run at `path`. NaN where the answer does not tell. */
export async function quietCreation(baton: Target, path: string, id: string): Promise<Rows> {
  const url = `${path}/tasks`;
  const response = await fetch(baton.url + url, {
    method: "POST",
    headers: { authorization: `Bearer ${baton.token}`, "content-type": "application/json" },
    body: JSON.stringify({ tasks: [{ ...newTask(id), status: "blocked" }] }),
  });
  accepted(url, { status: response.status, text: await response.text(), elapsedMs: 0 });
  const count = (header: string) => Number(response.headers.get(header) ?? Number.NaN);
  return { read: count("baton-rows-read"), written: count("baton-rows-written") };
}

/** What the server that keeps its state there has in memory, in kilobytes; NaN where the system does not tell (not Linux). */
export async function memoryOf(stateDir: string): Promise<number> {
  try {
    const [pid] = (await readFile(join(stateDir, "workerd"), "utf8")).split("\n");
    const status = await readFile(`/proc/${pid}/status`, "utf8");
    return Number(/^VmRSS:\s+(\d+)/m.exec(status)?.[1] ?? Number.NaN);
  } catch {
    return Number.NaN;
  }
}
