import fc from "fast-check";
import { describe, expect, it, vi } from "vitest";
import type { Command } from "../../src/domain/command.ts";
import { cycleAmong, findCycle, type Graph, SearchExhausted } from "../../src/domain/graph.ts";
import { MAX_SEARCHED_PER_BATCH } from "../../src/protocol/limits.ts";
import { accepted, aRow, aTask, batch, committed, memoryRun, refused } from "../support/builders.ts";

/** Who waits for whom: each id with the ids it depends on. */
type Edges = Record<string, string[]>;

function graphOf(edges: Edges): Graph {
  return {
    dependenciesOf: (id) => edges[id] ?? [],
    dependentsOf: (id) => Object.keys(edges).filter((other) => edges[other]?.includes(id)),
  };
}

/** A search that may visit as many nodes as it likes. */
const cycleFound = (graph: Graph, id: string, dependencies: string[]) =>
  findCycle(graph, id, dependencies, { left: Number.POSITIVE_INFINITY });

/** The plain answer: whether `id` can be reached from the dependencies, depth first. */
function isReachable(edges: Edges, id: string, dependencies: string[], seen = new Set<string>()): boolean {
  return dependencies.some((dependency) => {
    if (dependency === id) return true;
    if (seen.has(dependency)) return false;
    seen.add(dependency);
    return isReachable(edges, id, edges[dependency] ?? [], seen);
  });
}

/** That a cycle is one: from `id` back to it, each id waiting for the next, none twice. */
function expectCycle(cycle: string[], edges: Edges, id: string): void {
  expect(cycle.length).toBeGreaterThanOrEqual(2);
  expect(cycle[0]).toBe(id);
  expect(cycle.at(-1)).toBe(id);
  for (const [index, node] of cycle.slice(0, -1).entries()) expect(edges[node]).toContain(cycle[index + 1]);
  expect(new Set(cycle.slice(0, -1)).size).toBe(cycle.length - 1);
}

const nodes = ["a", "b", "c", "d", "e", "f", "g", "h"];
const someNodes = (maxLength: number) => fc.array(fc.constantFrom(...nodes), { maxLength });

/** Acyclic edges among the nodes: each waits only for nodes after it in a random order. */
const acyclic: fc.Arbitrary<Edges> = fc
  .tuple(
    fc.shuffledSubarray(nodes, { minLength: nodes.length }),
    fc.array(someNodes(3), { minLength: 8, maxLength: 8 }),
  )
  .map(([order, wishes]) =>
    Object.fromEntries(
      order.map((node, index) => [
        node,
        (wishes[index] ?? []).filter((other) => order.indexOf(other) > index),
      ]),
    ),
  );

/** Any edges, cycles and loops included. */
const anyEdges: fc.Arbitrary<Edges> = fc
  .array(someNodes(3), { minLength: 8, maxLength: 8 })
  .map((lists) => Object.fromEntries(nodes.map((node, index) => [node, lists[index] ?? []])));

