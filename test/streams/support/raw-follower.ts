import { type Stretch, unpackStretches } from "../../../src/run/stretch.ts";
import { eventually } from "../../run/support/test-run.ts";

/** A socket to an object that is followed, and all that it was told. */
export class RawFollower {
  readonly messages: string[] = [];
  readonly #socket: WebSocket;

  private constructor(socket: WebSocket) {
    this.#socket = socket;
    socket.accept();
    socket.addEventListener("message", ({ data }) => {
      this.messages.push(String(data));
    });
  }

  /** Follows; resolves when the object has said its first word. */
  static async open(stub: {
    fetch(url: string, init: RequestInit): Promise<Response>;
  }): Promise<RawFollower> {
    const { webSocket } = await stub.fetch("https://object/follow", { headers: { upgrade: "websocket" } });
    if (webSocket === null) throw new Error("there is nothing to follow");
    const follower = new RawFollower(webSocket);
    await follower.until(() => follower.messages.length > 0);
    return follower;
  }

  /** The stretches it was told, in order. */
  get stretches(): Stretch[] {
    return this.messages.filter((text) => !text.startsWith("{")).flatMap(unpackStretches);
  }

  /** Of these, those of a run. */
  stretchesOf(runId: string): Stretch[] {
    return this.stretches.filter(({ run_id }) => run_id === runId);
  }

  /** Up to which commit it was told a run. */
  seqOf(runId: string): number {
    return this.stretchesOf(runId).at(-1)?.upto_seq ?? 0;
  }

  async until(isSo: () => boolean): Promise<void> {
    await eventually(async () => isSo(), Boolean, 10_000);
  }

  close(): void {
    this.#socket.close(1000);
  }
}
