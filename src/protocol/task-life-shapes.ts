import * as z from "zod/mini";
import { withoutAbsent } from "./absent.ts";
import { lazy } from "./lazy.ts";
import {
  MAX_ATTEMPTS_KEPT,
  MAX_CLOCK_MS,
  MAX_CONCURRENCY_LIMITS,
  MAX_ERROR_CODE_LENGTH,
  MAX_GRACE_MS,
  MAX_LABEL_LENGTH,
  MAX_NON_RETRYABLE,
  MAX_PROGRESS_NOTE_LENGTH,
} from "./limits.ts";
import { listOf, mapped, type ObjectMaker, optional, recordOf, uint, upTo } from "./schema.ts";
import { ATTEMPT_OUTCOMES, DEFAULT_RETRY, DEPENDENCY_FAILURES, FAILURE_CAUSES } from "./task-life.ts";

/** Waits that grow by more than this come to their cap at once. */
const MAX_FACTOR = 100;

const MAX_U32 = 2 ** 32 - 1;

/** A field that may be absent, or null, and is then this. */
const orElse = <T extends z.core.$ZodType>(type: T, value: z.output<T>) =>
  mapped(z.nullish(type), (given) => given ?? value);

/** The shapes of what tasks and runs carry on `/v1` beside the contract's members, as clients send it. */
export function taskLifeShapes(object: ObjectMaker) {
  const duration = uint.check(z.maximum(MAX_CLOCK_MS));
  const clock = optional(z.int().check(z.minimum(1), z.maximum(MAX_CLOCK_MS)));
  const label = upTo(MAX_LABEL_LENGTH);
  const errorCode = upTo(MAX_ERROR_CODE_LENGTH);
  const maxAttempts = z.int().check(z.minimum(1), z.maximum(MAX_U32));

  const retry = object({
    base_ms: orElse(duration, DEFAULT_RETRY.base_ms),
    factor: orElse(z.number().check(z.minimum(1), z.maximum(MAX_FACTOR)), DEFAULT_RETRY.factor),
    max_ms: orElse(duration, DEFAULT_RETRY.max_ms),
    jitter: orElse(z.number().check(z.minimum(0), z.maximum(1)), DEFAULT_RETRY.jitter),
    non_retryable: orElse(listOf(errorCode, MAX_NON_RETRYABLE), []),
  });
  const clocks = mapped(
    object({
      start_within_ms: clock,
      run_within_ms: clock,
      silent_within_ms: clock,
      finish_within_ms: clock,
    }),
    (given) => withoutAbsent(given),
  );
  const onDependencyFailure = z.enum(DEPENDENCY_FAILURES);

  const report = {
    percent: optional(z.number().check(z.minimum(0), z.maximum(100))),
    note: optional(upTo(MAX_PROGRESS_NOTE_LENGTH)),
    data: z.optional(z.unknown()),
  };
  const progress = mapped(object({ ...report, at_ms: uint }), (given) => withoutAbsent(given));
  const flag = mapped(z.nullish(z.boolean()), (given) => (given === true ? true : undefined));

  const taskDefaults = mapped(
    object({
      max_attempts: optional(maxAttempts),
      retry: optional(retry),
      clocks: optional(clocks),
      on_dependency_failure: optional(onDependencyFailure),
    }),
    (given) => withoutAbsent(given),
  );
  const limits = recordOf(label, uint).check(
    z.refine((given) => Object.keys(given).length <= MAX_CONCURRENCY_LIMITS, {
      message: `must have at most ${MAX_CONCURRENCY_LIMITS} keys`,
      params: { rule: "max_keys", limit: MAX_CONCURRENCY_LIMITS },
    }),
  );
  const settingsFields = {
    task_defaults: optional(taskDefaults),
    concurrency_limits: optional(limits),
    grace_ms: optional(uint.check(z.maximum(MAX_GRACE_MS))),
  };

  return {
    maxAttempts,
    errorCode,
    settingsFields,
    settings: mapped(object(settingsFields), (given) => withoutAbsent(given)),
    /** A report of progress, as a heartbeat brings it. */
    report: mapped(object(report), (given) => withoutAbsent(given)),
    /** What a row of a batch may say. */
    row: { retry, clocks, on_dependency_failure: onDependencyFailure, concurrency_key: label },
    /** What a task that is put back has (TASK_LIFE_MEMBERS). */
    task: {
      retry,
      clocks,
      on_dependency_failure: onDependencyFailure,
      concurrency_key: label,
      redriven_at_ms: uint,
      fence: uint,
      claimed_at_ms: uint,
      progress,
      attempts: listOf(
        mapped(
          object({
            fence: uint,
            agent_id: label,
            claimed_at_ms: uint,
            ended_at_ms: uint,
            outcome: z.enum(ATTEMPT_OUTCOMES),
            error: optional(label),
            error_code: optional(errorCode),
            progress: optional(progress),
          }),
          (given) => withoutAbsent(given),
        ),
        MAX_ATTEMPTS_KEPT,
      ),
      dead_letter: flag,
      failure: mapped(
        object({
          cause: z.enum(FAILURE_CAUSES),
          at_ms: uint,
          error_code: optional(errorCode),
          dependency_id: optional(label),
          reason: optional(z.string()),
        }),
        (given) => withoutAbsent(given),
      ),
      skipped: flag,
      cancellation: mapped(
        object({ requested_at_ms: uint, revoke_at_ms: uint, reason: optional(z.string()) }),
        (given) => withoutAbsent(given),
      ),
    },
  };
}

