/** The dependency graph as the engine can see it: by id, one hop at a time. */
export interface Graph {
  /** Ids that a task waits for; empty for an id that is not there. */
  dependenciesOf(id: string): string[];
  /** Ids of the tasks that wait for this one, whether or not it exists yet. */
  dependentsOf(id: string): string[];
}

/**
 * The cycle that a task with these dependencies would close, as ids with the first repeated at the end, or null
 * (contract 07 D49).
 *
 * Searches up from the dependencies and down from the task, a node of each in turn: either search alone is complete, so
 * the smaller side decides the cost. A task added in order has no dependents, one added before its dependencies has
 * nothing above it: both common cases end at once.
 */
export function findCycle(graph: Graph, id: string, dependencies: string[]): string[] | null {
  if (dependencies.includes(id)) return [id, id];
  const wanted = new Set(dependencies);
  const up = new Search(dependencies, (node) => graph.dependenciesOf(node));
  const down = new Search([id], (node) => graph.dependentsOf(node));
  for (;;) {
    const below = down.step();
    if (below === null) return null;
    if (wanted.has(below)) return [...down.pathTo(below), id].toReversed();
    const above = up.step();
    if (above === null) return null;
    if (above === id) return [id, ...up.pathTo(id)];
  }
}

/** A breadth-first search that visits one node per step and remembers how it got there. */
class Search {
  readonly #cameFrom = new Map<string, string | null>();
  readonly #queue: string[] = [];
  #next = 0;
  readonly #neighbours: (node: string) => string[];

  constructor(starts: string[], neighbours: (node: string) => string[]) {
    this.#neighbours = neighbours;
    for (const start of starts) this.#discover(start, null);
  }

  /** The next node, or null when everything reachable was visited. */
  step(): string | null {
    const node = this.#queue[this.#next];
    if (node === undefined) return null;
    this.#next += 1;
    for (const neighbour of this.#neighbours(node)) this.#discover(neighbour, node);
    return node;
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
