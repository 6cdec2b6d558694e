import { describe, expect, it } from "vitest";
import type { AuditInput } from "../../bench/drill/audit.ts";
import { checkAnswers } from "../../bench/drill/audit-history.ts";
import type { CommandAnswer, CommandKind, CommandRecord, Effect } from "../../bench/drill/records.ts";
import type { DrillTask } from "../../bench/drill/rows.ts";
import type { ClockJump } from "../../bench/history/clock.ts";

/*
 * From the records of agents to a verdict on what they were answered: commands that were never answered took effect at any time, or
 * never; clocks and the server's own clock end leases; locks are leases, too.
 */

const TERM = 5_000;
/** What `slackMs` and `slackShare` of the check come to. */
const SLACK = 10;

/** The answer comes 2 ms after the command was sent. */
function sent(
  sent_ms: number,
  kind: CommandKind,
  effect: Effect | null | "refused" | "lost",
  more: Partial<CommandRecord> & { told?: Partial<CommandAnswer> } = {},
): CommandRecord {
  const { told = {}, ...rest } = more;
  const answer = { status: 200, code: undefined, replayed: false, answered_ms: sent_ms + 2, ...told };
  const id = `${kind}@${sent_ms}`;
  const record = { command_id: id, kind, delivery: "once" as const, sent_ms, missed: 0, ...rest };
  return effect === "lost"
    ? { ...record, missed: 1, answers: [] }
    : { ...record, answers: [{ ...answer, effect: effect === "refused" ? undefined : effect }] };
}

const claim = (ms: number, fence: number, more: Partial<CommandRecord> = {}, effect: Effect = {}) =>
  sent(ms, "claim", { task_id: "t", fence, ...effect }, { agent: `a${fence}`, ...more });
const under = (ms: number, kind: CommandKind, fence: number, effect: Effect | "refused" | "lost" = {}) =>
  sent(ms, kind, effect, { task_id: "t", fence });
const read = (ms: number, effect: Effect) => sent(ms, "read", effect, { task_id: "t" });
const redrive = (ms: number, effect: Effect | null | "lost", missed = 0) =>
  sent(ms, "redrive", effect, { missed });

const row = (more: Partial<DrillTask> = {}): DrillTask => ({
  id: "t",
  task_type: "task",
  payload: {},
  status: "pending",
  priority: 0,
  depends_on_task_ids: [],
  ...more,
});

function rules(commands: CommandRecord[], task = row(), clockJumps: ClockJump[] = []): string[] {
  const found: string[] = [];
  const input = { commands, plan: [task], leaseMs: TERM, clockJumps } as unknown as AuditInput;
  checkAnswers(input, (_, rule, __, place) => found.push(`${rule} ${place?.command_id}`));
  return found;
}

const policy = { retry: {}, max_attempts: 3 };
const batch = (ms: number, effect: Effect | "lost") =>
  sent(ms, "batch", effect, {
    parts: [
      { kind: "fact", task_id: "t", fence: 1, mark: "m" },
      { kind: "complete", task_id: "t", fence: 1 },
    ],
  });

