/** Every bound of the engine, each with its reason. Crossing one is a refusal that names it, never a truncation. */

/** Keeps a commit (event, its patch, the task in both) well under the platform's 2 MB row. */
export const MAX_PAYLOAD_BYTES = 256 * 1024;

/** One row holds a commit, event and patch; the platform's rows end at 2 MB. */
export const MAX_COMMIT_BYTES = 1_950_000;

/** A task is in its event and in its first patch: twice this, and the growth of later commits, fit into a commit. */
export const MAX_TASK_BYTES = 900_000;

/** One commit row holds a replaced run whole, and the event adds its own members. */
export const MAX_REPLACED_RUN_BYTES = 1_900_000;

/** A new run: objective, workspace and names. It is kept beside the head, in one row, as the start of every replay. */
export const MAX_NEW_RUN_BYTES = 256 * 1024;

/** A replaced run without its tasks: with both summaries it still fits into one row. */
export const MAX_RUN_HEADER_BYTES = 1024 * 1024;

/** Steps are in their event twice, with the todos they came from. */
export const MAX_STEPS_BYTES = 512 * 1024;

/** Names, types and other short texts, in UTF-16 units: they repeat in every commit of a task. */
export const MAX_LABEL_LENGTH = 1_000;

/** Paths, in UTF-16 units: as long as file systems allow. */
export const MAX_PATH_LENGTH = 4_096;

/** A task's error or a checkpoint's reason, in UTF-16 units: an error stays on the task and repeats in its commits. */
export const MAX_ERROR_LENGTH = 64 * 1024;

/** A request body, as the reference engine has it (contract 02 §1.3). */
export const MAX_BODY_BYTES = 2 * 1024 * 1024;

/** The files of a run of the reference engine, together: they are converted in memory. */
export const MAX_REFERENCE_BYTES = 16 * 1024 * 1024;

/** A mapping, in UTF-16 units of JSON: it is read with its hook for every delivery. */
export const MAX_MAPPING_LENGTH = 64 * 1024;

/** Tasks that a mapping describes, apart from what `for_each` makes of one of them. */
export const MAX_MAPPING_TASKS = 50;

/** Tasks that `for_each` makes of one delivery. */
export const MAX_FOR_EACH_ITEMS = 200;

/** One text, or one value, that a mapping fills in, in bytes: what is longer is read from the raw payload. */
export const MAX_OUTPUT_BYTES = 16 * 1024;

/** All that a mapping fills in for one delivery, in bytes: it travels in one command. */
export const MAX_MAPPED_BYTES = 256 * 1024;

/** Steps of mapping one delivery: characters compared, members looked up, values copied. Together well below a second. */
export const MAX_MAPPING_STEPS = 500_000;

/** One batch is one transaction; this bounds how long it holds the run. */
export const MAX_TASKS_PER_BATCH = 500;

/** Dependencies of one task: each is a row. */
export const MAX_DEPENDENCIES_PER_TASK = 10_000;

/** Decision ids, and artifact ids, of one task. */
export const MAX_REFERENCES_PER_TASK = 10_000;

/** Tasks of a replaced run: no more fit into a body. */
export const MAX_TASKS_REPLACED = 30_000;

export const MAX_MCP_SERVERS = 1_000;

/** Tasks and edges that looking for dependency cycles may read for one batch. Tasks added in order need next to none. */
export const MAX_SEARCHED_PER_BATCH = 20_000;

/** Distinct tools that a run's summaries name; what is over it is counted together (contract 06 §4 has no bound). */
export const MAX_TOOLS_NAMED = 250;

/** A tool's name there, in UTF-16 units: longer than any protocol for tools allows. */
export const MAX_TOOL_NAME_LENGTH = 200;

/** Steps of one rollback. */
export const MAX_ROLLBACK_STEPS = 1_000;

/** Prior contents that one rollback brings along, in UTF-16 units: they travel from the run's object in one message. */
export const MAX_ROLLBACK_LENGTH = 8 * 1024 * 1024;

/** Different contents that one rollback writes: storing one takes several of the thousand calls that a request may make. */
export const MAX_ROLLBACK_CONTENTS = 200;

/** Files of one recorded mutation. */
export const MAX_MUTATED_FILES = 1_000;

