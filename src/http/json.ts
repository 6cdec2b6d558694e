import type { Text } from "../run/text.ts";
import type { HttpAnswer } from "./http-answer.ts";

/** JSON that is text already: spliced into an answer as it is. */
export class RawJson {
  readonly text: Text;

  constructor(text: Text) {
    this.text = text;
  }
}

export interface AnswerInit {
  status?: number;
  headers?: Record<string, string>;
}

/** An answer of these members. Undefined ones are left out; long raw ones are streamed. */
export function jsonAnswer(members: Record<string, unknown>, init: AnswerInit = {}): HttpAnswer {
  const pieces: Text[] = [];
  for (const [name, value] of Object.entries(members)) {
    if (value === undefined) continue;
    const key = `${pieces.length === 0 ? "{" : ","}${JSON.stringify(name)}:`;
    if (value instanceof RawJson) pieces.push(key, value.text);
    else pieces.push(key + JSON.stringify(value));
  }
  pieces.push(pieces.length === 0 ? "{}" : "}");
  return jsonText(pieces, init);
}

/** An answer of JSON text in pieces. */
export function jsonText(pieces: Text[], init: AnswerInit = {}): HttpAnswer {
  const headers = { "content-type": "application/json", ...init.headers };
  return { status: init.status ?? 200, headers, body: bodyOf(pieces) };
}

/** One string if it can be, else a stream of the pieces in order. */
export function bodyOf(pieces: Text[]): BodyInit {
  if (pieces.every((piece) => typeof piece === "string")) return pieces.join("");
  const { readable, writable } = new TransformStream<Uint8Array, Uint8Array>();
  // Not awaited: the body flows while the answer is on its way. A reader that leaves ends it.
  void pump(pieces, writable).catch(() => undefined);
  return readable;
}

async function pump(pieces: Text[], writable: WritableStream<Uint8Array>): Promise<void> {
  const utf8 = new TextEncoder();
  for (const piece of pieces) {
    if (typeof piece === "string") {
      const writer = writable.getWriter();
      await writer.write(utf8.encode(piece));
      writer.releaseLock();
    } else {
      await piece.pipeTo(writable, { preventClose: true });
    }
  }
  await writable.close();
}