describe("commands that were never answered", () => {
  it.each<[what: string, commands: CommandRecord[], task?: DrillTask]>([
    [
      "a completion that was done",
      [claim(0, 1), under(5, "complete", 1, "lost"), read(9, { status: "done" })],
    ],
    ["one that was not", [claim(0, 1), under(5, "complete", 1, "lost"), claim(5_100, 2)]],
    ["a batch that was done", [claim(0, 1), batch(5, "lost"), read(9, { status: "done" })]],
    ["one that was not", [claim(0, 1), batch(5, "lost"), claim(5_100, 2)]],
    ["a failure that put the task back", [claim(0, 1), under(5, "fail", 1, "lost"), claim(9, 2)]],
    [
      "a failure that was the last",
      [claim(0, 1), under(5, "fail", 1, "lost"), read(9, { status: "failed" })],
    ],
    ["a heartbeat in force", [claim(0, 1), under(4_000, "heartbeat", 1, "lost"), under(8_000, "fact", 1)]],
    [
      "a claim that a refusal names",
      [
        claim(0, 1),
        sent(5_100, "claim", "lost", { agent: "b" }),
        sent(5_200, "fact", "refused", {
          task_id: "t",
          fence: 1,
          told: { holder: { agent: "b", fence: 7 } },
        }),
      ],
    ],
    [
      "a cancellation of a task that nobody held",
      [sent(0, "cancel", "lost", { task_id: "t", grace_ms: 300 }), read(9, { status: "failed" })],
    ],
    [
      "a cancellation that its holder was told of",
      [
        claim(0, 1),
        sent(5, "cancel", "lost", { task_id: "t", grace_ms: 300 }),
        under(310, "fact", 1, "refused"),
      ],
    ],
    [
      "a redrive that came late",
      [claim(0, 1), under(5, "fail", 1, { status: "failed" }), redrive(9, null, 1), claim(20, 2)],
      row(policy),
    ],
  ])("may be %s", (_, commands, task) => {
    expect(rules(commands, task)).toEqual([]);
  });

  it.each<[what: string, misfit: string, commands: CommandRecord[], task?: DrillTask]>([
    [
      "a completion that was done, and the task given out again",
      "not_linearizable claim@5100",
      [claim(0, 1), under(5, "complete", 1, "lost"), read(9, { status: "done" }), claim(5_100, 2)],
    ],
    [
      "a completion of which one reader sees that it was done, and the next that it was not",
      "not_linearizable read@20",
      [
        claim(0, 1),
        under(5, "complete", 1, "lost"),
        read(9, { status: "done" }),
        read(20, { status: "in_progress", holder: { agent: "a1", fence: 1 } }),
      ],
    ],
    [
      "a batch that made room for another",
      "not_linearizable claim@9",
      [claim(0, 1), batch(5, "lost"), claim(9, 2)],
    ],
    [
      "a cancellation in force before its grace is over",
      "not_linearizable fact@200",
      [
        claim(0, 1),
        sent(5, "cancel", "lost", { task_id: "t", grace_ms: 300 }),
        under(200, "fact", 1, "refused"),
      ],
    ],
    [
      "a failure after which the task is its holder's still, and another's",
      "not_linearizable fact@20",
      [claim(0, 1), under(5, "fail", 1, "lost"), claim(9, 2), under(20, "fact", 1)],
    ],
    [
      "a dead letter that came back though every redrive was answered",
      "not_linearizable claim@20",
      [claim(0, 1), under(5, "fail", 1, { status: "failed" }), redrive(9, null), claim(20, 2)],
      row(policy),
    ],
    [
      "a done task that came back, without a policy by which it could",
      "not_linearizable claim@20",
      [claim(0, 1), under(5, "complete", 1), redrive(9, "lost"), claim(20, 2)],
    ],
  ])("cannot be %s", (_, misfit, commands, task) => {
    expect(rules(commands, task)).toEqual([misfit]);
  });

  it("may be a claim that was the last attempt, once its lease has run out", () => {
    const lost = sent(9, "claim", "lost", { agent: "b" });
    const failed = [claim(0, 1), under(5, "fail", 1, { status: "runnable" })];
    const redriven = (ms: number) => redrive(ms, { redriven: ["t"] });
    expect(rules([...failed, lost, redriven(5_100)], row(policy))).toEqual([]);
    expect(rules([...failed, lost, redriven(4_000)], row(policy))).toEqual(["not_linearizable redrive@4000"]);
    expect(rules([...failed, redriven(5_100)], row(policy))).toEqual(["not_linearizable redrive@5100"]);
    expect(rules([...failed, lost, redriven(5_100)])).toEqual(["not_linearizable redrive@5100"]);
  });

  it("are told apart in little time, however many redrives were lost", () => {
    const lost = Array.from({ length: 60 }, (_, index) => redrive(100 + index, null, 1));
    const work = [claim(0, 1), under(5, "fail", 1, { status: "failed" }), ...lost];
    const task = row({ ...policy, clocks: { start_within_ms: 10 } });
    expect(rules([...work, claim(200, 2), claim(210, 3)], task)).toEqual(["not_linearizable claim@210"]);
  });
});

