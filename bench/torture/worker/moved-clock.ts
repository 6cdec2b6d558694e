import { env } from "cloudflare:workers";

/*
 * A clock that can be moved, for all of an isolate: what `Date` says, and by which alarms are set. Imported before anything
 * that reads a clock. Timers and the platform's own clock go on as they are, so that an alarm that was set before a move
 * fires when it would have without it: late by the moved clock, or early.
 */

const RealDate = Date;

/** How far the clock is ahead of the real one, in milliseconds. */
let offsetMs = Number((env as { CLOCK_OFFSET_MS?: string }).CLOCK_OFFSET_MS ?? 0);

export function clockOffsetMs(): number {
  return offsetMs;
}

export function moveClockTo(nextOffsetMs: number): void {
  offsetMs = nextOffsetMs;
}

const now = (): number => RealDate.now() + offsetMs;

// A proxy, so that dates the platform makes are still instances of Date.
globalThis.Date = new Proxy(RealDate, {
  construct: (target, args, newTarget) =>
    Reflect.construct(target, args.length > 0 ? args : [now()], newTarget),
  get: (target, name, receiver) => (name === "now" ? now : Reflect.get(target, name, receiver)),
});

/** Makes an object's alarms follow the moved clock. To be called before the object sets its first. */
export function moveAlarms(storage: DurableObjectStorage): void {
  const { setAlarm, getAlarm } = storage;
  storage.setAlarm = (at, options) => setAlarm.call(storage, Number(at) - offsetMs, options);
  storage.getAlarm = async (options) => {
    const at = await getAlarm.call(storage, options);
    return at === null ? null : at + offsetMs;
  };
}