/** Rollbacks of a run that agents are carrying out: they lie in the run's head until their task ends. */
export const MAX_OPEN_ROLLBACKS = 16;

/** What of each lies there: names of steps, paths and actions. */
export const MAX_REQUESTED_ROLLBACK_BYTES = 32 * 1024;

/** A run's board stays within one object's storage and memory. */
export const MAX_TASKS_PER_RUN = 200_000;

/** Steps travel whole with every change of the run's header. */
export const MAX_STEPS_PER_RUN = 1_000;

/** Longest list page (contract 02 §2.2). */
export const MAX_PAGE = 1_000;
export const DEFAULT_PAGE = 100;

/** Above this, in UTF-16 units, a mutation's answer leaves out the blackboard or run it would echo, and says so. */
export const MAX_ECHO_LENGTH = 8 * 1024 * 1024;

/**
 * The beginning of an objective that the directory has, in UTF-16 units: it is one database of 10 GB for all tenants, and an
 * objective can be as long as a run.
 */
export const MAX_LISTED_OBJECTIVE_LENGTH = 1_000;

/** A page ends after this many UTF-16 units even when it holds fewer items than asked for: an object has 128 MB. */
export const MAX_PAGE_LENGTH = 4 * 1024 * 1024;

/** Events, and patches, per run that a stream goes back to when it is asked for the last ones (contract 02 §7.2). */
export const MAX_STREAM_TAIL = 2_000;

/** Runs that one stream begins with (contract 02 §7.2). */
export const MAX_STREAM_RUNS = 1_000;

/** How long a request may wait for something to happen: below the patience of common proxies. */
export const MAX_WAIT_MS = 55_000;

/** The same, of a request that is about nothing else, when it does not say. */
export const DEFAULT_WAIT_MS = 25_000;

/** Types of events that one request waits for. */
export const MAX_TYPES_AWAITED = 100;

/** Commits from one checkpoint to the next that the engine makes by itself, at least: states that are read back start there. */
export const CHECKPOINT_INTERVAL = 10_000;

/** Up to here a checkpoint's content, in bytes, lies in the run's own storage; what is longer goes to R2 where there is a bucket. */
export const MAX_STORED_CHECKPOINT_BYTES = 1024 * 1024;

/** Lease length bounds and default (contract 04 §4). */
export const MIN_LEASE_MS = 5_000;
export const MAX_LEASE_MS = 300_000;
export const DEFAULT_LEASE_MS = 30_000;

/** Attempts that a task tells of: they travel with it in every commit. The log has them all. */
export const MAX_ATTEMPTS_KEPT = 10;

/** What each tells of its error, in UTF-16 units: the event has it whole. */
export const MAX_KEPT_ERROR_LENGTH = 1_000;

/** A report of progress: its note in UTF-16 units, its data in bytes of JSON. It travels with the task. */
export const MAX_PROGRESS_NOTE_LENGTH = 1_000;
export const MAX_PROGRESS_DATA_BYTES = 4 * 1024;

/** An error code, in UTF-16 units, and the codes after which a task is not tried again: they travel with the task. */
export const MAX_ERROR_CODE_LENGTH = 200;
export const MAX_NON_RETRYABLE = 50;

/** What a run is told for all its tasks, in bytes of JSON: it travels with the run's head. */
export const MAX_RUN_SETTINGS_BYTES = 64 * 1024;

/** Heartbeats of a task that come sooner than this after a recorded one are answered from it: a lease has at least five seconds. */
export const HEARTBEAT_INTERVAL_MS = 1_000;

/** Those that are answered and not recorded yet, in one run: they lie in its object's memory. More are recorded at once. */
export const MAX_HELD_HEARTBEATS = 1_000;

/** Tasks that one claim takes at most. */
export const MAX_CLAIMS = 100;

/** What those hold together, in UTF-16 units of JSON: a claim takes fewer where they are long, but always one. */
export const MAX_CLAIMED_LENGTH = 4 * 1024 * 1024;

/** Commands of one request to `…/commands`, and tasks they create together. */
export const MAX_COMMANDS_PER_BATCH = 500;

