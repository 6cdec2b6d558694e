import { describe, expect, it } from "vitest";
import { call, everything, must, newRun, raw, runOf } from "../support.ts";

/** A body every POST route of a run takes, by sub-route. */
const bodies: [string, Record<string, unknown>][] = [
  ["/events", { type: "note", status: "running" }],
  ["/todos/sync", { todos: [] }],
  ["/driver/next", { dry_run: true }],
  ["/lease/validate", { phase: "p", current_path: "/x" }],
  ["/blackboard/patches", { op: "set_rolling_summary", payload: "x" }],
  ["/tasks", { tasks: [{ task_type: "t" }] }],
  ["/tasks/claim", { agent_id: "a" }],
  ["/tasks/t/transition", { action: "retry" }],
  ["/checkpoints", { reason: "r" }],
];

/** Bodies every route refuses: name, bytes, headers, status, code. */
const refused: [string, unknown, Record<string, string | null>, number, string][] = [
  ["no content type", {}, { "content-type": null }, 415, "CONTENT_TYPE_UNSUPPORTED"],
  ["text/plain", {}, { "content-type": "text/plain" }, 415, "CONTENT_TYPE_UNSUPPORTED"],
  ["text/json", {}, { "content-type": "text/json" }, 415, "CONTENT_TYPE_UNSUPPORTED"],
  [
    "wrong type before a malformed body",
    raw("{"),
    { "content-type": "text/plain" },
    415,
    "CONTENT_TYPE_UNSUPPORTED",
  ],
  ["not JSON", raw("{a:1}"), {}, 400, "BODY_MALFORMED"],
  ["cut off", raw('{"a":'), {}, 400, "BODY_MALFORMED"],
  ["trailing characters", raw("{} x"), {}, 400, "BODY_MALFORMED"],
  ["two documents", raw("{}{}"), {}, 400, "BODY_MALFORMED"],
  ["not UTF-8", new Uint8Array([0x22, 0xff, 0xfe, 0x22]), {}, 400, "BODY_MALFORMED"],
  ["an array", raw("[]"), {}, 422, "BODY_INVALID"],
  ["null", raw("null"), {}, 422, "BODY_INVALID"],
  ["a repeated name at any depth", raw('{"zz":[{"a":1,"a":1}]}'), {}, 422, "BODY_INVALID"],
  ["a repeated name, spelled with an escape", raw('{"zz":{"a":1,"\\u0061":1}}'), {}, 422, "BODY_INVALID"],
  ["an integer past 2^53 - 1", raw('{"zz":9007199254740993}'), {}, 422, "BODY_INVALID"],
  ["an integer before -(2^53 - 1)", raw('{"zz":-9007199254740993}'), {}, 422, "BODY_INVALID"],
  ["a lone surrogate", raw('{"zz":"\\ud800"}'), {}, 422, "BODY_INVALID"],
  ["65 levels", raw(`{"zz":${"[".repeat(64)}${"]".repeat(64)}}`), {}, 422, "BODY_INVALID"],
  ["more than 2 MiB", raw(`{"zz":"${"x".repeat(2 * 1024 * 1024)}"}`), {}, 413, "BODY_TOO_LARGE"],
];

describe("request bodies", () => {
  it.each(refused)(
    "02§1.3 every route refuses a body that is %s",
    async (_name, body, headers, status, code) => {
      const run = await newRun();
      const before = await everything(run);
      const answers = await Promise.all([
        call("POST", "/context/runs", body, headers),
        run.put(body, headers),
        ...bodies.map(([sub]) => run.post(sub, body, headers)),
      ]);
      for (const answer of answers) {
        expect([answer.status, answer.body.code], answer.text).toEqual([status, code]);
        expect(answer.body.error).toEqual(expect.any(String));
      }
      expect(await everything(run)).toEqual(before);
    },
  );

  it.each(bodies.filter(([sub]) => sub !== "/driver/next"))(
    "02§1.3 %s: no body is 400 or 415, an empty one 400",
    async (sub) => {
      const run = await newRun();
      expect((await run.post(sub, raw(""))).status).toBe(400);
      expect([400, 415]).toContain((await run.post(sub)).status);
    },
  );

  const types = ["application/json; charset=utf-8", "application/merge-patch+json", "Application/JSON"];
  it.each(types)("02§1.3 the content type %s is JSON", async (type) => {
    const run = await newRun();
    for (const [sub, body] of bodies.filter(([name]) => name !== "/tasks/t/transition")) {
      must(await run.post(sub, body, { "content-type": type }));
    }
  });

  it("02§1.3 unknown fields are ignored", async () => {
    const run = await newRun();
    for (const [sub, body] of bodies.filter(([name]) => name !== "/tasks/t/transition")) {
      must(await run.post(sub, { ...body, colour: { deep: [1] } }));
    }
    must(await run.put({ ...(await runOf(run)), colour: "red" }));
    expect(await runOf(run)).not.toHaveProperty("colour");
  });

  it("02§1.3 64 levels, 2^53 - 1 and a surrogate pair are fine", async () => {
    const run = await newRun();
    const payload = `[${"[".repeat(62)}9007199254740991,"\\ud83d\\ude00"${"]".repeat(62)}]`;
    const answer = await run.post("/events", raw(`{"type":"note","status":"running","payload":${payload}}`));
    expect(must(answer).event.payload).toEqual(JSON.parse(payload));
  });
});
