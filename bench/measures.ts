import type { Measure } from "./measure.ts";
import { append } from "./measures/append.ts";
import { batch } from "./measures/batch.ts";
import { bundle } from "./measures/bundle.ts";
import { claims } from "./measures/claims.ts";
import { fanout } from "./measures/fanout.ts";
import { growth } from "./measures/growth.ts";
import { peers } from "./measures/peers.ts";
import { rows } from "./measures/rows.ts";
import { runs } from "./measures/runs.ts";
import { waiting } from "./measures/waiting.ts";
import { wake } from "./measures/wake.ts";

/** Every measure, in the order in which they run. */
export const measures: readonly Measure[] = [
  append,
  claims,
  batch,
  waiting,
  runs,
  fanout,
  growth,
  wake,
  rows,
  bundle,
  peers,
];