/** All that they commit, in UTF-16 units: it is held until the last of them is decided, and most of it is in the answer. */
export const MAX_BATCH_LENGTH = 8 * 1024 * 1024;

/** Open dependencies, and holders of a concurrency key, that are told of one task. */
export const MAX_WAITS_TOLD = 50;

/** Claims that wait in one run: each is a socket to its object, which holds 32,768 of all kinds. */
export const MAX_PARKED_CLAIMS = 10_000;

/** How long a holder may go on after it was told to stop, when nobody says, and at most. */
export const DEFAULT_GRACE_MS = 30_000;
export const MAX_GRACE_MS = 60 * 60 * 1000;

/** A clock of a task, and a wait before another attempt, at most. */
export const MAX_CLOCK_MS = 400 * 24 * 60 * 60 * 1000;

/** Tasks that the engine ends or revokes in one go: what is left over follows at once, behind what waits. */
export const MAX_SETTLED_AT_ONCE = 100;

/** Dead letters that one request puts back on the board: as many as one creates. */
export const MAX_REDRIVEN_AT_ONCE = 500;

/** Named locks of a run that are out at once: they travel with its head. */
export const MAX_LOCKS = 1_000;

/** Resources of one lock, and a name's length in UTF-16 units. */
export const MAX_LOCKED_RESOURCES = 20;
export const MAX_RESOURCE_NAME_LENGTH = 400;

/** The names of all resources that are locked in a run, in UTF-16 units: they travel with its head, too. */
export const MAX_LOCK_NAMES_LENGTH = 128 * 1024;

/** Characters of globs held against each other to see whether the resources of a command, or of all in a batch, can be locked: below a tenth of a second. */
export const MAX_LOCK_COMPARISONS = 2_000_000;

/** Concurrency keys that a run's settings give a limit of their own. */
export const MAX_CONCURRENCY_LIMITS = 200;

/** An upload in one request; the platform takes requests of up to 100 MB. */
export const MAX_UPLOAD_BYTES = 95 * 1024 * 1024;

/** A part of an upload in parts: R2 wants 5 MiB of all but the last, and a part is one request. */
export const MIN_PART_BYTES = 5 * 1024 * 1024;
export const MAX_PART_BYTES = MAX_UPLOAD_BYTES;

/** Parts of one upload, as R2 has it. */
export const MAX_PARTS = 10_000;

/** One artifact: its digest is taken by reading it through once, within the time that one request has. */
export const MAX_ARTIFACT_BYTES = 5 * 1024 * 1024 * 1024;

/** Uploads in parts that one run may have begun and not finished: each holds storage that shows nowhere. */
export const MAX_OPEN_UPLOADS_PER_RUN = 100;

/** What an upload left behind is collected once it is so old, and what a commit that failed had asked to hold. */
export const ABANDONED_AFTER_MS = 24 * 60 * 60 * 1000;

/**
 * Storage of one run's object, in bytes. The platform's ends at 10 GB; what a run has is looked at every few hundred commits, and
 * the longest of those fit into what is left.
 */
export const MAX_RUN_BYTES = 8_000_000_000;

/** Commands that may wait for their turn in one run: about half a second's worth, longer than which nobody should wait. */
export const MAX_WAITING_COMMANDS = 2_000;

/** What they may hold together, in UTF-16 units: an object has 128 MB for this and all its state. */
export const MAX_WAITING_LENGTH = 16 * 1024 * 1024;

/** Checkpoints that may wait to be made in one run: each is the whole state, gathered and digested. */
export const MAX_WAITING_CHECKPOINTS = 50;

/** When one that found no place may come again. */
export const OVERLOADED_RETRY_MS = 1_000;

/** Streams that a tenant's quota can be raised to: each has a socket to the tenant's feed, of which one object holds 32,768. */
export const MAX_STREAMS = 30_000;

/** What a tenant may have at once, where nothing else is said for it (`PUT /v1/quotas`). */
export const DEFAULT_QUOTAS = {
  /** The directory is one database of 10 GB, and a run takes about 2 KB of it with its index rows, 50 KB at most. */
  runs: 100_000,
  /** 100 GiB in R2: what artifacts cost is mostly this. */
  artifact_bytes: 100 * 1024 * 1024 * 1024,
  /** A stream is a connection and a socket to its run's object; one object holds 32,768. */
  streams: 1_000,
  /** Webhooks that are kept, for 30 days: each takes up to about 25 KB of the directory. */
  deliveries: 200_000,
  /** Tokens that are remembered, until 30 days after they expire. All that are revoked lie in the memory of each isolate. */
  tokens: 50_000,
};

