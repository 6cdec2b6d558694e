import { MAX_RUN_SETTINGS_BYTES } from "../protocol/limits.ts";
import type { RunSettings } from "../protocol/task-life.ts";
import type { CommandOf } from "./command.ts";
import type { Decision } from "./decision.ts";
import { type Context, Draft } from "./draft.ts";
import { jsonTooLarge } from "./json-size.ts";
import { type Refusal, runMovedOn } from "./refusals.ts";
import type { View } from "./view.ts";

/** Replaces what the run is told for all its tasks. Tasks that are there keep what they were created with. */
export function decideSettings(
  command: CommandOf<"put_settings">,
  view: View,
  context: Context,
  commandId?: string,
): Decision {
  const { settings, expected_revision: expected } = command;
  const { run } = view.head();
  const refusal =
    (expected === undefined ? null : runMovedOn(run.revision, expected)) ?? settingsTooLarge(settings);
  if (refusal !== null) return { ok: false, refusal };
  const draft = new Draft(view.head(), context, commandId);
  const event = draft.event({ type: "context.run.settings_set", status: run.status, payload: { settings } });
  return { ok: true, commits: draft.commits, outcome: { op: "put_settings", event, settings } };
}

export function settingsTooLarge(settings: RunSettings): Refusal | null {
  return jsonTooLarge("run_settings_bytes", settings, MAX_RUN_SETTINGS_BYTES);
}