describe("clocks of a task", () => {
  const timed = (clocks: DrillTask["clocks"]) => row(clocks === undefined ? {} : { clocks });

  it.each<[what: string, clocks: DrillTask["clocks"], commands: CommandRecord[]]>([
    ["work that ran too long", { run_within_ms: 2_000 }, [claim(0, 1), claim(2_005, 2)]],
    ["silence", { silent_within_ms: 1_500 }, [claim(0, 1), under(1_600, "fact", 1, "refused")]],
    [
      "a task that was not begun in time, and put back",
      { start_within_ms: 900 },
      [
        sent(0, "create", { created: "t@1" }),
        read(950, { status: "failed" }),
        redrive(1_000, { redriven: ["t"] }),
        read(1_950, { status: "failed" }),
      ],
    ],
    [
      "a task that was not done in time, while somebody held it",
      { finish_within_ms: 900 },
      [sent(0, "create", { created: "t@1" }), claim(500, 1), read(950, { status: "failed" })],
    ],
  ])("explain %s", (_, clocks, commands) => {
    expect(rules(commands, timed(clocks))).toEqual([]);
    expect(rules(commands)).not.toEqual([]);
  });

  it("end leases that nobody was told of, too", () => {
    const commands = [
      sent(0, "claim", "lost", { agent: "b" }),
      read(5, { status: "in_progress", holder: { agent: "b", fence: 1 } }),
      claim(2_100, 2),
    ];
    expect(rules(commands, timed({ run_within_ms: 2_000 }))).toEqual([]);
    expect(rules(commands)).toEqual(["not_linearizable claim@2100"]);
    expect(rules(commands, timed({ run_within_ms: 3_000 }))).toEqual(["not_linearizable claim@2100"]);
  });

  it.each<[what: string, misfit: string, clocks: DrillTask["clocks"], commands: CommandRecord[]]>([
    [
      "a second holder before the first had run too long",
      "not_linearizable claim@1900",
      { run_within_ms: 2_000 },
      [claim(0, 1), claim(1_900, 2)],
    ],
    [
      "a dead letter before it could be due",
      "not_linearizable read@800",
      { start_within_ms: 900 },
      [sent(0, "create", { created: "t@1" }), read(800, { status: "failed" })],
    ],
    [
      "the end of a lease because an earlier one ran too long",
      "not_linearizable claim@2100",
      { run_within_ms: 2_000 },
      [claim(0, 1), under(5, "release", 1), claim(1_000, 2), claim(2_100, 3)],
    ],
  ])("do not explain %s", (_, misfit, clocks, commands) => {
    expect(rules(commands, timed(clocks))).toEqual([misfit]);
  });
});

describe("jumps of the server's clock", () => {
  const jump = (atMs: number, byMs: number): ClockJump => ({ atMs, doneMs: atMs + 1, byMs });

  it("end leases, graces and clocks, and make leases longer", () => {
    expect(rules([claim(0, 1), claim(110, 2)], row(), [jump(100, TERM)])).toEqual([]);
    expect(rules([claim(0, 1), under(7_000, "fact", 1)], row(), [jump(100, -2_500)])).toEqual([]);
    const paused = [claim(0, 1), sent(5, "pause", { seq: 9 }, { grace_ms: 300 }), claim(60, 2)];
    expect(rules(paused, row(), [jump(50, 1_000)])).toEqual([]);
    const timed = row({ clocks: { run_within_ms: 2_000 } });
    expect(rules([claim(0, 1), claim(1_100, 2)], timed, [jump(100, 1_000)])).toEqual([]);
  });

  it("do so by their length, and while they last", () => {
    expect(rules([claim(0, 1), claim(80, 2)], row(), [jump(100, TERM)])).toEqual([
      "not_linearizable claim@80",
    ]);
    const late = TERM + 2_500 + SLACK + 4;
    expect(rules([claim(0, 1), under(late, "fact", 1)], row(), [jump(100, -2_500)])).toEqual([
      `not_linearizable fact@${late}`,
    ]);
    const paused = [claim(0, 1), sent(5, "pause", { seq: 9 }, { grace_ms: 300 }), claim(60, 2)];
    expect(rules(paused, row(), [jump(50, 100)])).toEqual(["not_linearizable claim@60"]);
  });
});

