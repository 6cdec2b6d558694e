import { expect, it } from "vitest";
import { drawSchedule, type Stretch } from "../../bench/torture/schedule.ts";

const seeds = Array.from({ length: 200 }, (_, seed) => seed);
const kills = 20;

it("is that of the seed, with a stretch for each kill", () => {
  expect(drawSchedule(7, kills)).toEqual(drawSchedule(7, kills));
  expect(drawSchedule(7, kills)).not.toEqual(drawSchedule(8, kills));
  expect(drawSchedule(7, kills).stretches).toHaveLength(kills);
});

it("has everything in it, and nothing beyond its bounds", () => {
  const all = seeds.flatMap((seed) => drawSchedule(seed, kills).stretches);
  const seen = (of: (stretch: Stretch) => unknown[]) => new Set(all.flatMap(of));
  expect(seen(({ kill }) => [kill.victim])).toEqual(new Set(["server", "runtime", "both"]));
  expect(seen(({ kill }) => [kill.when])).toEqual(new Set(["serving", "starting"]));
  expect(seen(({ crons }) => crons.map(({ toldMs }) => Math.sign(toldMs)))).toEqual(new Set([-1, 0, 1]));
  expect(seen(({ crons }) => crons.map(({ twice }) => twice))).toEqual(new Set([true, false]));
  expect(seen(({ crons }) => crons.map(({ atMs }) => atMs))).toContain(0);

  const jumps = all.flatMap((stretch) => stretch.jumps.map(({ byMs }) => byMs));
  expect(jumps.filter((byMs) => byMs > 0).length).toBeGreaterThan(jumps.length / 3);
  expect(jumps.filter((byMs) => byMs < 0).length).toBeGreaterThan(jumps.length / 6);
  expect(Math.min(...jumps)).toBeGreaterThanOrEqual(-3_000);
  expect(Math.max(...jumps)).toBeLessThanOrEqual(3_600_000);
  for (const { kill, jumps } of all) {
    expect(kill.afterMs).toBeLessThanOrEqual(3_000);
    // A jump is over before the kill is due.
    for (const { atMs } of jumps) expect(atMs).toBeLessThanOrEqual(kill.afterMs);
  }
});

it("kills no runtime alone whose clock was moved since its process began: it would come back with the old time", () => {
  for (const seed of seeds) {
    let isMoved = false;
    for (const { kill, jumps } of drawSchedule(seed, kills).stretches) {
      isMoved ||= jumps.length > 0;
      if (isMoved) expect(kill.victim).not.toBe("runtime");
      if (kill.victim !== "runtime") isMoved = false;
    }
  }
});

it("leaves the first start alone, and moves the clock once more after the last", () => {
  for (const seed of seeds) {
    const { stretches, tail } = drawSchedule(seed, kills);
    expect(stretches[0]?.kill.when).toBe("serving");
    expect(tail.jumps).toHaveLength(1);
    // Far enough to end leases of five seconds.
    expect(tail.jumps[0]?.byMs).toBeGreaterThanOrEqual(10_000);
  }
});
