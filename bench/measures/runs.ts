import { noteRate } from "../appends.ts";
import { newRun } from "../baton.ts";
import { interleave } from "../drive.ts";
import type { Measure } from "../measure.ts";
import { ratios } from "../stats.ts";

const connections = 64;

/** Whether runs are independent of each other: as many appends in flight, to one run or to one run each. */
export const runs: Measure = {
  name: "runs",
  title: `Append over ${connections} connections to ${connections} runs, against one run`,
  async run(bench) {
    const baton = await bench.baton();
    const paths = await Promise.all(
      Array.from({ length: connections }, async () => `${await newRun(baton, "runs")}/events`),
    );
    const rate = (pathOf: (connection: number) => string) => () =>
      noteRate(baton, { connections, durationMs: bench.roundMs, pathOf });
    const { one, many } = await interleave(bench.rounds, {
      one: rate(() => paths[0] ?? ""),
      many: rate((connection) => paths[connection] ?? ""),
    });
    return {
      figures: [
        { name: "append, one run", unit: "/s", rounds: one },
        { name: `append, ${connections} runs`, unit: "/s", rounds: many },
        { name: `${connections} runs ÷ one run`, unit: "x", rounds: ratios(many, one) },
      ],
      notes: [
        "Here all runs share one machine, one disk and one process. Appends to one run share flushes; appends to many runs cannot.",
      ],
    };
  },
};
