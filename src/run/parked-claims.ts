import type { CommandOf } from "../domain/command.ts";
import type { Submission } from "./engine.ts";
import type { PackedAnswer } from "./packed-answer.ts";

/** The submission of a claim. */
export type ClaimSubmission = Submission & { command: CommandOf<"claim_task"> };

/** A claim that waits until there is something for it. */
export interface ParkedClaim {
  readonly submission: ClaimSubmission;
  /** Its place among those that wait, unique: the smaller is served first. */
  readonly place: number;
  /** Whether somebody waits for the answer, as far as can be known. */
  isAwaited(): boolean;
  /** Told once, when what was claimed is durable. */
  answer(answer: PackedAnswer): void;
  /** Told instead when claiming failed, which undid it. */
  fail(): void;
}

/** Where a ready task lies, as far as filters go; an empty workflow is none. */
interface Lane {
  task_type: string;
  workflow_id: string;
}

/** Claims that could take each other's tasks, in order of their places. */
type Queue = ParkedClaim[];

/**
 * The claims that wait, in a shape in which those that a ready task is for are found without looking at the others.
 *
 * W1 Of those that something can be given to, the first by place is served first, whatever its filter.
 */
export class ParkedClaims {
  /** By task type, then by workflow, then by whatever else decides what is claimed; null where a filter leaves it open. */
  readonly #queues = new Map<string | null, Map<string | null, Map<string, Queue>>>();
  readonly #byCommandId = new Map<string, ParkedClaim[]>();
  readonly #places = new Set<number>();

  get size(): number {
    return this.#places.size;
  }

  *all(): Generator<ParkedClaim> {
    for (const byWorkflow of this.#queues.values()) {
      for (const byRest of byWorkflow.values()) {
        for (const queue of byRest.values()) yield* [...queue];
      }
    }
  }

  add(claim: ParkedClaim): void {
    const { task_type = null, workflow_id = null } = claim.submission.command;
    const byWorkflow = entryOf(this.#queues, task_type, () => new Map<string | null, Map<string, Queue>>());
    const byRest = entryOf(byWorkflow, workflow_id, () => new Map<string, Queue>());
    const queue = entryOf(byRest, restOf(claim), (): Queue => []);
    queue.splice(rankIn(queue, claim.place), 0, claim);
    this.#places.add(claim.place);
    const { commandId } = claim.submission;
    if (commandId !== undefined) entryOf(this.#byCommandId, commandId, (): Queue => []).push(claim);
  }

  /** False when it does not wait any more. */
  remove(claim: ParkedClaim): boolean {
    if (!this.#places.has(claim.place)) return false;
    const { task_type = null, workflow_id = null } = claim.submission.command;
    const byWorkflow = this.#queues.get(task_type);
    const byRest = byWorkflow?.get(workflow_id);
    const queue = byRest?.get(restOf(claim)) ?? [];
    const rank = rankIn(queue, claim.place);
    if (queue[rank] !== claim) return false;
    queue.splice(rank, 1);
    this.#places.delete(claim.place);
    if (queue.length === 0) byRest?.delete(restOf(claim));
    if (byRest?.size === 0) byWorkflow?.delete(workflow_id);
    if (byWorkflow?.size === 0) this.#queues.delete(task_type);
    this.#forgetCommandId(claim);
    return true;
  }

  clear(): void {
    this.#queues.clear();
    this.#byCommandId.clear();
    this.#places.clear();
  }

  /** Those under one command id: a client that has come back without the one before being known to be gone. */
  withCommandId(commandId: string | undefined): ParkedClaim[] {
    return commandId === undefined ? [] : [...(this.#byCommandId.get(commandId) ?? [])];
  }

  /**
   * The first of those whose filter fits one of these lanes. @param passed those that cannot be given anything all the same:
   * who waits behind them for the like is left out with them.
   */
  first(lanes: Iterable<Lane>, passed: Pick<ReadonlySet<ParkedClaim>, "has">): ParkedClaim | null {
    let first: ParkedClaim | null = null;
    for (const { task_type, workflow_id } of lanes) {
      for (const byWorkflow of [this.#queues.get(task_type), this.#queues.get(null)]) {
        if (byWorkflow === undefined) continue;
        // A task without a workflow fits no filter of one.
        const fitting = [workflow_id === "" ? undefined : byWorkflow.get(workflow_id), byWorkflow.get(null)];
        for (const queue of fitting.flatMap((byRest) => [...(byRest?.values() ?? [])])) {
          const [head] = queue;
          if (head === undefined || (first !== null && first.place < head.place)) continue;
          if (!passed.has(head)) first = head;
        }
      }
    }
    return first;
  }

  #forgetCommandId(claim: ParkedClaim): void {
    const { commandId } = claim.submission;
    if (commandId === undefined) return;
    const others = this.withCommandId(commandId).filter((other) => other !== claim);
    if (others.length === 0) this.#byCommandId.delete(commandId);
    else this.#byCommandId.set(commandId, others);
  }
}

/** What beside the filter decides what a claim can be given; neither who asks nor for how much. */
function restOf({ submission: { command } }: ParkedClaim): string {
  const { op, agent_id, lease_ms, max, strict, task_type, workflow_id, ...rest } = command;
  return JSON.stringify(rest);
}

/** Where a place is, or belongs, in a queue that is in order. */
function rankIn(queue: Queue, place: number): number {
  let low = 0;
  let high = queue.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if ((queue[middle]?.place ?? 0) < place) low = middle + 1;
    else high = middle;
  }
  return low;
}

function entryOf<K, V>(map: Map<K, V>, key: K, make: () => V): V {
  const known = map.get(key);
  if (known !== undefined) return known;
  const made = make();
  map.set(key, made);
  return made;
}