/**
 * The same as it is stored, for what comes from elsewhere: what decisions compute with has to be what it says, the rest may be
 * anything. They check and never change a value.
 */
export const storedLifeShapes = lazy(() => {
  const duration = uint.check(z.maximum(MAX_CLOCK_MS));
  const policy = z.looseObject({
    base_ms: duration,
    factor: z.number().check(z.minimum(1), z.maximum(MAX_FACTOR)),
    max_ms: duration,
    jitter: z.number().check(z.minimum(0), z.maximum(1)),
    non_retryable: z.array(z.string()),
  });
  const clock = z.optional(duration);
  const clocks = z.looseObject({
    start_within_ms: clock,
    run_within_ms: clock,
    silent_within_ms: clock,
    finish_within_ms: clock,
  });
  const progress = z.looseObject({ at_ms: uint });
  const retry = z.optional(policy);
  const onDependencyFailure = z.optional(z.enum(DEPENDENCY_FAILURES));
  return {
    task: {
      retry,
      clocks: z.optional(clocks),
      on_dependency_failure: onDependencyFailure,
      concurrency_key: z.optional(z.string()),
      redriven_at_ms: z.optional(uint),
      fence: z.optional(uint),
      claimed_at_ms: z.optional(uint),
      progress: z.optional(progress),
      attempts: z.optional(
        z.array(z.looseObject({ fence: uint, claimed_at_ms: uint, progress: z.optional(progress) })),
      ),
      dead_letter: z.optional(z.literal(true)),
      failure: z.optional(z.looseObject({ cause: z.string(), at_ms: uint })),
      skipped: z.optional(z.literal(true)),
      cancellation: z.optional(
        z.looseObject({ requested_at_ms: uint, revoke_at_ms: uint, reason: z.optional(z.string()) }),
      ),
    },
    settings: z.looseObject({
      task_defaults: z.optional(
        z.looseObject({
          max_attempts: z.optional(uint),
          retry,
          clocks: z.optional(clocks),
          on_dependency_failure: onDependencyFailure,
        }),
      ),
      concurrency_limits: z.optional(z.record(z.string(), uint)),
      grace_ms: z.optional(uint.check(z.maximum(MAX_GRACE_MS))),
    }),
    halt: z.optional(z.looseObject({ revoke_at_ms: uint, reason: z.optional(z.string()) })),
  };
});
