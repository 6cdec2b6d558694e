import type { Scope } from "../identity/scopes.ts";
import type { Call } from "./call.ts";
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
import { getAuditLog } from "./resources/audit-log.ts";
import { runCommands } from "./resources/batch.ts";
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
import { cancelRun, pauseRun, resumeRun } from "./resources/control.ts";
import { deliveryPayload, getDelivery, listHookDeliveries, replayDelivery } from "./resources/deliveries.ts";
import { forkRun, getDiff, getState } from "./resources/history.ts";
import {
  addHookSecret,
  createHook,
  deleteHookNative,
  getHook,
  listHooksNative,
  putHook,
  removeHookSecret,
} from "./resources/hooks.ts";
import { acquireLock, getLock, heartbeatLock, listLocks, releaseLock } from "./resources/locks.ts";
import {
  appendEvent,
  listEventsContext,
  listEventsNative,
  listPatchesContext,
  listPatchesNative,
} from "./resources/log.ts";
import { listPresets, testHook, testMapping } from "./resources/mappings.ts";
import {
  archive,
  deleteRunNative,
  exportRun,
  getRetention,
  importRun,
  putRetention,
  restore,
} from "./resources/moving.ts";
import { getQuotas, putQuotas } from "./resources/quotas.ts";
import { redriveTask, redriveTasks } from "./resources/redrive.ts";
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
import { getSettings, putSettings } from "./resources/settings.ts";
import { selectNextStep, syncTodos, validateWorkspace } from "./resources/steps.ts";
import {
  streamFeedContext,
  streamFeedNative,
  streamRunContext,
  streamRunNative,
} from "./resources/streams.ts";
import {
  addSubscriptionSecret,
  createSubscription,
  disableSubscriptionNow,
  enableSubscriptionAgain,
  getSubscription,
  listDeadLetters,
  listDeliveryAttempts,
  listSubscriptionsNative,
  putSubscription,
  redeliverLetter,
  removeSubscription,
  replayEvents,
  retireSubscriptionSecret,
  testSubscription,
} from "./resources/subscriptions.ts";
import {
  cancelTask,
  changeDependencies,
  claimTask,
  createTasks,
  getTask,
  listTasks,
  transitionTask,
} from "./resources/tasks.ts";
import { getToken, getTokens, mintToken, postRevocation, whoami } from "./resources/tokens.ts";
import { abortUpload, completeUpload, putUploadPart, startUpload } from "./resources/uploads.ts";
import { verify } from "./resources/verify.ts";
import { waitFor } from "./resources/waits.ts";
import { getWhy } from "./resources/why.ts";
import type { RouteFacts } from "./route-facts.ts";

/** A route with its handler. */
export interface Route extends RouteFacts {
  handle(call: Call): Promise<HttpAnswer>;
}

type Method = Route["method"];
type Handler = Route["handle"];

