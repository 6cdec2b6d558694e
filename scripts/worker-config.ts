import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { parse } from "smol-toml";
import * as z from "zod";
import { reasonOf, StartError } from "./start-error.ts";

const ignored = z.unknown().optional();

/** Keys that matter only where the Worker is deployed. */
const deployedOnly = {
  observability: ignored,
  limits: ignored,
  placement: ignored,
  keep_names: ignored,
  upload_source_maps: ignored,
};

/** Strict, so that a binding added to the file but not served here is an error and not a puzzle. */
const wranglerToml = z.strictObject({
  ...deployedOnly,
  name: z.string(),
  main: z.string(),
  compatibility_date: z.string(),
  compatibility_flags: z.array(z.string()).default([]),
  vars: z.record(z.string(), z.string()).default({}),
  durable_objects: z
    .strictObject({ bindings: z.array(z.strictObject({ name: z.string(), class_name: z.string() })) })
    .default({ bindings: [] }),
  exports: z
    .record(z.string(), z.strictObject({ type: z.literal("durable-object"), storage: z.literal("sqlite") }))
    .default({}),
  d1_databases: z
    .array(
      z.strictObject({
        binding: z.string(),
        database_name: z.string(),
        database_id: z.string(),
        migrations_dir: z.string().default("migrations"),
      }),
    )
    .default([]),
  r2_buckets: z.array(z.strictObject({ binding: z.string(), bucket_name: z.string() })).default([]),
  ratelimits: z
    .array(
      z.strictObject({
        name: z.string(),
        namespace_id: z.string(),
        simple: z.strictObject({
          limit: z.number(),
          period: z.union([z.literal(10), z.literal(60)]),
        }),
      }),
    )
    .default([]),
  triggers: z.strictObject({ crons: z.array(z.string()).default([]) }).default({ crons: [] }),
});

export type WorkerConfig = z.infer<typeof wranglerToml>;

/**
 * Reads wrangler.toml, the one description of the Worker and its bindings.
 *
 * @throws StartError when it is missing, malformed, or asks for something the local runtime does not serve.
 */
export async function readWorkerConfig(projectDir: string): Promise<WorkerConfig> {
  let content: unknown;
  try {
    content = parse(await readFile(join(projectDir, "wrangler.toml"), "utf8"));
  } catch (error) {
    throw new StartError(`cannot read wrangler.toml: ${reasonOf(error)}`);
  }
  const parsed = wranglerToml.safeParse(content);
  if (!parsed.success) {
    const [issue] = parsed.error.issues;
    throw new StartError(
      `wrangler.toml is not served locally: ${issue?.path.join(".") || "top level"}: ${issue?.message}`,
    );
  }
  const unsupportedCron = parsed.data.triggers.crons.find((cron) => cron !== "* * * * *");
  if (unsupportedCron !== undefined) {
    throw new StartError(
      `wrangler.toml: the cron "${unsupportedCron}" is not served locally, only "* * * * *"`,
    );
  }
  return parsed.data;
}
