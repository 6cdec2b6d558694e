import { describe, expect, it } from "vitest";
import { planOf } from "../../../src/hooks/mapping/plan.ts";
import type { MappingCondition } from "../../../src/protocol/mapping-condition.ts";
import { failure, input, mapping, planned } from "./support.ts";

const BODY = {
  action: "opened",
  n: 1,
  zero: 0,
  nil: null,
  list: ["a", { b: "c" }],
  repository: { full_name: "octo/hello-world" },
};

/** Whether a delivery of the event `issues` with that body fulfils a condition. */
function takes(when: MappingCondition, body: unknown = BODY, event: string | null = "issues"): boolean {
  return planOf(mapping({ when }), input(body, { event })).verdict === "plan";
}

describe("filters", () => {
  const cases: [when: MappingCondition, taken: boolean][] = [
    [{ event: "issues" }, true],
    [{ event: "issue" }, false],
    [{ event: "iss*" }, true],
    [{ event: ["push", "i?sues"] }, true],
    [{ event: "*" }, true],
    [{ path: "action", eq: "opened" }, true],
    [{ path: "action", eq: "Opened" }, false],
    [{ path: "n", eq: 1 }, true],
    [{ path: "n", eq: "1" }, false],
    [{ path: "nil", eq: null }, true],
    [{ path: "gone", eq: null }, false],
    [{ path: "zero", eq: false }, false],
    [{ path: "action", in: ["closed", "opened"] }, true],
    [{ path: "n", in: [2, "1"] }, false],
    [{ path: "gone", in: [null] }, false],
    [{ path: "repository.full_name", matches: "octo/*" }, true],
    [{ path: "repository.full_name", matches: "*hello*" }, true],
    [{ path: "repository.full_name", matches: "octo/?ello-worl?" }, true],
    [{ path: "repository.full_name", matches: "octo" }, false],
    [{ path: "n", matches: "*" }, false],
    [{ path: "gone", matches: "*" }, false],
    [{ path: "list[1].b", exists: true }, true],
    [{ path: "nil", exists: true }, true],
    [{ path: "list[2]", exists: false }, true],
    [{ path: "constructor", exists: true }, false],
    [{ path: "$headers.x-github-event", eq: "issues" }, true],
    [{ not: { path: "n", eq: 1 } }, false],
    [{ and: [{ event: "issues" }, { path: "n", eq: 1 }] }, true],
    [{ and: [{ event: "issues" }, { path: "n", eq: 2 }] }, false],
    [{ or: [{ event: "push" }, { path: "n", eq: 1 }] }, true],
    [{ or: [{ event: "push" }, { path: "n", eq: 2 }] }, false],
  ];
  it.each(cases)("%j: %s", (when, taken) => {
    expect(takes(when)).toBe(taken);
  });

  it("a delivery without an event is of none", () => {
    expect(takes({ event: "*" }, BODY, null)).toBe(false);
    expect(takes({ path: "$event", exists: false }, BODY, null)).toBe(true);
  });

  it("tell what became of each part, outer before inner, taken or not", () => {
    const when: MappingCondition = {
      and: [{ event: "issues" }, { or: [{ path: "n", eq: 2 }, { not: { path: "action", eq: "closed" } }] }],
    };
    const conditions = [
      { condition: "when", matched: true },
      { condition: "when.and[0]", matched: true },
      { condition: "when.and[1]", matched: true },
      { condition: "when.and[1].or[0]", matched: false },
      { condition: "when.and[1].or[1]", matched: true },
      { condition: "when.and[1].or[1].not", matched: false },
    ];
    expect(planOf(mapping({ when }), input(BODY)).conditions).toEqual(conditions);
    expect(planOf(mapping({ when: { not: when } }), input(BODY))).toMatchObject({
      verdict: "skip",
      reason: "the filter does not take it",
      conditions: [
        { condition: "when", matched: false },
        { condition: "when.not", matched: true },
        {},
        {},
        {},
        {},
        {},
      ],
    });
  });
});