/** Routes below one run that both doors have: method, path, scope, then the handler of `/context` and that of `/v1`. */
const RUN_ROUTES: readonly [Method, string, Scope, Handler | null, Handler | null][] = [
  ["GET", "", "viewer", getRunContext, getRunNative],
  ["PUT", "", "planner", replaceRun, replaceRun],
  ["GET", "/settings", "viewer", null, getSettings],
  ["PUT", "/settings", "planner", null, putSettings],
  ["GET", "/events", "viewer", listEventsContext, listEventsNative],
  ["POST", "/events", "agent", appendEvent, appendEvent],
  ["GET", "/events/stream", "viewer", streamRunContext, streamRunNative],
  ["POST", "/todos/sync", "agent", syncTodos, syncTodos],
  ["POST", "/driver/next", "agent", selectNextStep, selectNextStep],
  ["POST", "/lease/validate", "agent", validateWorkspace, validateWorkspace],
  ["GET", "/blackboard", "viewer", getBlackboardContext, getBlackboardNative],
  ["GET", "/blackboard/patches", "viewer", listPatchesContext, listPatchesNative],
  ["POST", "/blackboard/patches", "agent", patchBlackboard, patchBlackboard],
  ["GET", "/tasks", "viewer", null, listTasks],
  ["POST", "/tasks", "agent", createTasks, createTasks],
  ["POST", "/tasks/claim", "agent", claimTask, claimTask],
  ["POST", "/tasks/redrive", "planner", null, redriveTasks],
  ["POST", "/tasks/:task_id/redrive", "planner", null, redriveTask],
  ["GET", "/tasks/:task_id", "viewer", null, getTask],
  ["GET", "/tasks/:task_id/why", "viewer", null, getWhy],
  ["POST", "/tasks/:task_id/transition", "agent", transitionTask, transitionTask],
  ["POST", "/commands", "agent", null, runCommands],
  ["POST", "/tasks/:task_id/cancel", "planner", null, cancelTask],
  ["POST", "/tasks/:task_id/dependencies", "agent", null, changeDependencies],
  ["POST", "/pause", "planner", null, pauseRun],
  ["POST", "/resume", "planner", null, resumeRun],
  ["POST", "/cancel", "planner", null, cancelRun],
  ["POST", "/wait", "viewer", null, waitFor],
  ["POST", "/locks", "agent", null, acquireLock],
  ["GET", "/locks", "viewer", null, listLocks],
  ["GET", "/locks/:lock_id", "viewer", null, getLock],
  ["POST", "/locks/:lock_id/heartbeat", "agent", null, heartbeatLock],
  ["POST", "/locks/:lock_id/release", "agent", null, releaseLock],
  ["POST", "/checkpoints", "agent", createCheckpointContext, createCheckpointNative],
  ["GET", "/checkpoints", "viewer", null, listCheckpoints],
  ["GET", "/checkpoints/latest", "viewer", latestCheckpointContext, latestCheckpointNative],
  ["GET", "/state", "viewer", null, getState],
  ["GET", "/diff", "viewer", null, getDiff],
  ["POST", "/fork", "planner", null, forkRun],
  ["GET", "/replay", "viewer", replayContext, replayNative],
  ["GET", "/export", "viewer", null, exportRun],
  ["GET", "/artifacts", "viewer", null, listArtifacts],
  ["POST", "/artifacts", "agent", null, appendArtifact],
  ["GET", "/artifacts/:path+", "viewer", null, getArtifact],
  ["PUT", "/artifacts/:path+", "agent", null, putArtifact],
  ["DELETE", "/artifacts/:path+", "agent", null, deleteArtifact],
  ["POST", "/uploads", "agent", null, startUpload],
  ["DELETE", "/uploads/:upload_id", "agent", null, abortUpload],
  ["PUT", "/uploads/:upload_id/parts/:part", "agent", null, putUploadPart],
  ["POST", "/uploads/:upload_id/complete", "agent", null, completeUpload],
  ["GET", "/verify", "viewer", null, verify],
  ["GET", "/ledger", "viewer", ledgerContext, ledgerNative],
  ["GET", "/checkpoints/mutations", "viewer", mutationsContext, mutationsNative],
  ["POST", "/checkpoints/mutations", "agent", null, recordMutation],
  ["GET", "/checkpoints/mutations/rollback-preview", "viewer", previewContext, previewNative],
  ["GET", "/checkpoints/mutations/rollback-history", "viewer", historyContext, historyNative],
  ["POST", "/checkpoints/mutations/rollback-execute", "planner", executeRollback, executeRollback],
  // After the routes whose names it would take for a checkpoint's.
  ["GET", "/checkpoints/:checkpoint", "viewer", null, getCheckpoint],
  ["GET", "/governance-evidence", "viewer", getEvidence, getEvidence],
  ["DELETE", "", "operator", null, deleteRunNative],
  ["POST", "/archive", "operator", null, archive],
  ["POST", "/restore", "operator", null, restore],
];

/** Hooks and what was delivered to them: deliveries themselves come in at `/hooks/{public_id}` (ingest.ts). */
const HOOK_ROUTES: readonly [Route["method"], string, Handler][] = [
  ["POST", "", createHook],
  ["GET", "", listHooksNative],
  ["GET", "/:hook_id", getHook],
  ["PUT", "/:hook_id", putHook],
  ["DELETE", "/:hook_id", deleteHookNative],
  ["POST", "/:hook_id/test", testHook],
  ["POST", "/:hook_id/secrets", addHookSecret],
  ["DELETE", "/:hook_id/secrets/:secret_id", removeHookSecret],
  ["GET", "/:hook_id/deliveries", listHookDeliveries],
  ["GET", "/:hook_id/deliveries/:delivery_id", getDelivery],
  ["GET", "/:hook_id/deliveries/:delivery_id/payload", deliveryPayload],
  ["POST", "/:hook_id/deliveries/:delivery_id/replay", replayDelivery],
];

