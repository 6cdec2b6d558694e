import { readFile } from "node:fs/promises";
import { type AddressInfo, createServer } from "node:net";
import { join } from "node:path";
import { WebSocket } from "ws";
import type { MemorySamples } from "./memory-bound.ts";

const MIB = 1024 * 1024;

/** What a server holds, as it was sampled. */
export class Memory {
  readonly samples: MemorySamples = { heapMib: [], rssMib: [] };
  readonly #pid: number;
  readonly #inspector: WebSocket;
  #asked = 0;

  private constructor(pid: number, inspector: WebSocket) {
    this.#pid = pid;
    this.#inspector = inspector;
  }

  /**
   * @param stateDir of a running server: it records the runtime's pid there.
   * @param inspectorPort where the server's isolates can be looked into.
   */
  static async of(stateDir: string, inspectorPort: number): Promise<Memory> {
    const [pid] = (await readFile(join(stateDir, "workerd"), "utf8")).split("\n");
    // The Worker and its objects share one isolate here; the others are those of the simulated D1, R2 and the like.
    const listed = (await (await fetch(`http://127.0.0.1:${inspectorPort}/json`)).json()) as Isolate[];
    const own = listed.find(({ id }) => id === "core:user:baton");
    if (own === undefined) throw new Error("the inspector shows no isolate of the Worker");
    const inspector = new WebSocket(own.webSocketDebuggerUrl);
    await new Promise((resolve, reject) => inspector.once("open", resolve).once("error", reject));
    return new Memory(Number(pid), inspector);
  }

  /** Notes what lives in the isolate's heap once garbage is collected, and what the whole process holds. */
  async sample(): Promise<void> {
    await this.#ask("HeapProfiler.collectGarbage");
    const { usedSize } = await this.#ask("Runtime.getHeapUsage");
    this.samples.heapMib.push(Number(usedSize) / MIB);
    const status = await readFile(`/proc/${this.#pid}/status`, "utf8").catch(() => "");
    const kib = /^VmRSS:\s+(\d+)/m.exec(status)?.[1];
    // There is /proc on Linux alone.
    if (kib !== undefined) this.samples.rssMib.push(Number(kib) / 1024);
  }

  close(): void {
    this.#inspector.terminate();
  }

  async #ask(method: string): Promise<Record<string, unknown>> {
    this.#asked += 1;
    const id = this.#asked;
    return await new Promise((resolve, reject) => {
      const heard = (data: Buffer) => {
        const told = JSON.parse(data.toString()) as { id?: number; result?: Record<string, unknown> };
        if (told.id !== id) return;
        this.#inspector.off("message", heard);
        if (told.result === undefined) reject(new Error(`the inspector refused ${method}`));
        else resolve(told.result);
      };
      this.#inspector.on("message", heard);
      this.#inspector.send(JSON.stringify({ id, method }));
    });
  }
}

interface Isolate {
  readonly id: string;
  readonly webSocketDebuggerUrl: string;
}

/** A port that was free a moment ago. */
export async function freePort(): Promise<number> {
  const server = createServer();
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const { port } = server.address() as AddressInfo;
  await new Promise((resolve) => server.close(resolve));
  return port;
}