describe("findCycle", () => {
  const cases: [string, Edges, string, string[], string[] | null][] = [
    ["no dependencies", {}, "x", [], null],
    ["itself", {}, "x", ["x"], ["x", "x"]],
    ["itself, among others", { a: [] }, "x", ["a", "x"], ["x", "x"]],
    ["unknown ids", {}, "x", ["later", "never"], null],
    ["a forward reference closed", { a: ["x"] }, "x", ["a"], ["x", "a", "x"]],
    ["a longer way round", { a: ["b"], b: ["c"], c: ["x"] }, "x", ["a"], ["x", "a", "b", "c", "x"]],
    ["only one of several", { a: ["x"], b: [] }, "x", ["b", "a"], ["x", "a", "x"]],
    ["a diamond is none", { a: ["c"], b: ["c"], c: [] }, "x", ["a", "b"], null],
    ["dependents beside the way", { a: ["x"], b: ["x"], c: ["b"] }, "x", ["d"], null],
    ["dependents beside a way", { b: ["x"], c: ["x"], a: ["x"] }, "x", ["a"], ["x", "a", "x"]],
    ["somebody else's cycle", { a: ["b"], b: ["a"] }, "x", ["a"], null],
    ["a cycle below", { a: ["x", "b"], b: ["a"] }, "x", [], null],
  ];
  it.each(cases)("D49 %s", (_, edges, id, dependencies, cycle) => {
    expect(cycleFound(graphOf(edges), id, dependencies)).toEqual(cycle);
  });

  it("D49 of a task that waits for nothing, nobody is asked what is above it", () => {
    const graph: Graph = {
      ...graphOf({ a: ["x"], b: ["a"] }),
      dependenciesOf: (id) => {
        throw new Error(`asked for ${id}`);
      },
    };
    expect(cycleFound(graph, "x", [])).toBeNull();
  });

  it.each([
    ["acyclic", acyclic],
    ["any", anyEdges],
  ] as const)(
    "D49 on %s graphs it finds a cycle exactly when there is one, and what it finds is one",
    (_, arbitrary) => {
      const id = fc.constantFrom(...nodes, "new");
      fc.assert(
        fc.property(arbitrary, id, someNodes(4), (others, node, dependencies) => {
          // The node gets new dependencies: those it had no longer count, as when a task is replaced.
          const edges = { ...others, [node]: dependencies };
          const cycle = cycleFound(graphOf(others), node, dependencies);
          expect(cycle !== null).toBe(isReachable(edges, node, dependencies));
          if (cycle !== null) expectCycle(cycle, edges, node);
        }),
        { numRuns: 1_000 },
      );
    },
  );

  it("D49 a long chain, from either end, costs no more than the chain", () => {
    const length = 20_000;
    const before = new Map(Array.from({ length }, (_, index) => [`${index + 1}`, [`${index}`]]));
    const after = new Map(Array.from({ length }, (_, index) => [`${index}`, [`${index + 1}`]]));
    let reads = 0;
    const read = (map: Map<string, string[]>) => (id: string) => {
      reads += 1;
      return map.get(id) ?? [];
    };
    const chain: Graph = { dependenciesOf: read(before), dependentsOf: read(after) };
    expect(cycleFound(chain, "new", [`${length}`])).toBeNull();
    expect(cycleFound(chain, "0", ["new"])).toBeNull();
    expect(reads).toBeLessThan(10);
    expect(cycleFound(chain, "0", [`${length}`])).toHaveLength(length + 2);
    expect(reads).toBeLessThan(3 * length);
  });
});

describe("the allowance of a search", () => {
  const chain = Object.fromEntries(Array.from({ length: 50 }, (_, index) => [`${index}`, [`${index + 1}`]]));
  const both = graphOf({ ...chain, x0: ["x"], x1: ["x0"], x2: ["x1"], x3: ["x2"] });

  it("D49 is used up by nodes and edges, and shared by the searches of a batch", () => {
    const allowance = { left: 100 };
    expect(findCycle(both, "x", ["0"], allowance)).toBeNull();
    const used = 100 - allowance.left;
    expect(used).toBeGreaterThan(3);
    expect(used).toBeLessThan(20);
    expect(findCycle(both, "x", ["0"], allowance)).toBeNull();
    expect(allowance.left).toBe(100 - 2 * used);
    expect(findCycle(both, "x", ["0"], { left: used + 1 })).toBeNull();
    expect(() => findCycle(both, "x", ["0"], { left: 1 })).toThrow(SearchExhausted);
  });
});

describe("an allowance that is used up", () => {
  it("D49 allows no search, and a task that waits for itself needs none", () => {
    expect(() => findCycle(graphOf({}), "x", ["a"], { left: 0 })).toThrow(SearchExhausted);
    expect(findCycle(graphOf({}), "x", ["a", "x"], { left: 0 })).toEqual(["x", "x"]);
  });

  const tooMany = Array.from({ length: MAX_SEARCHED_PER_BATCH + 1 }, (_, index) => `d${index}`);
  const refusal = {
    code: "LIMIT_EXCEEDED",
    limit_name: "tasks_searched_for_cycles",
    limit: MAX_SEARCHED_PER_BATCH,
    actual: MAX_SEARCHED_PER_BATCH + 1,
  };
  /** A task, one that it waits for, and more that wait for it than a search may look at. */
  const crowded = () => {
    const run = memoryRun({}, [aTask({ depends_on_task_ids: ["a", "b"] })]);
    vi.spyOn(run, "dependentsOf").mockReturnValue(tooMany);
    return run;
  };

  it("D49 refuses what cannot be told, as a limit", () => {
    const edges = { depends_on_task_ids: ["a", "b", "c", "d"] };
    expect(refused(batch(aRow({ id: "t", ...edges })), crowded())).toEqual({
      ...refusal,
      error: expect.any(String),
      row: 0,
    });
    const change: Command = { op: "change_dependencies", task_id: "t", add: ["c", "d"], remove: [] };
    expect(refused(change, crowded())).toMatchObject(refusal);
  });

  it("D49 a task that keeps its edges, or loses some, needs no search", () => {
    for (const depends_on_task_ids of [["b", "a"], ["a"], []]) {
      expect(accepted(batch(aRow({ id: "t", depends_on_task_ids })), crowded()).commits).toHaveLength(1);
    }
  });

  it("what else goes wrong in a search is no limit", () => {
    const run = memoryRun();
    const broken = () => {
      throw new Error("no storage");
    };
    vi.spyOn(run, "dependentsOf").mockImplementation(broken);
    expect(() => refused(batch(aRow({ depends_on_task_ids: ["a"] })), run)).toThrow("no storage");
  });
});

