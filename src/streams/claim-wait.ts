import {
  CLAIM_PATH,
  type ClaimerWord,
  type ObjectWord,
  readObjectWord,
  writeClaimerWord,
} from "../run/claim-line.ts";
import type { Answer } from "../run/engine.ts";
import { unpackAnswer } from "../run/packed-answer.ts";
import type { ClaimSubmission } from "../run/parked-claims.ts";
import { type RunClient, submit } from "../run/run-client.ts";
import type { Followed } from "./subscription.ts";
import { Waiter } from "./waiter.ts";

/** Waits before the tries to reach an object that has cut the line, in milliseconds; the last one again and again. */
const RETRY_DELAYS_MS = [0, 50, 100, 200, 400, 800, 1_600, 3_000];

/** Whether the wait still makes sense is looked at so often. */
const LOOK_MS = 10_000;

/** An object that is told that nobody waits any more answers as soon as its flush is done. */
const MAX_FAREWELL_MS = 10_000;

/**
 * Waits for a claim to be given something, parked in the run's object, which may sleep meanwhile. The submission needs a command
 * id: whatever happens to the line or the object, what was claimed under it is found again.
 *
 * @param run gives a way to the run's object, anew for each try: an old one may lead nowhere after a failure.
 * @param untilMs when it waits no more, epoch ms: the answer is then what a claim comes to that does not wait.
 * @param isOver whether the wait has lost its sense before that.
 * @throws when the object cannot be reached, or the claim failed.
 */
export async function claimOrWait(
  run: () => RunClient,
  submission: ClaimSubmission,
  untilMs: number,
  isOver: () => Promise<boolean>,
): Promise<Answer> {
  let place: number | null = null;
  for (let tries = 0; Date.now() < untilMs; tries += 1) {
    const delayMs = RETRY_DELAYS_MS[Math.min(tries, RETRY_DELAYS_MS.length - 1)] ?? 0;
    if (delayMs > 0) await scheduler.wait(Math.min(delayMs, untilMs - Date.now()));
    if (tries > 0 && (await isOver())) break;
    const line = await Line.open(run);
    // It says itself what has become of the run.
    if (line === "gone") break;
    if (line === "unreachable") continue;
    const answer = await line
      .park(submission, place)
      .answer(untilMs, isOver)
      .finally(() => line.close());
    if (answer === "over") break;
    if (answer !== "broken") return answer;
    // An object that has told a place was well.
    if (line.place !== null) tries = -1;
    place = line.place ?? place;
  }
  // Under its command id it finds what was claimed when the line broke.
  return submit(run(), submission);
}

/** A socket to a run's object at which one claim waits. */
class Line {
  readonly #socket: WebSocket;
  readonly #news = new Waiter();
  #word: Exclude<ObjectWord, { place: number }> | null = null;
  #isBroken = false;
  /** The claim's place; null until the object has told it. */
  place: number | null = null;

  private constructor(socket: WebSocket) {
    this.#socket = socket;
    socket.accept();
    socket.addEventListener("message", ({ data }) => this.#heard(readObjectWord(String(data))));
    socket.addEventListener("close", () => this.#broke());
    socket.addEventListener("error", () => this.#broke());
  }

  static async open(run: () => RunClient): Promise<Line | "gone" | "unreachable"> {
    try {
      const object = run() as unknown as Followed;
      const { webSocket, status } = await object.fetch(`https://object${CLAIM_PATH}`, {
        headers: { upgrade: "websocket" },
      });
      if (webSocket !== null) return new Line(webSocket);
      return status === 404 ? "gone" : "unreachable";
    } catch {
      return "unreachable";
    }
  }

  park(submission: ClaimSubmission, place: number | null): this {
    this.#say({ park: submission, place });
    return this;
  }

  /** The answer, at the end of the time or of its sense the one to who leaves. "over": there was none to that either. */
  async answer(untilMs: number, isOver: () => Promise<boolean>): Promise<Answer | "broken" | "over"> {
    for (let restMs = untilMs - Date.now(); restMs > 0; restMs = untilMs - Date.now()) {
      const isNews = await this.#news.wait(Math.min(restMs, LOOK_MS));
      const answer = this.#answered();
      if (answer !== null) return answer;
      if (!isNews && (await isOver())) break;
    }
    if (this.#isBroken) return "broken";
    this.#say("leave");
    const goneMs = Date.now() + MAX_FAREWELL_MS;
    for (let restMs = MAX_FAREWELL_MS; restMs > 0; restMs = goneMs - Date.now()) {
      await this.#news.wait(restMs);
      const answer = this.#answered();
      if (answer !== null) return answer === "broken" ? "over" : answer;
    }
    return "over";
  }

  close(): void {
    this.#news.dispose();
    this.#socket.close(1000);
  }

  #say(word: ClaimerWord): void {
    try {
      this.#socket.send(writeClaimerWord(word));
    } catch {
      this.#broke();
    }
  }

  #answered(): Answer | "broken" | null {
    if (this.#word === "failed") throw new Error("the claim that waited has failed");
    if (this.#word !== null) return unpackAnswer(this.#word.answer);
    return this.#isBroken ? "broken" : null;
  }

  #heard(word: ObjectWord): void {
    if (word !== "failed" && "place" in word) {
      this.place = word.place;
      return;
    }
    this.#word = word;
    this.#news.signal();
  }

  #broke(): void {
    this.#isBroken = true;
    this.#news.signal();
  }
}
