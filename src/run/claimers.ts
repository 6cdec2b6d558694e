import type { Refusal } from "../domain/refusals.ts";
import { parkedBytes, readClaimerWord, writeObjectWord } from "./claim-line.ts";
import type { Engine } from "./engine.ts";
import { packAnswer } from "./packed-answer.ts";
import type { ClaimSubmission, ParkedClaim } from "./parked-claims.ts";

/** Marks the sockets of claimers, among others that an object may have. */
const CLAIMER = "claimer";

/** What a socket keeps of its claim while the object sleeps. */
interface Attachment {
  place: number;
  /** The submission: JSON in UTF-8. */
  submission: Uint8Array;
}

/** Places of one millisecond. */
const PLACES_PER_MS = 1_000;

/**
 * The claims that wait, each at a socket of its own, which outlives the object's sleep and keeps the claim with it.
 *
 * C1 Who has a place keeps it: after a sleep, and when it comes back because the object was restarted.
 * C2 A claimer is told one answer, and its socket is closed then. Who says that it leaves is answered, too: with what was claimed
 *    for it in that moment, or what a claim comes to that does not wait.
 * C3 A claimer that is gone without a word is known by its socket when its turn comes, or the object is full.
 */
export class Claimers {
  readonly #ctx: DurableObjectState;
  /** By place. */
  readonly #claims = new Map<number, ParkedClaim>();
  #lastPlace = 0;

  constructor(ctx: DurableObjectState) {
    this.#ctx = ctx;
  }

  /** Takes a claimer in, who then says what it waits for. The response hands the other end to the caller. */
  accept(): Response {
    const { 0: client, 1: socket } = new WebSocketPair();
    this.#ctx.acceptWebSocket(socket, [CLAIMER]);
    return new Response(null, { status: 101, webSocket: client });
  }

  isClaimer(socket: WebSocket): boolean {
    return this.#ctx.getTags(socket).includes(CLAIMER);
  }

  /** After a sleep: those that wait yet. */
  restore(engine: Engine): void {
    for (const socket of this.#ctx.getWebSockets(CLAIMER)) {
      const attachment = attachmentOf(socket);
      if (attachment === null) continue;
      const submission = JSON.parse(new TextDecoder().decode(attachment.submission)) as ClaimSubmission;
      engine.parkAgain(this.#claimAt(socket, attachment.place, submission));
    }
  }

  /** A claimer has said something. Resolves when that is done. */
  async heard(socket: WebSocket, text: string, engine: Engine): Promise<void> {
    const word = readClaimerWord(text);
    if (word === "leave") return this.#leave(socket, engine);
    const place = word.place ?? this.#nextPlace();
    const left = this.#claims.get(place);
    if (left !== undefined) this.#forget(left, engine);
    const claim = this.#claimAt(socket, place, word.park);
    socket.serializeAttachment({ place, submission: parkedBytes(word.park) } satisfies Attachment);
    socket.send(writeObjectWord({ place }));
    const refusal = engine.park(claim);
    if (refusal !== null) this.#refuse(claim, refusal);
  }

  /** Its claimer has come back by another socket: what is left of it does not wait beside that, nor after a sleep. */
  #forget(left: ParkedClaim, engine: Engine): void {
    engine.unpark(left);
    for (const socket of this.#ctx.getWebSockets(CLAIMER)) {
      if (attachmentOf(socket)?.place === left.place) socket.serializeAttachment(null);
    }
  }

  /** Closes all sockets: who comes back learns what has become of the object. */
  dismiss(): void {
    this.#claims.clear();
    for (const socket of this.#ctx.getWebSockets(CLAIMER)) socket.close(1001, "gone");
  }

  async #leave(socket: WebSocket, engine: Engine): Promise<void> {
    const claim = this.#claims.get(attachmentOf(socket)?.place ?? 0);
    // It has been served: its answer is on its way.
    if (claim === undefined || !engine.unpark(claim)) return;
    try {
      claim.answer(packAnswer(await engine.submit(claim.submission)));
    } catch {
      claim.fail();
    }
  }

  #claimAt(socket: WebSocket, place: number, submission: ClaimSubmission): ParkedClaim {
    this.#lastPlace = Math.max(this.#lastPlace, place);
    const end = (word: string): void => {
      if (this.#claims.get(place) === claim) this.#claims.delete(place);
      try {
        socket.serializeAttachment(null);
        socket.send(word);
        socket.close(1000);
      } catch {
        // It has left: under its command id it finds out what was claimed for it.
      }
    };
    const claim: ParkedClaim = {
      submission,
      place,
      isAwaited: () => socket.readyState === WebSocket.READY_STATE_OPEN,
      answer: (answer) => end(writeObjectWord({ answer })),
      fail: () => end(writeObjectWord("failed")),
    };
    this.#claims.set(place, claim);
    return claim;
  }

  #refuse(claim: ParkedClaim, refusal: Refusal): void {
    claim.answer(packAnswer({ ok: false, refusal, rows: { read: 0, written: 0 } }));
  }

  /** Grows with time, so that it comes after the places that were given before the object slept or was restarted. */
  #nextPlace(): number {
    return Math.max(this.#lastPlace + 1, Date.now() * PLACES_PER_MS);
  }
}

function attachmentOf(socket: WebSocket): Attachment | null {
  return socket.deserializeAttachment() as Attachment | null;
}