describe("locks", () => {
  const alone = [{ name: "x", mode: "exclusive" as const }];
  const shared = [{ name: "x", mode: "shared" as const }];
  const lock = (ms: number, fence: number, resources = alone as CommandRecord["resources"] & object) =>
    sent(ms, "lock", { lock_id: `l${fence}`, fence }, { agent: `a${fence}`, resources });
  const about = (
    ms: number,
    kind: "renew" | "unlock",
    fence: number,
    effect: Effect | "refused" | "lost" = {},
  ) => sent(ms, kind, effect, { lock_id: `l${fence}`, fence, resources: alone });
  const refusedBy = (
    ms: number,
    agent: string,
    fence: number,
    resources = alone as typeof alone | typeof shared,
  ) =>
    sent(ms, "lock", "refused", {
      agent: "z",
      resources,
      told: { conflicts: [{ resource: "x", mode: "exclusive", agent, fence }] },
    });
  const withLock = (ms: number, fence: number) =>
    claim(ms, fence, { resources: alone }, { lock_id: `l${fence}` });

  it.each<[what: string, commands: CommandRecord[]]>([
    ["one after the other", [lock(0, 1), about(5, "unlock", 1), lock(9, 2), lock(5_100, 3)]],
    ["two that share", [lock(0, 1, shared), lock(5, 2, shared)]],
    [
      "one that is renewed",
      [lock(0, 1), about(4_000, "renew", 1), about(8_000, "unlock", 1), lock(8_010, 2)],
    ],
    ["one that was lost to its term", [lock(0, 1), about(5_100, "unlock", 1, "refused")]],
    ["one that a refusal names", [lock(0, 1), refusedBy(5, "a1", 1)]],
    [
      "one that nobody was answered, and that a refusal names",
      [sent(0, "lock", "lost", { agent: "b", resources: alone }), refusedBy(5, "b", 7)],
    ],
    ["one that was released without an answer", [lock(0, 1), about(5, "unlock", 1, "lost"), lock(9, 2)]],
    ["one that ends with its task", [withLock(0, 1), under(5, "complete", 1), lock(9, 2)]],
    [
      "one that goes on with its task",
      [withLock(0, 1), under(4_000, "heartbeat", 1), under(8_000, "complete", 1), lock(8_010, 2)],
    ],
    [
      "one that ends with the revocation of its task",
      [withLock(0, 1), sent(5, "pause", { seq: 9 }, { grace_ms: 300 }), lock(400, 2)],
    ],
  ])("may be %s", (_, commands) => {
    expect(rules(commands)).toEqual([]);
  });

  it.each<[what: string, misfit: string, commands: CommandRecord[]]>([
    ["two at once", "not_linearizable lock@5", [lock(0, 1), lock(5, 2)]],
    [
      "two at once because of a renewal",
      "not_linearizable lock@5100",
      [lock(0, 1), about(4_000, "renew", 1), lock(5_100, 2)],
    ],
    ["a renewal of what has run out", "not_linearizable renew@5100", [lock(0, 1), about(5_100, "renew", 1)]],
    [
      "a release of what another has since",
      "not_linearizable unlock@5200",
      [lock(0, 1), lock(5_100, 2), about(5_200, "unlock", 1)],
    ],
    [
      "a holder refused in the middle of its term",
      "not_linearizable unlock@500",
      [lock(0, 1), about(500, "unlock", 1, "refused")],
    ],
    [
      "a refusal for one that is free",
      "not_linearizable lock@9/0",
      [lock(0, 1), about(5, "unlock", 1), refusedBy(9, "a1", 1)],
    ],
    ["a refusal that names a stranger", "holder_unknown lock@5/0", [lock(0, 1), refusedBy(5, "c", 4)]],
    ["one beside a task's", "not_linearizable lock@5", [withLock(0, 1), lock(5, 2)]],
    [
      "one beside a task's whose lease goes on",
      "not_linearizable lock@5100",
      [withLock(0, 1), under(4_000, "heartbeat", 1), lock(5_100, 2)],
    ],
  ])("cannot be %s", (_, misfit, commands) => {
    expect(rules(commands)).toContain(misfit);
  });
});