/** Routes below `/v1/subscriptions` (docs/webhooks-out.md): all of them tell or change where a tenant's news goes. */
const SUBSCRIPTION_ROUTES: readonly [Method, string, Handler][] = [
  ["POST", "", createSubscription],
  ["GET", "", listSubscriptionsNative],
  ["GET", "/:subscription_id", getSubscription],
  ["PUT", "/:subscription_id", putSubscription],
  ["DELETE", "/:subscription_id", removeSubscription],
  ["POST", "/:subscription_id/enable", enableSubscriptionAgain],
  ["POST", "/:subscription_id/disable", disableSubscriptionNow],
  ["POST", "/:subscription_id/test", testSubscription],
  ["POST", "/:subscription_id/replay", replayEvents],
  ["POST", "/:subscription_id/secrets", addSubscriptionSecret],
  ["DELETE", "/:subscription_id/secrets/:secret_id", retireSubscriptionSecret],
  ["GET", "/:subscription_id/attempts", listDeliveryAttempts],
  ["GET", "/:subscription_id/dead-letters", listDeadLetters],
  ["POST", "/:subscription_id/dead-letters/:letter_id/redeliver", redeliverLetter],
];

/** Every route of both doors (contract 02 §0, docs/http-api.md). The first that matches wins. */
export const ROUTES: readonly Route[] = [
  { method: "POST", path: "/context/runs", door: "context", needs: "planner", handle: createRunContext },
  { method: "GET", path: "/context/runs", door: "context", needs: "viewer", handle: listRunsContext },
  { method: "POST", path: "/v1/runs", door: "native", needs: "planner", handle: createRunNative },
  { method: "GET", path: "/v1/runs", door: "native", needs: "viewer", handle: listRunsNative },
  { method: "GET", path: "/v1/retention", door: "native", needs: "viewer", handle: getRetention },
  { method: "PUT", path: "/v1/retention", door: "native", needs: "operator", handle: putRetention },
  ...HOOK_ROUTES.map(
    ([method, path, handle]): Route => ({
      method,
      path: `/v1/hooks${path}`,
      door: "native",
      needs: "operator",
      handle,
    }),
  ),
  { method: "GET", path: "/v1/mappings/presets", door: "native", needs: "viewer", handle: listPresets },
  { method: "POST", path: "/v1/mappings/test", door: "native", needs: "viewer", handle: testMapping },
  { method: "GET", path: "/v1/quotas", door: "native", needs: "viewer", handle: getQuotas },
  { method: "PUT", path: "/v1/quotas", door: "native", needs: "operator", handle: putQuotas },
  { method: "POST", path: "/v1/runs/import", door: "native", needs: "planner", handle: importRun },
  {
    method: "POST",
    path: "/v1/runs/import/reference",
    door: "native",
    needs: "planner",
    handle: importReference,
  },
  ...tokenRoutes(),
  {
    method: "GET",
    path: "/context/runs/events/stream",
    door: "context",
    needs: "viewer",
    handle: streamFeedContext,
  },
  { method: "GET", path: "/v1/events/stream", door: "native", needs: "viewer", handle: streamFeedNative },
  ...SUBSCRIPTION_ROUTES.map(
    ([method, path, handle]): Route => ({
      method,
      path: `/v1/subscriptions${path}`,
      door: "native",
      needs: "operator",
      handle,
    }),
  ),
  ...RUN_ROUTES.flatMap(([method, path, needs, context, native]): Route[] => [
    ...routeOf({ method, path: `/context/runs/:run_id${path}`, door: "context", needs }, context),
    ...routeOf({ method, path: `/v1/runs/:run_id${path}`, door: "native", needs }, native),
  ]),
];

/** Who one is, tokens, and what was done with them (docs/identity.md). */
function tokenRoutes(): Route[] {
  const any = { door: "native", needs: null, isForBound: true } as const;
  return [
    { method: "GET", path: "/v1/whoami", ...any, handle: whoami },
    { method: "POST", path: "/v1/tokens", ...any, handle: mintToken },
    { method: "GET", path: "/v1/tokens", door: "native", needs: "operator", handle: getTokens },
    { method: "GET", path: "/v1/tokens/:token_id", ...any, handle: getToken },
    { method: "POST", path: "/v1/tokens/:token_id/revoke", ...any, handle: postRevocation },
    { method: "GET", path: "/v1/audit", door: "native", needs: "operator", handle: getAuditLog },
  ];
}

function routeOf(route: Omit<Route, "handle">, handle: Handler | null): Route[] {
  return handle === null ? [] : [{ ...route, handle }];
}
