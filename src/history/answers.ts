import { type Diff, momentOf } from "../domain/diff.ts";
import { digestOf, type StateAt } from "./state-at.ts";

/** A run as it was at a seq, as JSON text in pieces. */
export function* stateText(at: StateAt): Generator<string> {
  const { run, blackboard, files } = momentOf(at.state);
  const { tasks, ...header } = run;
  yield `{"run":${JSON.stringify(header).slice(0, -1)},"tasks":`;
  yield* listText(tasks);
  yield `},"blackboard":${JSON.stringify(blackboard)},"files":`;
  yield* listText(files);
  const place = {
    at_seq: at.seq,
    checkpoint_seq: at.checkpointSeq,
    commits_applied: at.commitsApplied,
    state_sha256: digestOf(at),
  };
  yield `,${JSON.stringify(place).slice(1)}`;
}

/** A place in the log, with the digest of the state there. */
export interface Place {
  seq: number;
  state_sha256: string;
}

/** What changed from one place to another, as JSON text in pieces. */
export function* diffText(from: Place, to: Place, diff: Diff): Generator<string> {
  yield `{"from":${JSON.stringify(from)},"to":${JSON.stringify(to)},"diff":{`;
  let separator = "";
  for (const [name, value] of Object.entries(diff)) {
    yield `${separator}"${name}":`;
    separator = ",";
    if (name !== "tasks") {
      yield JSON.stringify(value);
      continue;
    }
    const { added, removed, changed, order } = diff.tasks;
    yield '{"added":';
    yield* listText(added);
    yield `,"removed":${JSON.stringify(removed)},"changed":`;
    yield* listText(changed);
    yield `,"order":${JSON.stringify(order)}}`;
  }
  yield "}}";
}

function* listText(values: readonly unknown[]): Generator<string> {
  let separator = "[";
  for (const value of values) {
    yield separator + JSON.stringify(value);
    separator = ",";
  }
  yield separator === "[" ? "[]" : "]";
}
