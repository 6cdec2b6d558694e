import { describe, expect, it } from "vitest";
import { type Audit, NO_AUDIT } from "../../src/domain/audit.ts";
import { type Drift, driftBetween, NOT_COMPARED, type Sides } from "../../src/domain/drift.ts";
import { isDeeperThan } from "../../src/domain/json-depth.ts";
import { isSameJson } from "../../src/domain/json-same.ts";
import { jsonTooLarge } from "../../src/domain/json-size.ts";
import { earliestWakeup, type Wakeups } from "../../src/domain/wakeups.ts";
import { aRow, aTask, batch, committed, memoryRun, stepsOf } from "../support/builders.ts";

/** A run with a bit of everything, as one side of a comparison. Equal at every call. */
function sides(): Sides {
  const run = memoryRun({ steps: stepsOf({ a: "pending", b: "done" }), why_next_step: "because" }, [
    aTask({ payload: { z: 1, a: [1, { y: null, b: 2 }] } }),
  ]);
  committed(batch(aRow({ id: "u", workflow_id: "w" })), run);
  const fact = { id: "f", ts_ms: 1, text: "fact" };
  committed({ op: "patch_blackboard", patch_op: "add_fact", payload: fact }, run);
  return { run: run.run(), blackboard: run.blackboard(), state_sha256: null, audit: null };
}

const NONE: Drift = { ...NOT_COMPARED, compared: true };

/** Each damage to the stored side, and the flags it raises beside `mismatch` and `content_mismatch`. */
const DAMAGES: [string, (stored: Sides) => void, (keyof Drift)[]][] = [
  [
    "the run's status",
    ({ run }) => {
      run.status = "failed";
    },
    ["status_mismatch"],
  ],
  [
    "the reason",
    ({ run }) => {
      run.why_next_step = "other";
    },
    ["why_next_step_mismatch"],
  ],
  [
    "the reason, lost",
    ({ run }) => {
      run.why_next_step = null;
    },
    ["why_next_step_mismatch"],
  ],
  [
    "a step, lost",
    ({ run }) => {
      run.steps.pop();
    },
    ["step_count_mismatch"],
  ],
  [
    "all steps, lost",
    ({ run }) => {
      run.steps = [];
    },
    ["step_count_mismatch"],
  ],
  [
    "the revision",
    ({ run }) => {
      run.revision += 1;
    },
    ["revision_mismatch"],
  ],
  [
    "the board's revision",
    ({ blackboard }) => {
      blackboard.revision -= 1;
    },
    ["blackboard_revision_mismatch"],
  ],
  [
    "a task, lost",
    ({ blackboard }) => {
      blackboard.tasks.pop();
    },
    ["blackboard_task_count_mismatch"],
  ],
  [
    "a task too many",
    ({ blackboard }) => {
      blackboard.tasks.push(aTask({ id: "x" }));
    },
    ["blackboard_task_count_mismatch", "blackboard_task_status_mismatch"],
  ],
  [
    "a task's status",
    ({ blackboard: { tasks } }) => {
      tasks[0] = aTask({ ...tasks[0], status: "done" });
    },
    ["blackboard_task_status_mismatch"],
  ],
  [
    "a task's id",
    ({ blackboard: { tasks } }) => {
      tasks[0] = aTask({ ...tasks[0], id: "x" });
    },
    ["blackboard_task_status_mismatch"],
  ],
  [
    "a step's title",
    ({ run: { steps } }) => {
      Object.assign(steps[0] ?? {}, { title: "x" });
    },
    [],
  ],
  [
    "a task's payload",
    ({ run: { tasks } }) => {
      tasks[0] = aTask({ payload: { z: 1 } });
    },
    [],
  ],
  [
    "the tasks' order",
    ({ run }) => {
      run.tasks.reverse();
    },
    [],
  ],
  [
    "a fact's text",
    ({ blackboard }) => {
      blackboard.facts = [{ id: "f", ts_ms: 1, text: "x" }];
    },
    [],
  ],
  [
    "a fact, lost",
    ({ blackboard }) => {
      blackboard.facts.pop();
    },
    [],
  ],
  [
    "a summary",
    ({ blackboard }) => {
      blackboard.summaries.rolling = "x";
    },
    [],
  ],
  [
    "a time",
    ({ run }) => {
      run.updated_at_ms += 1;
    },
    [],
  ],
  [
    "a member too many",
    ({ run }) => {
      run.last_error = "";
    },
    [],
  ],
];

