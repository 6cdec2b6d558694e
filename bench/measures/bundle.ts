import { deployBundle } from "../deploy-bundle.ts";
import type { Measure } from "../measure.ts";
import { startupCpuMs } from "../startup-cpu.ts";

const bars = { gzipKb: { atMost: 150 }, startupMs: { atMost: 50 } };

/** What is uploaded, and what starting it costs wherever it is started. */
export const bundle: Measure = {
  name: "bundle",
  title: "The Worker's bundle: its size and its start",
  async run(bench) {
    bench.progress("bundling");
    const minified = await deployBundle(bench, { minify: true });
    const plain = await deployBundle(bench, { minify: false });
    bench.progress("starting");
    const startup = await startupCpuMs(bench, minified.code);
    const kilobytes = (bytes: number) => [bytes / 1_000];
    return {
      figures: [
        { name: "minified, gzip", unit: "KB", rounds: kilobytes(minified.gzipSize), bar: bars.gzipKb },
        { name: "minified", unit: "KB", rounds: kilobytes(minified.size) },
        { name: "not minified, gzip", unit: "KB", rounds: kilobytes(plain.gzipSize) },
        { name: "not minified", unit: "KB", rounds: kilobytes(plain.size) },
        { name: "start-up CPU, minified", unit: "ms", rounds: startup, bar: bars.startupMs },
      ],
      notes: [
        "The bundle is what `wrangler deploy --minify` would upload, source map aside; 1 KB is 1,000 bytes.",
        "Start-up CPU is the CPU time, on this machine, in which workerd parses the bundle in a fresh isolate, evaluates its top level and answers one health request, less that of a Worker with nothing in it. It is not the figure of `wrangler check startup`, which is elapsed time under a profiler, and on a busy machine counts what other processes take too.",
      ],
    };
  },
};