describe("the edges of a search", () => {
  it("D49 count against the allowance, so that a task with many dependents is not read again and again", () => {
    const dependents = Array.from({ length: 1_000 }, (_, index) => `d${index}`);
    const hub = graphOf({ ...Object.fromEntries(dependents.map((id) => [id, ["hub"]])), a: ["b"], b: ["c"] });
    const allowance = { left: 2_500 };
    expect(findCycle(hub, "hub", ["a"], allowance)).toBeNull();
    expect(allowance.left).toBeLessThan(1_500);
    expect(findCycle(hub, "hub", ["a"], allowance)).toBeNull();
    expect(() => {
      for (let turn = 0; turn < 3; turn += 1) findCycle(hub, "hub", ["a"], allowance);
    }).toThrow(SearchExhausted);
  });
});

describe("cycleAmong", () => {
  const isCyclic = (edges: Edges) =>
    Object.entries(edges).some(([node, dependencies]) => isReachable(edges, node, dependencies));
  const tasksOf = (edges: Edges) =>
    Object.entries(edges).map(([id, depends_on_task_ids]) => ({ id, depends_on_task_ids }));

  it("D49 finds none in acyclic graphs, unknown ids and doubles among them", () => {
    expect(cycleAmong([])).toBeNull();
    expect(cycleAmong(tasksOf({ a: ["b", "b", "never"], b: ["c"], c: [] }))).toBeNull();
    fc.assert(fc.property(acyclic, (edges) => cycleAmong(tasksOf(edges)) === null));
  });

  it("D49 finds a cycle exactly when there is one, and what it finds is one", () => {
    expect(cycleAmong(tasksOf({ a: ["a"] }))).toEqual(["a", "a"]);
    expect(cycleAmong(tasksOf({ a: ["never"], b: ["c"], c: ["b"] }))).toEqual(["b", "c", "b"]);
    fc.assert(
      fc.property(anyEdges, (edges) => {
        const cycle = cycleAmong(tasksOf(edges));
        expect(cycle !== null).toBe(isCyclic(edges));
        if (cycle !== null) expectCycle(cycle, edges, cycle[0] ?? "");
      }),
      { numRuns: 1_000 },
    );
  });
});

