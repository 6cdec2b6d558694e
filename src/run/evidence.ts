import { createHash } from "node:crypto";
import type { EffectKind } from "../domain/audit.ts";
import { canonicalJson } from "../domain/canonical-json.ts";
import {
  approvalEvidence,
  artifactEvidence,
  type EvidenceBasis,
  evidenceOf,
  fileEvidence,
  type Hash,
  mutationEvidence,
  policyDecisionEvidence,
  reporterOf,
  rollbackEvidence,
  toolCallEvidence,
} from "../domain/evidence.ts";
import type { RunHead } from "../domain/head.ts";
import { ledgerRecordOf } from "../domain/ledger.ts";
import { mutationRecordOf } from "../domain/mutations.ts";
import type { Artifact } from "../protocol/blackboard.ts";
import type { EventRecord } from "../protocol/event.ts";
import type { FileVersion } from "../protocol/file-version.ts";
import { type AuditSource, auditEvents, type LogRange } from "./audit-events.ts";
import type { RunState } from "./run-state.ts";
import { streamedText, type Text } from "./text.ts";

/** What must be taken in the same turn as the head. */
interface Known {
  log_hash: string;
  agents: string[];
}

/** Lists in the package that grow with the history: each is written as it is read. */
type Grown = "tool_calls" | "policy_decisions" | "approvals" | "audit" | "artifacts";

const hash: Hash = (text) => createHash("sha256").update(text).digest("hex");

/**
 * The evidence package of a run (contract 02 §9.1), with its digest: JSON members without braces. It tells the run as it is
 * in this very turn, and has no clock in it: an unchanged run gives the same package and digest.
 */
export async function evidencePackage(source: AuditSource): Promise<Text> {
  const { state } = source;
  const head = state.head();
  const artifacts = artifactsOf(state);
  const agents = state.tasks.agents();
  const known = { log_hash: state.logHash(), agents };
  return streamedText(digested(packagePieces(source, head, known, artifacts), head.run.run_id));
}

/** The package, which is written in canonical form, and then what it hashes to. */
async function* digested(pieces: AsyncGenerator<string>, runId: string): AsyncGenerator<string> {
  const digest = createHash("sha256");
  yield '"evidence_package":';
  for await (const piece of pieces) {
    digest.update(piece);
    yield piece;
  }
  const filename = JSON.stringify(`tandem-governance-evidence-${runId}.json`);
  yield `,"filename":${filename},"content_sha256":"${digest.digest("hex")}"`;
}

async function* packagePieces(
  source: AuditSource,
  head: RunHead,
  known: Known,
  artifacts: string[],
): AsyncGenerator<string> {
  const range: LogRange = { afterSeq: 0, uptoSeq: head.run.last_event_seq, newestFirst: false };
  const fixed: Record<string, unknown> = evidenceOf(head, await basisOf(source, head, range, known), hash);
  const list = (kind: EffectKind, evidence: (event: EventRecord) => Record<string, unknown> | null) =>
    listPieces(source, kind, range, evidence);
  const grown: Record<Grown, () => AsyncGenerator<string>> = {
    tool_calls: () => list("ledger", (event) => toolCallEvidence(event, hash)),
    policy_decisions: () => list("ledger", policyDecisionEvidence),
    approvals: () => list("approval", (event) => approvalEvidence(event, hash)),
    artifacts: () => arrayPieces(artifacts),
    audit: async function* () {
      const { mutations, preview, history } = head.audit;
      yield `{"mutation_checkpoint_summary":${canonicalJson(mutations)},"mutation_checkpoints":`;
      yield* list("mutation", (event) => mutationEvidence(event, hash));
      yield `,"rollback_history":`;
      yield* list("rollback", (event) => rollbackEvidence(event, hash));
      yield `,"rollback_history_summary":${canonicalJson(history)},"rollback_preview_summary":${canonicalJson(preview)}}`;
    },
  };
  let separator = "{";
  for (const name of [...Object.keys(fixed), ...Object.keys(grown)].sort()) {
    yield `${separator}${JSON.stringify(name)}:`;
    if (Object.hasOwn(grown, name)) yield* grown[name as Grown]();
    else yield canonicalJson(fixed[name]);
    separator = ",";
  }
  yield "}";
}

async function* listPieces(
  source: AuditSource,
  kind: EffectKind,
  range: LogRange,
  evidence: (event: EventRecord) => Record<string, unknown> | null,
): AsyncGenerator<string> {
  let separator = "[";
  for await (const { event } of auditEvents(source, kind, range)) {
    const entry = evidence(event);
    if (entry === null) continue;
    yield separator + canonicalJson(entry);
    separator = ",";
  }
  yield separator === "[" ? "[]" : "]";
}

async function* arrayPieces(texts: string[]): AsyncGenerator<string> {
  yield `[${texts.join(",")}]`;
}

/** Reads all records once, for who took part and how much of it the engine can answer for. */
async function basisOf(
  source: AuditSource,
  { audit }: RunHead,
  range: LogRange,
  { log_hash, agents }: Known,
): Promise<EvidenceBasis> {
  const sessions = new Set<string>();
  let reported_by_clients = 0;
  let read = 0;
  for (const kind of ["ledger", "mutation", "rollback"] as const) {
    for await (const { event } of auditEvents(source, kind, range)) {
      const session = (ledgerRecordOf(event) ?? mutationRecordOf(event))?.session_id;
      if (session !== undefined) sessions.add(session);
      if (reporterOf(event) === "client") reported_by_clients += 1;
      read += 1;
    }
  }
  const recorded = audit.ledger.record_count + audit.mutations.record_count + audit.history.entry_count;
  return {
    actors: { sessions: [...sessions].sort(), agents },
    log_hash,
    reported_by_clients,
    unreadable: recorded - read,
  };
}

function artifactsOf(state: RunState): string[] {
  const artifacts = state.board.artifacts().map((doc) => artifactEvidence(JSON.parse(doc) as Artifact));
  const files = state.files.docs().map((doc) => fileEvidence(JSON.parse(doc) as FileVersion));
  return [...artifacts, ...files].map(canonicalJson);
}
