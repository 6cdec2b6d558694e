/** Every bound of the engine, each with its reason. Crossing one is a refusal that names it, never a truncation. */

/** Keeps a commit (event, its patch, the task in both) well under the platform's 2 MB row. */
export const MAX_PAYLOAD_BYTES = 256 * 1024;

/** One commit row holds a replaced run whole; the platform's rows end at 2 MB, and the event adds its own members. */
export const MAX_REPLACED_RUN_BYTES = 1_900_000;

/** A request body, as the reference engine has it (contract 02 §1.3). */
export const MAX_BODY_BYTES = 2 * 1024 * 1024;

/** One batch is one transaction; this bounds how long it holds the run. */
export const MAX_TASKS_PER_BATCH = 500;

/** A run's board stays within one object's storage and memory. */
export const MAX_TASKS_PER_RUN = 200_000;

/** Steps travel whole with every change of the run's header. */
export const MAX_STEPS_PER_RUN = 1_000;

/** Longest list page (contract 02 §2.2). */
export const MAX_PAGE = 1_000;
export const DEFAULT_PAGE = 100;

/** Above this a mutation's answer leaves out the blackboard or run it would echo, and says so. */
export const MAX_ECHO_BYTES = 8 * 1024 * 1024;

/** Lease length bounds and default (contract 04 §4). */
export const MIN_LEASE_MS = 5_000;
export const MAX_LEASE_MS = 300_000;
export const DEFAULT_LEASE_MS = 30_000;
