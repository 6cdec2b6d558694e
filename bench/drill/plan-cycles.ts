import type { PlanLine, Report } from "./plan.ts";

/**
 * Drops the edge that closes each cycle: the engine refuses cycles, and a plan with one could never finish. A depth-first
 * walk in file order finds them; without its back edges a graph has no cycle. Iterative, because plans may be deep.
 */
export function openCycles(
  lines: readonly PlanLine[],
  dependencies: Map<string, string[]>,
  report: Report,
): void {
  const lineOf = new Map(lines.map((line) => [line.id, line.line]));
  const finished = new Set<string>();
  for (const { id: start } of lines) {
    if (finished.has(start)) continue;
    const path = [start];
    const onPath = new Map([[start, 0]]);
    const nextEdge = [0];
    while (path.length > 0) {
      const depth = path.length - 1;
      const id = path[depth] ?? "";
      const edges = dependencies.get(id) ?? [];
      const edge = nextEdge[depth] ?? 0;
      const target = edges[edge];
      if (target === undefined) {
        finished.add(id);
        onPath.delete(id);
        path.pop();
        nextEdge.pop();
        continue;
      }
      const loopsTo = onPath.get(target);
      if (loopsTo !== undefined) {
        const cycle = [...path.slice(loopsTo), target].join(" → ");
        report(
          "dependency_cycle",
          lineOf.get(id) ?? 0,
          id,
          `${cycle} is a cycle; ${id} → ${target} is left out`,
        );
        edges.splice(edge, 1);
        continue;
      }
      nextEdge[depth] = edge + 1;
      if (!finished.has(target)) {
        onPath.set(target, path.length);
        path.push(target);
        nextEdge.push(0);
      }
    }
  }
}