describe("plans", () => {
  it("have what routes fill in by themselves, and what the mapping leaves out", () => {
    const plan = planned(mapping({ tasks: [{ task_type: "t" }] }), {});
    expect(plan).toMatchObject({
      run_key: null,
      on_existing: "append_event",
      run: { objective: "look at it", run_type: "webhook" },
      event: { type: "webhook_received" },
      wake_task_id: null,
    });
    expect(plan.event).not.toHaveProperty("status");
    expect(plan.tasks).toMatchObject([{ task_type: "t", depends_on_task_ids: [] }]);
  });

  it("of tasks with the same id the first is made, and the plan shows no other", () => {
    const task = { task_type: "t", id: "t-{{ $item | slug }}", for_each: { in: "a" }, input: "{{ $item }}" };
    const { tasks } = planned(mapping({ tasks: [task] }), { a: ["b c", "B-C", "d"] });
    expect(tasks.map(({ id, payload }) => [id, (payload as { input: unknown }).input])).toEqual([
      ["t-b-c", "b c"],
      ["t-d", "d"],
    ]);
  });

  it("for_each makes one task of each element, in order", () => {
    const body = { commits: [{ id: "c1" }, { id: "c2", after: "c1" }, { id: "c3", after: "c2" }] };
    const { tasks } = planned(
      mapping({
        tasks: [
          { task_type: "all", id: "all" },
          {
            task_type: "review",
            id: "review-{{ $item.id }}",
            for_each: { in: "commits", take: 2 },
            input: { index: "{{ $index }}", id: "{{ $item.id }}" },
            depends_on_task_ids: ['{{ $item.after | default("all") }}'],
          },
        ],
      }),
      body,
    );
    expect(tasks.map(({ id, depends_on_task_ids }) => [id, ...depends_on_task_ids])).toEqual([
      ["all"],
      ["review-c1", "all"],
      ["review-c2", "c1"],
    ]);
    expect(tasks[2]?.payload).toMatchObject({ input: { index: 1, id: "c2" } });
  });

  it.each([[{}], [{ commits: null }], [{ commits: [] }]])("for_each over %j makes none", (body) => {
    const tasks = [{ task_type: "t", for_each: { in: "commits" } }];
    expect(planned(mapping({ tasks }), body).tasks).toEqual([]);
  });
});

