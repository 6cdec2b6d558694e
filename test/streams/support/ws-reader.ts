import { eventually } from "../../run/support/test-run.ts";
import { type FrameData, fetchWorker } from "./sse-reader.ts";

export interface WsOptions {
  confirms: boolean;
  /** How long a confirmation is on its way. */
  latencyMs?: number;
}

/** A client of a stream over a WebSocket, which confirms what it has received, or does not. */
export class WsReader {
  readonly frames: FrameData[] = [];
  /** Why the server closed it; null while it is open. */
  closed: { code: number; reason: string } | null = null;
  readonly socket: WebSocket;

  private constructor(socket: WebSocket, { confirms, latencyMs = 0 }: WsOptions) {
    this.socket = socket;
    socket.accept();
    socket.addEventListener("message", ({ data }) => {
      this.frames.push(JSON.parse(String(data)) as FrameData);
      const received = this.frames.length;
      if (confirms && latencyMs === 0) this.confirm(received);
      else if (confirms) setTimeout(() => this.confirm(received), latencyMs);
    });
    socket.addEventListener("close", ({ code, reason }) => {
      this.closed = { code, reason };
    });
  }

  static async open(path: string, options: WsOptions): Promise<WsReader> {
    const { status, webSocket } = await fetchWorker(path, { upgrade: "websocket" });
    if (webSocket === null) throw new Error(`${path} was answered with ${status}`);
    return new WsReader(webSocket, options);
  }

  confirm(received: unknown): void {
    if (this.closed === null) this.socket.send(JSON.stringify({ received }));
  }

  async until(isSo: (reader: WsReader) => boolean): Promise<void> {
    await eventually(async () => isSo(this), Boolean, 10_000).catch((error: unknown) => {
      const closed = JSON.stringify(this.closed);
      throw new Error(`${String(error)}; ${this.frames.length} frames, closed: ${closed}`);
    });
  }

  close(): void {
    if (this.closed === null) this.socket.close(1000);
  }
}
