import { describe, expect, it } from "vitest";
import { arrange, must, newRun, runOf } from "../support.ts";

const DEFAULT_PLAN = [
  "Plan implementation approach",
  "Execute implementation and produce artifacts",
  "Validate and finalize output",
];

const rows: [string, string[]][] = [
  ["- [x] Do the thing", ["[x] Do the thing"]],
  ["### 3) Heading words", ["3) Heading words"]],
  ["10. [] nested item here", ["[] nested item here"]],
  ["12345678", DEFAULT_PLAN],
  ["éééé", ["éééé"]],
  ["short", DEFAULT_PLAN],
  ["", DEFAULT_PLAN],
  ["\n \r\n", DEFAULT_PLAN],
  ["1234567", DEFAULT_PLAN],
  ["abcdefg", DEFAULT_PLAN],
  ["abcdefgh", ["abcdefgh"]],
  ["éééa", DEFAULT_PLAN],
  ["  - - first item ", ["- first item"]],
  ["[1].)*#-plain words", ["plain words"]],
  ["2024 was a good year", ["was a good year"]],
  [
    "first line here\r\nsecond line here\nx\n\n  third line here  ",
    ["first line here", "second line here", "third line here"],
  ],
  [
    Array.from({ length: 8 }, (_, n) => `item ${n} of the list`).join("\n"),
    [
      "item 0 of the list",
      "item 1 of the list",
      "item 2 of the list",
      "item 3 of the list",
      "item 4 of the list",
      "item 5 of the list",
    ],
  ],
];

describe("planning_started materialises the plan", () => {
  it.each(rows)("03§4 the objective %j", async (objective, titles) => {
    const run = await newRun({ objective });
    must(await run.post("/events", { type: "planning_started", status: "planning" }));
    expect((await runOf(run)).steps).toEqual(
      titles.map((title, n) => ({ step_id: `step-${n + 1}`, title, status: "pending" })),
    );
  });

  it("03§4 a run that has steps keeps them", async () => {
    const run = await newRun({ objective: "something long enough" });
    const steps = [{ step_id: "mine", title: "Mine", status: "done" }];
    await arrange(run, { steps });
    must(await run.post("/events", { type: "planning_started", status: "planning" }));
    expect((await runOf(run)).steps).toEqual(steps);
  });
});