describe("drift", () => {
  it("06§3.5 equal sides do not drift, in whatever order members stand", () => {
    expect(driftBetween(sides(), sides(), true)).toEqual(NONE);
    const reversed = JSON.parse(JSON.stringify(sides()), (_key, value: unknown) =>
      typeof value === "object" && value !== null && !Array.isArray(value)
        ? Object.fromEntries(Object.entries(value).toReversed())
        : value,
    );
    expect(driftBetween(sides(), reversed, true)).toEqual(NONE);
  });

  it.each(DAMAGES)("06§3.4 damaged: %s", (_, damage, flags) => {
    const stored = structuredClone(sides());
    damage(stored);
    const raised = Object.fromEntries([...flags, "mismatch", "content_mismatch"].map((flag) => [flag, true]));
    expect(driftBetween(sides(), stored, true)).toEqual({ ...NONE, ...raised });
    expect(driftBetween(stored, sides(), true)).toMatchObject({ mismatch: true, content_mismatch: true });
  });

  it("06§3.4 an index that does not follow from the tasks is a drift of its own", () => {
    const raised = { mismatch: true, index_mismatch: true };
    expect(driftBetween(sides(), sides(), false)).toEqual({ ...NONE, ...raised });
  });

  it("D86 states whose digests differ are a drift of its own; one that is not known tells nothing", () => {
    const side = (state_sha256: string | null): Sides => ({ ...sides(), state_sha256 });
    expect(driftBetween(side("a"), side("a"), true)).toEqual(NONE);
    expect(driftBetween(side("a"), side("b"), true)).toEqual({
      ...NONE,
      mismatch: true,
      state_mismatch: true,
    });
    expect(driftBetween(side(null), side("b"), true)).toEqual(NONE);
  });

  it("D86 so are audits that differ; one that is not known tells nothing", () => {
    const audit = (more: object = {}): Audit => ({ ...NO_AUDIT, ...more });
    const side = (known: Audit | null): Sides => ({ ...sides(), audit: known });
    const other = audit({ tools: { ...NO_AUDIT.tools, used: ["write"] } });
    expect(driftBetween(side(audit()), side(audit()), true)).toEqual(NONE);
    expect(driftBetween(side(null), side(other), true)).toEqual(NONE);
    expect(driftBetween(side(other), side(null), true)).toEqual(NONE);
    for (const [replayed, stored] of [
      [audit(), other],
      [other, audit()],
    ] as const) {
      const told = driftBetween(side(replayed), side(stored), true);
      expect(told).toEqual({ ...NONE, mismatch: true, state_mismatch: true });
    }
  });

  it.each<[boolean, unknown, unknown]>([
    [true, { a: 1, b: [null] }, { b: [null], a: 1 }],
    [false, { a: 1 }, { a: 1, b: 2 }],
    [false, { a: 1 }, { b: 1 }],
    [false, { toString: 1 }, { a: 1 }],
    [false, [], {}],
    [false, ["x"], { 0: "x" }],
    [false, [1, 2], [2, 1]],
    [false, null, {}],
    [false, 1, {}],
    [false, "", []],
    [false, 0, null],
  ])("06§3.4 whether it is the same: %s, of %j and %j", (isSame, a, b) => {
    expect([isSameJson(a, b), isSameJson(b, a)]).toEqual([isSame, isSame]);
  });

  it("06§3.4 a replay that was cut short compares nothing, and finds nothing", () => {
    expect(Object.values(NOT_COMPARED).every((flag) => flag === false)).toBe(true);
  });

  it("06§3.4 every flag has a damage of its own", () => {
    const raised = new Set(DAMAGES.flatMap(([, , flags]) => flags));
    const flags = Object.keys(NONE).filter(
      (name) => name.endsWith("_mismatch") && !/^(content|index)_/.test(name),
    );
    expect([...raised].toSorted()).toEqual(flags.toSorted());
  });
});

describe("wakeups", () => {
  const SOURCES = [
    "leaseDueAtMs",
    "parkedDueAtMs",
    "clockDueAtMs",
    "haltDueAtMs",
    "directoryDueAtMs",
    "feedsDueAtMs",
    "checkpointDueAtMs",
    "historyDueAtMs",
    "sealDueAtMs",
  ] as const;
  const wakeupsOf = (moments: readonly (number | null)[]) =>
    Object.fromEntries(
      SOURCES.map((source, index) => [source, moments[index] ?? null]),
    ) as unknown as Wakeups;

  it("D53 nothing is due: the alarm is not set", () => {
    expect(earliestWakeup(wakeupsOf([]))).toBeNull();
  });

  it.each(SOURCES)("D53 %s wakes alone, as the first of all, and not where it is later", (source) => {
    const none = wakeupsOf([]);
    const others = wakeupsOf([5, 6, 7, 8, 9, 10, 11, 12]);
    expect(earliestWakeup({ ...none, [source]: 0 })).toBe(0);
    expect(earliestWakeup({ ...others, [source]: 4 })).toBe(4);
    expect(earliestWakeup({ ...others, [source]: 12 })).toBe(source === "leaseDueAtMs" ? 6 : 5);
  });
});

describe("payload size", () => {
  const sizes: [string, unknown, number][] = [
    ["nothing", undefined, 4],
    ["null", null, 4],
    ["ASCII", "abc", 5],
    ["two bytes a character", "éé", 6],
    ["four bytes a character", "📦", 6],
    ["escapes", '"\n', 6],
    ["an object", { a: [1, 2] }, 11],
  ];
  it.each(sizes)("01§5 %s counts its JSON in UTF-8", (_, payload, bytes) => {
    expect(jsonTooLarge("some_bytes", payload, bytes)).toBeNull();
    expect(jsonTooLarge("some_bytes", payload, bytes - 1)).toEqual({
      code: "LIMIT_EXCEEDED",
      error: `some_bytes is limited to ${bytes - 1}, got ${bytes}`,
      limit_name: "some_bytes",
      limit: bytes - 1,
      actual: bytes,
    });
  });
});

describe("depth", () => {
  const nested = (value: unknown, levels: number): unknown =>
    levels === 0
      ? value
      : levels % 2 === 0
        ? { a: 1, b: nested(value, levels - 1) }
        : [nested(value, levels - 1)];

  it.each<[string, unknown, number]>([
    ["a text", "[[]]", 0],
    ["null", null, 0],
    ["an empty list", [], 1],
    ["an empty object", {}, 1],
  ])("%s in so many lists and objects is as deep as they are many, and itself", (_, value, own) => {
    for (let levels = 0; levels < 6; levels += 1) {
      const depths = [0, 1, 2, 3, 4, 5, 6, 7, 8].filter((depth) =>
        isDeeperThan(nested(value, levels), depth),
      );
      expect(depths).toEqual(Array.from({ length: levels + own }, (_, depth) => depth));
    }
  });

  it("what is nested without end is not followed further than that", () => {
    const endless: unknown[] = [];
    endless.push(endless);
    expect(isDeeperThan(endless, 100)).toBe(true);
  });
});
