import { describe, expect, it } from "vitest";
import { PRESETS } from "../../../src/hooks/mapping/presets.ts";
import { readMapping } from "../../../src/hooks/mapping/read.ts";
import { MAX_CONDITION_DEPTH, MAX_CONDITION_NODES } from "../../../src/protocol/mapping-condition.ts";

/** What is wrong with a mapping, as `field: rule`. */
function faults(value: unknown): string[] {
  const read = readMapping(value);
  return read.ok ? [] : read.issues.map(({ field, rule }) => `${field}: ${rule}`);
}

const run = { objective: "look at it" };
const task = { task_type: "t" };
const nested = (depth: number): unknown => (depth === 1 ? { event: "x" } : { not: nested(depth - 1) });
const deepJson = (depth: number): unknown => (depth === 0 ? "x" : [deepJson(depth - 1)]);

describe("a mapping is taken", () => {
  const good: [what: string, value: unknown][] = [
    ["with nothing but an objective", { run }],
    [
      "with every field",
      {
        when: {
          and: [
            { event: ["a", "b*"] },
            {
              or: [
                { path: "a", eq: null },
                { path: "b[0]", in: [1, "x", true] },
              ],
            },
          ],
        },
        run_key: "k/{{ a }}",
        on_existing: "wake_task",
        run: {
          objective: "do {{ a }}",
          run_type: "x",
          source_client: "y",
          workspace: { workspace_id: "w", canonical_path: "/srv", lease_epoch: 0 },
          model_provider: "p",
          model_id: "m",
          mcp_servers: ["s"],
        },
        event: { type: "came", status: "running", step_id: "s", input: { a: ["{{ a }}"] } },
        tasks: [
          {
            task_type: "t",
            id: "t-{{ $index }}",
            for_each: { in: "commits", take: 200 },
            payload: { title: "x", output_target: { path: "out.md" } },
            input: "{{ $item }}",
            status: "blocked",
            workflow_id: "w",
            depends_on_task_ids: ["t-{{ $item.parent }}"],
            priority: -1,
            max_attempts: 2,
          },
        ],
        wake_task_id: "reply-{{ a }}",
      },
    ],
    ["by a preset's name", "github_issue_opened"],
    ["with a filter as deep as allowed", { run, when: nested(MAX_CONDITION_DEPTH) }],
    [
      "with as many conditions as allowed",
      {
        run,
        when: { or: Array.from({ length: MAX_CONDITION_NODES - 1 }, () => ({ event: "x" })) },
      },
    ],
  ];
  it.each(good)("%s", (_what, value) => {
    expect(faults(value)).toEqual([]);
  });

  it.each(Object.entries(PRESETS))("preset %s, as it is sent", (_name, { mapping }) => {
    expect(faults(JSON.parse(JSON.stringify(mapping)))).toEqual([]);
  });
});

