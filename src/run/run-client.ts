import type { Answer, Submission } from "./engine.ts";
import { unpackAnswer } from "./packed-answer.ts";
import type { RunObject } from "./run-object.ts";

/**
 * A run's object as callers see it: its RPC methods, typed as they are declared. (The platform's own stub types cannot
 * express free JSON and turn every result that holds some into `never`.)
 */
export type RunClient = Pick<
  RunObject,
  | "create"
  | "arrive"
  | "presence"
  | "erase"
  | "leaveForArchive"
  | "startExport"
  | "readGenesis"
  | "readExtras"
  | "fetch"
  | "submit"
  | "admits"
  | "readFile"
  | "readFiles"
  | "readVersions"
  | "holdsFiles"
  | "readRun"
  | "readOverview"
  | "readAuditedRun"
  | "readAuditedOverview"
  | "readAuditView"
  | "readEvidence"
  | "readRollbackPlan"
  | "readBlackboard"
  | "readLog"
  | "readStretch"
  | "readRecords"
  | "readCommits"
  | "readVouchers"
  | "resumeFeeds"
  | "readTasks"
  | "readTask"
  | "readLocks"
  | "readWhy"
  | "readByReadiness"
  | "createCheckpoint"
  | "readCheckpoint"
  | "readCheckpointHead"
  | "readCheckpoints"
  | "readBase"
  | "replay"
  | "sweep"
>;

/** The object of that name. It is made when first called; it stores nothing until a run is created in it. */
export function runClient(runs: DurableObjectNamespace<RunObject>, name: string): RunClient {
  return runs.getByName(name) as unknown as RunClient;
}

/** Runs one command in a run. */
export async function submit(run: RunClient, submission: Submission): Promise<Answer> {
  return unpackAnswer(await run.submit(submission));
}

/** Whether there is a run, be it in its archive. */
export async function exists(run: RunClient): Promise<boolean> {
  const read = await run.readOverview();
  return read.ok || read.refusal.code === "RUN_ARCHIVED";
}
