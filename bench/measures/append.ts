import { newRun } from "../baton.ts";
import { accepted, withConnections } from "../connection.ts";
import { drive, interleave } from "../drive.ts";
import type { Bench, Figure, Measure, Target } from "../measure.ts";
import { ratios } from "../stats.ts";

/** What an agent notes while it works. */
const event = JSON.stringify({
  type: "note.added",
  status: "running",
  payload: { text: "the parser accepts both forms", line: 12, files: ["src/a.ts", "src/b.ts"] },
});

/** Concurrent connections, and what appends must reach of the raw inserts. */
const bars = [
  { connections: 1, atLeast: 0.8 },
  { connections: 16, atLeast: 1.2 },
  { connections: 64, atLeast: 2.0 },
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
      bench.progress(`${connections} connections`);
      const rate = (target: Target, to: string) => () => appendRate(bench, target, to, connections);
      const { worker, echo, insert, append } = await interleave(bench.rounds, {
        worker: rate(raw, "/worker"),
        echo: rate(raw, "/echo"),
        insert: rate(raw, "/insert"),
        append: rate(baton, `${path}/events`),
      });
      const at = `${connections} connections`;
      figures.push(
        { name: `raw, Worker only, ${at}`, unit: "/s", rounds: worker },
        { name: `raw, Worker to object, ${at}`, unit: "/s", rounds: echo },
        { name: `raw, Worker to object, one insert, ${at}`, unit: "/s", rounds: insert },
        { name: `append, ${at}`, unit: "/s", rounds: append },
        { name: `append ÷ raw insert, ${at}`, unit: "x", rounds: ratios(append, insert), bar: { atLeast } },
      );
    }
    return { figures, notes: [`Every subject is sent the same request, a body of ${event.length} bytes.`] };
  },
};

function appendRate(bench: Bench, target: Target, path: string, connections: number): Promise<number> {
  return withConnections(target, connections, async (open) => {
    const { perSecond } = await drive(open, bench.roundMs, async (connection) => {
      accepted(path, await connection.post(path, event));
    });
    return perSecond;
  });
}
