import type { RunHeader, Step } from "../protocol/run.ts";
import type { RunStatus } from "../protocol/status.ts";
import { isTerminal } from "./run.ts";
import { stepStatusOfTodoWord } from "./step-words.ts";

/** One todo as a client sends it. */
export interface Todo {
  id?: string | null | undefined;
  content: string;
  status?: string | null | undefined;
}

/** The steps of a run after a todo list was merged in (contract 03 §5.1, §5.2). */
export function mergeTodos(steps: Step[], todos: Todo[], replace: boolean): Step[] {
  const mapped = todos
    .map(
      (todo, index): Step => ({
        step_id: todo.id?.trim() || `todo-${index + 1}`,
        title: todo.content.trim(),
        status: stepStatusOfTodoWord(todo.status),
      }),
    )
    .filter((step) => step.title !== "");
  if (replace) return mapped;

  const merged = [...steps];
  const positions = new Map<string, number>();
  merged.forEach((step, index) => {
    if (!positions.has(step.step_id)) positions.set(step.step_id, index);
  });
  for (const step of mapped) {
    const index = positions.get(step.step_id);
    if (index === undefined) positions.set(step.step_id, merged.push(step) - 1);
    else merged[index] = step;
  }
  return merged;
}

/** The run's status after a todo list was synced; first match wins (contract 03 §5.3). */
export function statusAfterTodos(run: RunHeader, steps: Step[]): RunStatus {
  if (isTerminal(run.status) || steps.length === 0) return run.status;
  if (steps.some((step) => step.status === "in_progress")) return "running";
  return steps.every((step) => step.status === "done") ? "completed" : "planning";
}

/** Contract 03 §5.4. */
export function whyAfterTodos(steps: Step[]): string | null {
  const next = steps.find(
    (step) => step.status === "in_progress" || step.status === "runnable" || step.status === "pending",
  );
  return next === undefined ? null : `continue task \`${next.step_id}\` from synced todo list`;
}
