import { setTimeout as sleep } from "node:timers/promises";
import { type Answer, type Api, NoAnswer, type Request } from "./api.ts";
import type { Rng } from "./rng.ts";

/** How a client bears a server that is away. */
export interface Patience {
  /** How long it may be away, ms. */
  readonly outageMs: number;
  /** Jitter between attempts. */
  readonly rng: Rng;
  /** Called after each attempt without an answer, before the request is sent again; with what asked to come again. */
  readonly onMiss?: (putOff: Answer | undefined) => void;
}

const firstPauseMs = 50;
const longestPauseMs = 1_000;

/**
 * Sends a request until it is answered; one that asks to come again (429, 5xx) is no answer. The last attempt begins before
 * the outage has lasted its longest. Throws {@link NoAnswer} after that.
 */
export async function sendUntilAnswered(api: Api, request: Request, patience: Patience): Promise<Answer> {
  const startedMs = performance.now();
  let pauseMs = firstPauseMs;
  for (let attempt = 1; ; attempt += 1) {
    const answer = await attemptOf(api, request);
    if (!(answer instanceof NoAnswer) && answer.status !== 429 && answer.status < 500) return answer;
    patience.onMiss?.(answer instanceof NoAnswer ? undefined : answer);
    const elapsedMs = performance.now() - startedMs;
    if (elapsedMs >= patience.outageMs) {
      const trouble = answer instanceof NoAnswer ? answer.message : describe(answer);
      throw new NoAnswer(`gave up after ${attempt} attempts in ${Math.round(elapsedMs)} ms: ${trouble}`);
    }
    await sleep(pauseMs * (0.5 + patience.rng.next()));
    pauseMs = Math.min(pauseMs * 2, longestPauseMs);
  }
}

async function attemptOf(api: Api, request: Request): Promise<Answer | NoAnswer> {
  try {
    return await api.send(request);
  } catch (error) {
    if (error instanceof NoAnswer) return error;
    throw error;
  }
}

/** An answer as a violation tells it. */
export function describe({ status, body }: Answer): string {
  return `answered ${status} ${(JSON.stringify(body) ?? "without JSON").slice(0, 500)}`;
}