/**
 * Requests that the platform lets pass per key and location, in a period of 10 or 60 seconds. wrangler.toml says the same
 * to the platform, and a test holds the two equal. Each is far above what one of its kind needs at work.
 */
export const RATES = {
  /** Per token: an agent at work sends a few a second, and a runaway one must not use up what its tenant may. */
  token: { requests: 2_000, period_s: 10 },
  /** Per tenant, over all its tokens: about what one run's object can do. */
  tenant: { requests: 10_000, period_s: 10 },
  /** Per network address, of requests without a valid credential or not yet verified: a provider's hooks share a few. */
  network: { requests: 2_000, period_s: 10 },
  /** Per hook, before its deliveries are verified: each costs a read. */
  hook: { requests: 2_000, period_s: 10 },
} as const;

/** A delivery's body: what a hook takes when it does not say, and what it can say. GitHub sends up to 25 MiB. */
export const DEFAULT_DELIVERY_BYTES = 1024 * 1024;
export const MIN_DELIVERY_BYTES = 1024;
export const MAX_DELIVERY_BYTES = 25 * 1024 * 1024;

/** A delivery's body up to here lies in D1, with its row; what is longer goes to R2. */
export const MAX_INLINE_DELIVERY_BYTES = 16 * 1024;

/** A delivery's body up to here is shown with it, if it can be read as data. */
export const MAX_SHOWN_DELIVERY_BYTES = 64 * 1024;

/** Where there is no bucket, a body lies in D1 up to here: a row ends at 2 MB. */
export const MAX_DELIVERY_BYTES_WITHOUT_BUCKET = 1024 * 1024;

/** How far the clock of a sender that signs the time may be off, where a hook may say so. */
export const MIN_TOLERANCE_MS = 1_000;
export const MAX_TOLERANCE_MS = 60 * 60 * 1000;

/** Hooks of one tenant. */
export const MAX_HOOKS = 1_000;

/** Secrets of a hook that count at once: an old one and a new one, and a few more in a hurry. */
export const MAX_HOOK_SECRETS = 5;

/** How long deliveries are kept: providers repeat them for days, and until then repeats are known. */
export const DELIVERIES_KEPT_MS = 30 * 24 * 60 * 60 * 1000;

/** How often a delivery's processing is tried before it waits for somebody to replay it. */
export const MAX_DELIVERY_TRIES = 8;

/** A delivery's body that is read as data: with what it is read into, a longer one could be more than the Worker's memory. */
export const MAX_MAPPED_DELIVERY_BYTES = 8 * 1024 * 1024;

/** Headers of a delivery that are kept, in UTF-16 units, names included. */
export const MAX_KEPT_HEADERS_LENGTH = 4 * 1024;
/** Subscriptions of a tenant: each that is about a run is told whenever the run's row is written. */
export const MAX_SUBSCRIPTIONS = 100;

/** A credential, in characters: longer than any token that is minted here, and as long as headers of most servers may be. */
export const MAX_CREDENTIAL_LENGTH = 8 * 1024;

/** How long a token is valid, in milliseconds: when its minter does not say, and at most. */
export const DEFAULT_TOKEN_LIFETIME_MS = 30 * 24 * 60 * 60 * 1000;
export const MAX_TOKEN_LIFETIME_MS = 400 * 24 * 60 * 60 * 1000;

/** Tokens that a token was minted from, each from the one before: their ids travel in it. */
export const MAX_TOKEN_ANCESTORS = 8;

/** Task types that a token is bound to: they travel in it. */
export const MAX_TOKEN_TASK_TYPES = 20;

/** A task type, an agent id or a name in a token, in UTF-16 units. */
export const MAX_TOKEN_LABEL_LENGTH = 100;

/** A revoked token is refused everywhere after so long, in milliseconds. */
export const REVOCATION_BOUND_MS = 30_000;