describe("what does not fit is told by field and rule", () => {
  const long = "x".repeat(20_000);
  const many = Array.from({ length: 201 }, (_, id) => ({ id }));
  const cases: [what: string, Parameters<typeof mapping>[0], body: unknown, ...unknown[]][] = [
    ["a key without a value", { run_key: "k/{{ gone }}" }, {}, "MAPPING_INVALID", "run_key: missing"],
    ["a key of null", { run_key: "k/{{ a.b }}" }, { a: { b: null } }, "MAPPING_INVALID", "run_key: missing"],
    ["a key of an empty text", { run_key: "k/{{ a }}" }, { a: "" }, "MAPPING_INVALID", "run_key: missing"],
    [
      "a key of no letters",
      { run_key: "k/{{ a | slug }}" },
      { a: "你" },
      "MAPPING_INVALID",
      "run_key: missing",
    ],
    [
      "a key whose default is not there either",
      { run_key: "k/{{ a | default(b) }}" },
      { b: null },
      "MAPPING_INVALID",
      "run_key: missing",
    ],
    ["an empty text that is meant", { run_key: 'k/{{ a | default("") }}' }, { a: null }, "plan"],
    [
      "a number that is read like others",
      { run_key: "k/{{ a }}" },
      JSON.parse('{"a":12345678901234567891}'),
      "MAPPING_INVALID",
      "run_key: unsafe_integer",
    ],
    ["a blank key", { run_key: "{{ e }}" }, { e: " " }, "MAPPING_INVALID", "run_key: non_blank"],
    [
      "an id with other characters",
      { tasks: [{ task_type: "t", id: "{{ a }}" }] },
      { a: "x/y" },
      "MAPPING_INVALID",
      "tasks[0].id: id",
    ],
    [
      "an id too long",
      { tasks: [{ task_type: "t", id: "{{ a }}" }] },
      { a: "x".repeat(201) },
      "MAPPING_INVALID",
      "tasks[0].id: max_length",
    ],
    [
      "a dependency without a value",
      { tasks: [{ task_type: "t", depends_on_task_ids: ["{{ a }}"] }] },
      {},
      "MAPPING_INVALID",
      "tasks[0].depends_on_task_ids[0]: missing",
    ],
    [
      "a wake without a value",
      { on_existing: "wake_task", wake_task_id: "t-{{ a }}" },
      {},
      "MAPPING_INVALID",
      "wake_task_id: missing",
    ],
    [
      "for_each over no array",
      { tasks: [{ task_type: "t", for_each: { in: "a" } }] },
      { a: "text" },
      "MAPPING_INVALID",
      "tasks[0].for_each.in: array",
    ],
    [
      "an implementation without its target",
      { tasks: [{ task_type: "implementation" }] },
      {},
      "MAPPING_INVALID",
      "tasks[0].payload: task_output_target_required",
    ],
    ["a text too long", { event: { input: "{{ a }}" } }, { a: long }, "MAPPING_LIMIT", "output_bytes"],
    [
      "a text too long in bytes only",
      { event: { input: "{{ a }}" } },
      { a: "€".repeat(6_000) },
      "MAPPING_LIMIT",
      "output_bytes",
    ],
    [
      "an objective too long",
      { run: { objective: "x {{ a }}" } },
      { a: long },
      "MAPPING_LIMIT",
      "output_bytes",
    ],
    ["a value too long", { event: { input: "{{ $body }}" } }, { a: [long] }, "MAPPING_LIMIT", "output_bytes"],
    [
      "too many values",
      { event: { input: "{{ a }}" } },
      { a: Array(20_000).fill(0) },
      "MAPPING_LIMIT",
      "output_bytes",
    ],
    [
      "too many members",
      { event: { input: "{{ $body }}" } },
      Object.fromEntries(Array.from({ length: 20_000 }, (_, n) => [n, 0])),
      "MAPPING_LIMIT",
      "output_bytes",
    ],
    [
      "a value too deep",
      { event: { input: "{{ a }}" } },
      { a: JSON.parse("[".repeat(50_000) + "]".repeat(50_000)) },
      "MAPPING_LIMIT",
      "value_depth",
    ],
    [
      "a text of a value too deep",
      { event: { input: "-{{ a }}" } },
      { a: JSON.parse("[".repeat(50_000) + "]".repeat(50_000)) },
      "MAPPING_LIMIT",
      "value_depth",
    ],
    [
      "too many elements",
      { tasks: [{ task_type: "t", for_each: { in: "a" } }] },
      { a: many },
      "MAPPING_LIMIT",
      "for_each_items",
    ],
    [
      "too much in all",
      { event: { input: Array(20).fill("{{ a | truncate(16000) }}") } },
      { a: long },
      "MAPPING_LIMIT",
      "mapped_bytes",
    ],
    [
      "too much by one text",
      { event: { input: "{{ a | truncate(16000) }}".repeat(20) } },
      { a: long },
      "MAPPING_LIMIT",
      "mapped_bytes",
    ],
    [
      "too much that is literal, over and over",
      { tasks: [{ task_type: "t", for_each: { in: "a", take: 200 }, payload: { text: "x".repeat(3_000) } }] },
      { a: many },
      "MAPPING_LIMIT",
      "mapped_bytes",
    ],
    [
      "too many steps",
      { when: { or: Array(60).fill({ path: "a", matches: "*a*a*a*a*b" }) } },
      { a: "a".repeat(30_000) },
      "MAPPING_LIMIT",
      "mapping_steps",
    ],
  ];
  it.each(cases)("%s", (_what, fields, body, ...expected) => {
    expect(failure(planOf(mapping(fields), input(body)))).toEqual(expected);
  });

  // Uncounted, these took up to 8 ms an output: more than half a minute for one delivery.
  it("what filters work on counts, however little is left of it", () => {
    const body = {
      text: "\uFDFA".repeat(16_000),
      wide: Object.fromEntries(Array.from({ length: 200_000 }, (_, n) => [`k${n}`, n])),
    };
    for (const output of [
      "{{ text | slug | truncate(1) }}",
      "{{ text | upper | truncate(1) }}",
      "{{ text | json | truncate(1) }}",
      "{{ wide | json | truncate(1) }}",
    ]) {
      const asked = mapping({ event: { input: Array(1_500).fill(output) } });
      expect(failure(planOf(asked, input(body))), output).toEqual(["MAPPING_LIMIT", "mapping_steps"]);
    }
  });

  it("issues are told up to twenty: they are kept in the delivery's row", () => {
    const task = { task_type: "t", for_each: { in: "a" }, depends_on_task_ids: Array(20).fill("{{ gone }}") };
    const came = planOf(mapping({ tasks: [task] }), input({ a: many.slice(0, 200) }));
    expect(came).toMatchObject({ verdict: "error", issues: { length: 20 } });
  });

  it("a limit is told with its value", () => {
    expect(planOf(mapping({ event: { input: "{{ a }}" } }), input({ a: long }))).toMatchObject({
      error: { error: "output_bytes is limited to 16384", limit_name: "output_bytes", limit: 16_384 },
    });
  });
});
