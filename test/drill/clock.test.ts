import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { type ClockJump, clockOf, STEADY } from "../../bench/history/clock.ts";

const term = (calledMs: number, returnedMs: number, termMs = 1_000) => ({ calledMs, returnedMs, termMs });
const jump = (atMs: number, byMs: number, doneMs = atMs): ClockJump => ({ atMs, doneMs, byMs });

describe("when a term may be over", () => {
  it.each<[what: string, jumps: ClockJump[], earliest: number, latest: number]>([
    ["without a jump: after its length, from its first moment and from its last", [], 1_100, 1_110],
    ["a jump forward before it is nothing to it", [jump(50, 400)], 1_100, 1_110],
    ["nor is one after it", [jump(1_100, 400)], 1_100, 1_110],
    ["a jump forward within it shortens it", [jump(200, 400)], 700, 1_110],
    ["two shorten it twice", [jump(200, 400), jump(300, 100)], 600, 1_110],
    ["it ends no sooner than the jump that ends it", [jump(200, 5_000)], 200, 1_110],
    ["a jump that may have come after it was called counts", [jump(50, 5_000, 100)], 100, 1_110],
    ["a jump back within it adds to it", [jump(200, -400)], 1_100, 1_510],
    ["so does one in what an earlier one added", [jump(200, -400), jump(1_400, -100)], 1_100, 1_610],
    ["a jump back after it is nothing to it", [jump(1_111, -400)], 1_100, 1_110],
    ["while time stands still, what is left of that is added", [jump(60, -400)], 1_100, 1_460],
    ["time that has caught up adds nothing", [jump(60, -40)], 1_100, 1_110],
    ["standing still adds up", [jump(60, -40), jump(70, -40)], 1_100, 1_140],
  ])("%s", (_, jumps, earliest, latest) => {
    const clock = clockOf(jumps);
    expect(clock.earliestEndMs(term(100, 110))).toBe(earliest);
    expect(clock.latestEndMs(term(100, 110))).toBe(latest);
  });

  it("is never known for what nobody knows to have begun", () => {
    const lost = term(100, Number.POSITIVE_INFINITY);
    expect(STEADY.latestEndMs(lost)).toBe(Number.POSITIVE_INFINITY);
    expect(clockOf([jump(200, -400)]).latestEndMs(lost)).toBe(Number.POSITIVE_INFINITY);
    expect(clockOf([jump(200, 400)]).earliestEndMs(lost)).toBe(700);
  });

  it("lies between the bounds for any jumps, wherever in their time they came, and whenever the run committed", () => {
    const jumps = fc.array(
      fc.record({
        gapMs: fc.integer({ min: 0, max: 60 }),
        lastsMs: fc.integer({ min: 0, max: 20 }),
        share: fc.double({ min: 0, max: 1, noNaN: true }),
        byMs: fc.integer({ min: -40, max: 80 }).filter((byMs) => byMs !== 0),
      }),
      { maxLength: 5 },
    );
    const commits = fc.array(fc.integer({ min: 0, max: 400 }), { maxLength: 20 });
    const lease = fc.record({
      calledMs: fc.integer({ min: 0, max: 120 }),
      lagMs: fc.integer({ min: 0, max: 20 }),
      share: fc.double({ min: 0, max: 1, noNaN: true }),
      termMs: fc.integer({ min: 1, max: 80 }),
    });
    fc.assert(
      fc.property(jumps, commits, lease, (drawn, committed, { calledMs, lagMs, share, termMs }) => {
        let fromMs = 0;
        const known: ClockJump[] = [];
        const real: { atMs: number; byMs: number }[] = [];
        for (const { gapMs, lastsMs, share: when, byMs } of drawn) {
          const atMs = fromMs + gapMs;
          fromMs = atMs + lastsMs;
          known.push({ atMs, doneMs: fromMs, byMs });
          real.push({ atMs: Math.round(atMs + when * lastsMs), byMs });
        }
        const grantedMs = Math.round(calledMs + share * lagMs);
        const endMs = endOf(real, new Set(committed), grantedMs, termMs);
        const bounds = clockOf(known);
        const given = { calledMs, returnedMs: calledMs + lagMs, termMs };
        expect(endMs).toBeGreaterThanOrEqual(bounds.earliestEndMs(given));
        expect(endMs).toBeLessThanOrEqual(bounds.latestEndMs(given));
      }),
      { numRuns: 2_000 },
    );
  });
});

/** When a lease ends in a run that goes by such a clock, millisecond by millisecond. */
function endOf(
  jumps: readonly { atMs: number; byMs: number }[],
  committed: ReadonlySet<number>,
  grantedMs: number,
  termMs: number,
): number {
  let lastMs = Number.NEGATIVE_INFINITY;
  let expiresMs = Number.POSITIVE_INFINITY;
  for (let ms = 0; ; ms += 1) {
    const clockMs = jumps.reduce((sum, { atMs, byMs }) => (atMs <= ms ? sum + byMs : sum), ms);
    const runMs = Math.max(lastMs, clockMs);
    if (runMs >= expiresMs) return ms;
    if (ms === grantedMs) expiresMs = runMs + termMs;
    if (ms === grantedMs || committed.has(ms)) lastMs = runMs;
  }
}