describe("cycles in a batch", () => {
  it("D49 row by row: it is refused at the first that closes one with the board and the rows before it", () => {
    const few = nodes.slice(0, 5);
    const row = fc.tuple(
      fc.constantFrom(...few),
      fc.array(fc.constantFrom(...few), { minLength: 1, maxLength: 3 }),
    );
    const rows = fc.array(row, { minLength: 2, maxLength: 8 });
    fc.assert(
      fc.property(acyclic, rows, (board, wishes) => {
        const edges = Object.fromEntries(Object.entries(board).filter(([id]) => few.includes(id)));
        const run = memoryRun(
          {},
          Object.entries(edges).map(([id, depends_on_task_ids]) => aTask({ id, depends_on_task_ids })),
        );
        const first = wishes.findIndex(([id, dependencies]) => {
          edges[id] = dependencies;
          return isReachable(edges, id, dependencies);
        });
        const command = batch(
          ...wishes.map(([id, depends_on_task_ids]) => aRow({ id, depends_on_task_ids })),
        );
        if (first === -1) {
          expect(accepted(command, run).commits).toHaveLength(wishes.length);
          return;
        }
        const refusal = refused(command, run);
        if (refusal.code !== "TASK_DEPENDENCY_CYCLE") throw new Error(refusal.code);
        expect(refusal.row).toBe(first);
        expectCycle(refusal.cycle, edges, wishes[first]?.[0] ?? "");
      }),
      { numRuns: 1_000 },
    );
  });

  /** Ids that no task has: with them the search upwards is not over before the one downwards. */
  const FAR = ["z1", "z2", "z3", "z4"];
  /** Rows of a batch, each an id with what it waits for, and the cycle that the last one closes. */
  const inTurn: [string, [string, ...string[]][], string[] | null][] = [
    ["a row that lost its edges", [["x", "y"], ["x"], ["y", ...FAR, "x"]], null],
    ["another row beside it", [["x", "y"], ["w", "y"], ["x"], ["y", ...FAR, "w"]], ["y", "w", "y"]],
    [
      "the first of two that wait for one",
      [
        ["x", "y"],
        ["w", "y"],
        ["y", ...FAR, "x"],
      ],
      ["y", "x", "y"],
    ],
    [
      "the second of two that wait for one",
      [
        ["x", "y"],
        ["w", "y"],
        ["y", ...FAR, "w"],
      ],
      ["y", "w", "y"],
    ],
    ["one of the board that is replaced", [["b"], ["y", ...FAR, "b"]], null],
    [
      "one that keeps an edge, and gets another",
      [
        ["b", "y"],
        ["b", "y", "a"],
        ["a", ...FAR, "b"],
      ],
      ["a", "b", "a"],
    ],
  ];
  it.each(inTurn)("D49 the edges of %s", (_, rows, cycle) => {
    const run = memoryRun({}, [aTask({ id: "b", depends_on_task_ids: ["y"] })]);
    const command = batch(...rows.map(([id, ...depends_on_task_ids]) => aRow({ id, depends_on_task_ids })));
    if (cycle === null) expect(accepted(command, run).commits).toHaveLength(rows.length);
    else expect(refused(command, run)).toMatchObject({ cycle, row: rows.length - 1 });
  });

  it("D49 against the board: the refusal shows the way round, and nothing is committed", () => {
    const run = memoryRun({}, [aTask({ id: "a", depends_on_task_ids: ["b"] })]);
    expect(refused(batch(aRow({ id: "b", depends_on_task_ids: ["a"] })), run)).toEqual({
      code: "TASK_DEPENDENCY_CYCLE",
      error: "task dependencies form a cycle",
      task_id: "b",
      cycle: ["b", "a", "b"],
      row: 0,
    });
  });

  it("D49 between rows of the batch, and across batch and board", () => {
    const rows = [
      aRow({ id: "a", depends_on_task_ids: ["b"] }),
      aRow({ id: "b", depends_on_task_ids: ["c"] }),
      aRow({ id: "c", depends_on_task_ids: ["a"] }),
    ];
    const refusal = { code: "TASK_DEPENDENCY_CYCLE", task_id: "c", cycle: ["c", "a", "b", "c"] };
    expect(refused(batch(...rows), memoryRun())).toMatchObject(refusal);
    const run = memoryRun();
    committed(batch(...rows.slice(0, 1)), run);
    expect(refused(batch(...rows.slice(1)), run)).toMatchObject(refusal);
  });

  it("D49 forward references are allowed, on the board and in the batch", () => {
    const rows = [
      aRow({ id: "a", depends_on_task_ids: ["b", "never"] }),
      aRow({ id: "b", depends_on_task_ids: ["c"] }),
      aRow({ id: "c" }),
    ];
    expect(committed(batch(...rows), memoryRun())).toHaveLength(3);
  });

  it("D49 a replaced task's old dependencies do not count", () => {
    const board = () =>
      memoryRun({}, [
        aTask({ id: "a", depends_on_task_ids: ["b"] }),
        aTask({ id: "c", depends_on_task_ids: ["a"] }),
      ]);
    const freed = aRow({ id: "a" });
    expect(committed(batch(freed, aRow({ id: "b", depends_on_task_ids: ["c"] })), board())).toHaveLength(2);
    const replacedInBatch = [
      aRow({ id: "x", depends_on_task_ids: ["y"] }),
      aRow({ id: "x" }),
      aRow({ id: "y", depends_on_task_ids: ["x"] }),
    ];
    expect(committed(batch(...replacedInBatch), memoryRun())).toHaveLength(3);
    const onItself = aRow({ id: "a", depends_on_task_ids: ["c"] });
    expect(refused(batch(onItself), board())).toMatchObject({ cycle: ["a", "c", "a"] });
  });
});
