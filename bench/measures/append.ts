import { noteEvent, noteRate } from "../appends.ts";
import { newRun } from "../baton.ts";
import { interleave } from "../drive.ts";
import type { Figure, Measure, Target } from "../measure.ts";
import { ratios } from "../stats.ts";

/**
 * Concurrent connections, and what appends must reach of the raw inserts. The most connections come first, because they
 * warm up both sides for the few.
 */
const bars = [
  { connections: 64, atLeast: 2.0 },
  { connections: 16, atLeast: 1.2 },
  { connections: 1, atLeast: 0.8 },
];

/** Appends to one run against raw inserts into one object: what Baton adds, and what group commit wins back. */
export const append: Measure = {
  name: "append",
  title: "Append an event to one run, against the raw platform",
  async run(bench) {
    const [baton, raw] = [await bench.baton(), await bench.raw()];
    const path = await newRun(baton, "append");
    const figures: Figure[] = [];
    for (const { connections, atLeast } of bars) {
      bench.progress(`${connections} at a time`);
      const rate = (target: Target, to: string) => () =>
        noteRate(target, { connections, durationMs: bench.roundMs, pathOf: () => to });
      const { worker, echo, insert, append } = await interleave(bench.rounds, {
        worker: rate(raw, "/worker"),
        echo: rate(raw, "/echo"),
        insert: rate(raw, "/insert"),
        append: rate(baton, `${path}/events`),
      });
      const at = connections === 1 ? "1 connection" : `${connections} connections`;
      figures.push(
        { name: `raw, Worker only, ${at}`, unit: "/s", rounds: worker },
        { name: `raw, Worker to object, ${at}`, unit: "/s", rounds: echo },
        { name: `raw, Worker to object, one insert, ${at}`, unit: "/s", rounds: insert },
        { name: `append, ${at}`, unit: "/s", rounds: append },
        { name: `append ÷ raw insert, ${at}`, unit: "x", rounds: ratios(append, insert), bar: { atLeast } },
      );
    }
    return {
      figures,
      notes: [`Every subject is sent the same request, a body of ${noteEvent.length} bytes.`],
    };
  },
};
