import { nonBlank, withoutAbsent } from "../protocol/absent.ts";
import type { BodyOf } from "../protocol/bodies.ts";
import { MAX_NEW_RUN_BYTES } from "../protocol/limits.ts";
import { settingsTooLarge } from "./decide-settings.ts";
import { jsonTooLarge } from "./json-size.ts";
import type { Refusal } from "./refusals.ts";
import type { RunDraft } from "./run.ts";

const DEFAULT_RUN_TYPE = "interactive";
const NO_WORKSPACE = { workspace_id: "", canonical_path: "", lease_epoch: 0 };

/** The run that a request to create one asks for, normalised (contract 02 §2.1). */
export function runDraft(
  asked: BodyOf<"createRun">,
  run_id: string,
  source_metadata?: unknown,
): { ok: true; draft: RunDraft } | { ok: false; refusal: Refusal } {
  const { settings = {} } = asked;
  const draft: RunDraft = withoutAbsent({
    run_id,
    objective: asked.objective,
    run_type: asked.run_type ?? DEFAULT_RUN_TYPE,
    workspace: asked.workspace ?? NO_WORKSPACE,
    source_client: nonBlank(asked.source_client),
    model_provider: nonBlank(asked.model_provider),
    model_id: nonBlank(asked.model_id),
    mcp_servers: (asked.mcp_servers ?? []).map((name) => name.trim()).filter((name) => name !== ""),
    ...(source_metadata !== undefined && { source_metadata }),
    ...(Object.keys(settings).length > 0 && { settings }),
  });
  const refusal = settingsTooLarge(settings) ?? jsonTooLarge("new_run_bytes", draft, MAX_NEW_RUN_BYTES);
  return refusal === null ? { ok: true, draft } : { ok: false, refusal };
}
