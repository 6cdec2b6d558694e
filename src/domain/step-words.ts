import { asciiLowerCase } from "../protocol/ascii.ts";
import type { WorkStatus } from "../protocol/status.ts";

const EVENT_WORDS: Readonly<Record<string, WorkStatus>> = {
  pending: "pending",
  runnable: "runnable",
  in_progress: "in_progress",
  "in-progress": "in_progress",
  working: "in_progress",
  active: "in_progress",
  blocked: "blocked",
  done: "done",
  completed: "done",
  complete: "done",
  failed: "failed",
  error: "failed",
};

/** Todo lists know two words more; for them anything unknown is pending (contract 03 §5.1). */
const TODO_WORDS: Readonly<Record<string, WorkStatus>> = {
  ...EVENT_WORDS,
  doing: "in_progress",
  ready: "runnable",
};

function lookUp(words: Readonly<Record<string, WorkStatus>>, word: string): WorkStatus | null {
  const key = asciiLowerCase(word.trim());
  return Object.hasOwn(words, key) ? (words[key] ?? null) : null;
}

/** The step status that a word in an event's payload means, or null (contract 03 §1.2). */
export function stepStatusOfEventWord(word: string): WorkStatus | null {
  return lookUp(EVENT_WORDS, word);
}

/** The step status that a todo's word means; `pending` when absent or unknown (contract 03 §5.1). */
export function stepStatusOfTodoWord(word: string | null | undefined): WorkStatus {
  return (word == null ? null : lookUp(TODO_WORDS, word)) ?? "pending";
}