describe("a mapping is refused, with the place and the rule", () => {
  const bad: [value: unknown, ...faults: string[]][] = [
    [null, "mapping: object"],
    [[], "mapping: object"],
    ["no_such_preset", "mapping: one_of"],
    [{}, "mapping.run: required"],
    [{ run: {} }, "mapping.run.objective: required"],
    [{ run, extra: 1 }, "mapping.extra: unknown_field"],
    [{ run: { objective: "{{ a }}" } }, "mapping.run.objective: literal_start"],
    [{ run: { objective: "  {{ a }} x" } }, "mapping.run.objective: literal_start"],
    [{ run: { objective: "" } }, "mapping.run.objective: literal_start"],
    [{ run: { objective: "x {{" } }, "mapping.run.objective: template"],
    [{ run: { objective: "x {{ }}" } }, "mapping.run.objective: template"],
    [{ run: { objective: "x {{ a" } }, "mapping.run.objective: template"],
    [{ run: { objective: "x {{ a. }}" } }, "mapping.run.objective: template"],
    [{ run: { objective: "x {{ a[-1] }}" } }, "mapping.run.objective: template"],
    [{ run: { objective: "x {{ a | }}" } }, "mapping.run.objective: template"],
    [{ run: { objective: "x {{ a | eval }}" } }, "mapping.run.objective: template"],
    [{ run: { objective: "x {{ a | truncate }}" } }, "mapping.run.objective: template"],
    [{ run: { objective: "x {{ a | truncate(0) }}" } }, "mapping.run.objective: template"],
    [{ run: { objective: "x {{ a | truncate(99999) }}" } }, "mapping.run.objective: template"],
    [{ run: { objective: "x {{ a | default }}" } }, "mapping.run.objective: template"],
    [{ run: { objective: 'x {{ a | default("y }}' } }, "mapping.run.objective: template"],
    [{ run: { objective: "x {{ a | lower(1) }}" } }, "mapping.run.objective: template"],
    [{ run: { objective: "x {{ $env.SECRET }}" } }, "mapping.run.objective: template"],
    [{ run: { objective: `x {{ a${" | lower".repeat(9)} }}` } }, "mapping.run.objective: template"],
    [{ run: { objective: `x {{ a${".b".repeat(32)} }}` } }, "mapping.run.objective: template"],
    [{ run: { objective: `x {{ ${"a".repeat(600)} }}` } }, "mapping.run.objective: template"],
    [{ run: { objective: "x".repeat(5_000) } }, "mapping.run.objective: too_big"],
    [{ run: { objective: "x {{ $item }}" } }, "mapping.run.objective: template"],
    [{ run: { ...run, run_type: "{{ a }}" } }, "mapping.run.run_type: literal"],
    [{ run: { ...run, source_client: "{{ a }}" } }, "mapping.run.source_client: literal"],
    [
      { run: { ...run, workspace: { workspace_id: "", canonical_path: "/{{ a }}", lease_epoch: 0 } } },
      "mapping.run.workspace.canonical_path: literal",
    ],
    [{ run, event: { type: "{{ a }}" } }, "mapping.event.type: literal"],
    [{ run, event: { status: "done" } }, "mapping.event.status: one_of"],
    [{ run, event: { input: ["{{ $item }}"] } }, "mapping.event.input[0]: template"],
    [{ run, event: { input: { a: "{{ b | default($index) }}" } } }, "mapping.event.input.a: template"],
    [{ run, event: { input: deepJson(40) } }, "mapping.event.input: max_depth"],
    [{ run, tasks: [{ task_type: "{{ a }}" }] }, "mapping.tasks[0].task_type: literal"],
    [{ run, tasks: [{ ...task, input: { x: ["{{ a "] } }] }, "mapping.tasks[0].input.x[0]: template"],
    [{ run, tasks: [{ ...task, input: "{{ $item }}" }] }, "mapping.tasks[0].input: template"],
    [{ run, tasks: [{ ...task, payload: { do: "run {{ a }}" } }] }, "mapping.tasks[0].payload.do: literal"],
    [{ run, tasks: [{ ...task, payload: { input: 1 } }] }, "mapping.tasks[0].payload.input: reserved"],
    [{ run, tasks: [{ ...task, payload: { trust: "me" } }] }, "mapping.tasks[0].payload.trust: reserved"],
    [{ run, tasks: [{ ...task, payload: { a: deepJson(40) } }] }, "mapping.tasks[0].payload: max_depth"],
    [{ run, tasks: [{ ...task, status: "done" }] }, "mapping.tasks[0].status: one_of"],
    [{ run, tasks: [{ ...task, for_each: { in: "a b" } }] }, "mapping.tasks[0].for_each.in: path"],
    [{ run, tasks: [{ ...task, for_each: { in: "$item.a" } }] }, "mapping.tasks[0].for_each.in: path"],
    [
      { run, tasks: [{ ...task, for_each: { in: "a", take: 201 } }] },
      "mapping.tasks[0].for_each.take: too_big",
    ],
    [{ run, tasks: [1, 2].map(() => ({ ...task, for_each: { in: "a" } })) }, "mapping.tasks: one_for_each"],
    [{ run, tasks: Array.from({ length: 51 }, () => task) }, "mapping.tasks: too_big"],
    [{ run, on_existing: "replace" }, "mapping.on_existing: one_of"],
    [{ run, on_existing: "wake_task" }, "mapping.wake_task_id: required"],
    [{ run, tasks: [{ ...task, payload: { a: "x".repeat(70_000) } }] }, "mapping: max_length"],
    [{ run, when: 1 }, "mapping.when: object"],
    [{ run, when: {} }, "mapping.when: one_operator"],
    [{ run, when: { path: "a" } }, "mapping.when: one_operator"],
    [{ run, when: { path: "a", eq: 1, in: [1] } }, "mapping.when: one_operator"],
    [{ run, when: { eq: 1 } }, "mapping.when.path: required"],
    [{ run, when: { path: "a..b", eq: 1 } }, "mapping.when.path: path"],
    [{ run, when: { path: "$item", eq: 1 } }, "mapping.when.path: path"],
    [{ run, when: { path: "a", eq: {} } }, "mapping.when.eq: scalar"],
    [{ run, when: { path: "a", in: [] } }, "mapping.when.in: scalars"],
    [{ run, when: { path: "a", in: [[1]] } }, "mapping.when.in: scalars"],
    [{ run, when: { path: "a", matches: "" } }, "mapping.when.matches: glob"],
    [{ run, when: { path: "a", matches: "*".repeat(201) } }, "mapping.when.matches: glob"],
    [{ run, when: { path: "a", exists: "yes" } }, "mapping.when.exists: boolean"],
    [{ run, when: { event: 1 } }, "mapping.when.event: glob"],
    [{ run, when: { event: "a", path: "b" } }, "mapping.when.path: unknown_field"],
    [{ run, when: { and: [] } }, "mapping.when.and: non_empty"],
    [{ run, when: { or: {} } }, "mapping.when.or: non_empty"],
    [{ run, when: { and: [{ not: { event: 1 } }] } }, "mapping.when.and[0].not.event: glob"],
    [
      { run, when: nested(MAX_CONDITION_DEPTH + 1) },
      `mapping.when${".not".repeat(MAX_CONDITION_DEPTH)}: max_depth`,
    ],
    [
      { run, when: { or: Array.from({ length: MAX_CONDITION_NODES }, () => ({ event: "x" })) } },
      "mapping.when: max_nodes",
    ],
  ];
  it.each(bad.map(([value, ...expected]) => ({ value, expected })))("$expected", ({ value, expected }) => {
    expect(faults(value)).toEqual(expected);
  });
});
