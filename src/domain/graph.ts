/** The dependency graph as the engine can see it: by id, one hop at a time. */
export interface Graph {
  /** Ids that a task waits for; empty for an id that is not there. */
  dependenciesOf(id: string): string[];
  /** Ids of the tasks that wait for this one, whether or not it exists yet. */
  dependentsOf(id: string): string[];
}

/** How many nodes and edges a search may still look at; searches of one batch share one allowance. */
export interface SearchAllowance {
  left: number;
}

/** Thrown when an allowance is used up: the graph is too large to be searched in one request. */
export class SearchExhausted extends Error {}

/**
 * The cycle that a task with these dependencies would close, as ids with the first repeated at the end, or null
 * (contract 07 D49).
 *
 * Searches up from the dependencies and down from the task, a node of each in turn: either search alone is complete, so
 * the smaller side decides the cost. A task added in order has no dependents, one added before its dependencies has
 * nothing above it: both common cases end at once.
 * @throws SearchExhausted
 */
export function findCycle(
  graph: Graph,
  id: string,
  dependencies: string[],
  allowance: SearchAllowance,
): string[] | null {
  if (dependencies.includes(id)) return [id, id];
  const wanted = new Set(dependencies);
  const up = new Search(dependencies, (node) => graph.dependenciesOf(node), allowance);
  const down = new Search([id], (node) => graph.dependentsOf(node), allowance);
  for (;;) {
    if (allowance.left <= 0) throw new SearchExhausted();
    const below = down.step();
    if (below === null) return null;
    if (wanted.has(below)) return [...down.pathTo(below), id].toReversed();
    if (down.isDone()) return null;
    const above = up.step();
    if (above === null) return null;
    if (above === id) return [id, ...up.pathTo(id)];
    if (up.isDone()) return null;
  }
}

/** A cycle among these tasks, as ids with the first repeated at the end, or null. Linear in tasks and edges. */
export function cycleAmong(tasks: { id: string; depends_on_task_ids: string[] }[]): string[] | null {
  const open = new Map(tasks.map((task) => [task.id, task.depends_on_task_ids]));
  const waiting = new Map<string, number>();
  const dependents = new Map<string, string[]>();
  const free: string[] = [];
  for (const task of tasks) {
    const known = new Set(task.depends_on_task_ids.filter((id) => open.has(id)));
    waiting.set(task.id, known.size);
    if (known.size === 0) free.push(task.id);
    for (const dependency of known) {
      const list = dependents.get(dependency);
      if (list === undefined) dependents.set(dependency, [task.id]);
      else list.push(task.id);
    }
  }
  // Take out what waits for nothing, again and again: what stays waits for something that stays.
  for (let next = free.pop(); next !== undefined; next = free.pop()) {
    open.delete(next);
    for (const dependent of dependents.get(next) ?? []) {
      const left = (waiting.get(dependent) ?? 0) - 1;
      waiting.set(dependent, left);
      if (left === 0) free.push(dependent);
    }
  }
  const path: string[] = [];
  const seen = new Map<string, number>();
  for (let at = open.keys().next().value; at !== undefined; ) {
    const start = seen.get(at);
    if (start !== undefined) return [...path.slice(start), at];
    seen.set(at, path.push(at) - 1);
    at = open.get(at)?.find((id) => open.has(id));
  }
  return null;
}

/** A breadth-first search that visits one node per step and remembers how it got there. */
class Search {
  readonly #cameFrom = new Map<string, string | null>();
  readonly #queue: string[] = [];
  #next = 0;
  readonly #neighbours: (node: string) => string[];
  readonly #allowance: SearchAllowance;

  constructor(starts: string[], neighbours: (node: string) => string[], allowance: SearchAllowance) {
    this.#neighbours = neighbours;
    this.#allowance = allowance;
    for (const start of starts) this.#discover(start, null);
  }

  /** The next node, or null when everything reachable was visited. */
  step(): string | null {
    const node = this.#queue[this.#next];
    if (node === undefined) return null;
    this.#next += 1;
    const neighbours = this.#neighbours(node);
    this.#allowance.left -= 1 + neighbours.length;
    for (const neighbour of neighbours) this.#discover(neighbour, node);
    return node;
  }

  isDone(): boolean {
    return this.#next === this.#queue.length;
  }

  /** From a start to the node, both included. */
  pathTo(node: string): string[] {
    const path: string[] = [];
    for (let at: string | null | undefined = node; at != null; at = this.#cameFrom.get(at)) path.push(at);
    return path.toReversed();
  }

  #discover(node: string, from: string | null): void {
    if (this.#cameFrom.has(node)) return;
    this.#cameFrom.set(node, from);
    this.#queue.push(node);
  }
}
