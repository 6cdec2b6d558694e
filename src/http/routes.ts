import type { Call, Door } from "./call.ts";
import type { HttpAnswer } from "./http-answer.ts";
import {
  appendArtifact,
  deleteArtifact,
  getArtifact,
  listArtifacts,
  putArtifact,
} from "./resources/artifacts.ts";
import {
  getEvidence,
  historyContext,
  historyNative,
  ledgerContext,
  ledgerNative,
  mutationsContext,
  mutationsNative,
  previewContext,
  previewNative,
} from "./resources/audit.ts";
import { getBlackboardContext, getBlackboardNative, patchBlackboard } from "./resources/blackboard.ts";
import {
  createCheckpointContext,
  createCheckpointNative,
  getCheckpoint,
  latestCheckpointContext,
  latestCheckpointNative,
  listCheckpoints,
  replayContext,
  replayNative,
} from "./resources/checkpoints.ts";
import { forkRun, getDiff, getState } from "./resources/history.ts";
import {
  appendEvent,
  listEventsContext,
  listEventsNative,
  listPatchesContext,
  listPatchesNative,
} from "./resources/log.ts";
import {
  archive,
  deleteRunNative,
  exportRun,
  getRetention,
  importRun,
  putRetention,
  restore,
} from "./resources/moving.ts";
import { importReference } from "./resources/reference.ts";
import { executeRollback, recordMutation } from "./resources/rollback.ts";
import {
  createRunContext,
  createRunNative,
  getRunContext,
  getRunNative,
  listRunsContext,
  listRunsNative,
  replaceRun,
} from "./resources/runs.ts";
import { selectNextStep, syncTodos, validateWorkspace } from "./resources/steps.ts";
import {
  streamFeedContext,
  streamFeedNative,
  streamRunContext,
  streamRunNative,
} from "./resources/streams.ts";
import { claimTask, createTasks, getTask, listTasks, transitionTask } from "./resources/tasks.ts";
import { abortUpload, completeUpload, putUploadPart, startUpload } from "./resources/uploads.ts";
import { verify } from "./resources/verify.ts";

export interface Route {
  method: "GET" | "POST" | "PUT" | "DELETE";
  /** With `:name` for an id; `/:path+` at its end takes the rest, whatever that is. */
  path: string;
  door: Door;
  handle(call: Call): Promise<HttpAnswer>;
}

type Method = Route["method"];
type Handler = Route["handle"];

/** Routes below one run that both doors have: method, path, then the handler of `/context` and that of `/v1`. */
const RUN_ROUTES: readonly [Method, string, Handler | null, Handler | null][] = [
  ["GET", "", getRunContext, getRunNative],
  ["PUT", "", replaceRun, replaceRun],
  ["GET", "/events", listEventsContext, listEventsNative],
  ["POST", "/events", appendEvent, appendEvent],
  ["GET", "/events/stream", streamRunContext, streamRunNative],
  ["POST", "/todos/sync", syncTodos, syncTodos],
  ["POST", "/driver/next", selectNextStep, selectNextStep],
  ["POST", "/lease/validate", validateWorkspace, validateWorkspace],
  ["GET", "/blackboard", getBlackboardContext, getBlackboardNative],
  ["GET", "/blackboard/patches", listPatchesContext, listPatchesNative],
  ["POST", "/blackboard/patches", patchBlackboard, patchBlackboard],
  ["GET", "/tasks", null, listTasks],
  ["POST", "/tasks", createTasks, createTasks],
  ["POST", "/tasks/claim", claimTask, claimTask],
  ["GET", "/tasks/:task_id", null, getTask],
  ["POST", "/tasks/:task_id/transition", transitionTask, transitionTask],
  ["POST", "/checkpoints", createCheckpointContext, createCheckpointNative],
  ["GET", "/checkpoints", null, listCheckpoints],
  ["GET", "/checkpoints/latest", latestCheckpointContext, latestCheckpointNative],
  ["GET", "/state", null, getState],
  ["GET", "/diff", null, getDiff],
  ["POST", "/fork", null, forkRun],
  ["GET", "/replay", replayContext, replayNative],
  ["GET", "/export", null, exportRun],
  ["GET", "/artifacts", null, listArtifacts],
  ["POST", "/artifacts", null, appendArtifact],
  ["GET", "/artifacts/:path+", null, getArtifact],
  ["PUT", "/artifacts/:path+", null, putArtifact],
  ["DELETE", "/artifacts/:path+", null, deleteArtifact],
  ["POST", "/uploads", null, startUpload],
  ["DELETE", "/uploads/:upload_id", null, abortUpload],
  ["PUT", "/uploads/:upload_id/parts/:part", null, putUploadPart],
  ["POST", "/uploads/:upload_id/complete", null, completeUpload],
  ["GET", "/verify", null, verify],
  ["GET", "/ledger", ledgerContext, ledgerNative],
  ["GET", "/checkpoints/mutations", mutationsContext, mutationsNative],
  ["POST", "/checkpoints/mutations", null, recordMutation],
  ["GET", "/checkpoints/mutations/rollback-preview", previewContext, previewNative],
  ["GET", "/checkpoints/mutations/rollback-history", historyContext, historyNative],
  ["POST", "/checkpoints/mutations/rollback-execute", executeRollback, executeRollback],
  // After the routes whose names it would take for a checkpoint's.
  ["GET", "/checkpoints/:checkpoint", null, getCheckpoint],
  ["GET", "/governance-evidence", getEvidence, getEvidence],
  ["DELETE", "", null, deleteRunNative],
  ["POST", "/archive", null, archive],
  ["POST", "/restore", null, restore],
];

/** Every route of both doors (contract 02 §0, docs/http-api.md). The first that matches wins. */
export const ROUTES: readonly Route[] = [
  { method: "POST", path: "/context/runs", door: "context", handle: createRunContext },
  { method: "GET", path: "/context/runs", door: "context", handle: listRunsContext },
  { method: "POST", path: "/v1/runs", door: "native", handle: createRunNative },
  { method: "GET", path: "/v1/runs", door: "native", handle: listRunsNative },
  { method: "GET", path: "/v1/retention", door: "native", handle: getRetention },
  { method: "PUT", path: "/v1/retention", door: "native", handle: putRetention },
  { method: "POST", path: "/v1/runs/import", door: "native", handle: importRun },
  { method: "POST", path: "/v1/runs/import/reference", door: "native", handle: importReference },
  { method: "GET", path: "/context/runs/events/stream", door: "context", handle: streamFeedContext },
  { method: "GET", path: "/v1/events/stream", door: "native", handle: streamFeedNative },
  ...RUN_ROUTES.flatMap(([method, path, context, native]): Route[] => [
    ...routeOf(method, `/context/runs/:run_id${path}`, "context", context),
    ...routeOf(method, `/v1/runs/:run_id${path}`, "native", native),
  ]),
];

function routeOf(method: Method, path: string, door: Door, handle: Handler | null): Route[] {
  return handle === null ? [] : [{ method, path, door, handle }];
}
