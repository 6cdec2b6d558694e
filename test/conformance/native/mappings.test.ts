import { describe, expect, it } from "vitest";
import { call, raw } from "../support.ts";
import { good, problem } from "./support.ts";

const mapping = {
  when: { path: "action", eq: "opened" },
  run_key: "issue/{{ issue.number }}",
  run: { objective: "Work on {{ issue.title }}" },
  tasks: [{ task_type: "triage", id: "triage-{{ issue.number }}", input: { title: "{{ issue.title }}" } }],
};
const body = { action: "opened", issue: { number: 7, title: "Crash" } };

const test = (asked: unknown, sample: unknown = { event: "issues", body }) =>
  call("POST", "/v1/mappings/test", { mapping: asked, sample });

describe("POST /v1/mappings/test", () => {
  it("shows what a delivery would become, and the filter's parts", async () => {
    expect(good(await test(mapping))).toMatchObject({
      verdict: "plan",
      conditions: [{ condition: "when", matched: true }],
      plan: {
        run_key: "issue/7",
        on_existing: "append_event",
        run: { objective: "Work on ⟪Crash⟫", run_type: "webhook" },
        event: { type: "webhook_received", payload: { trust: "untrusted_external" } },
        tasks: [
          { id: "triage-7", payload: { input: { title: "Crash" }, untrusted_fields: ["input.title"] } },
        ],
      },
    });
  });

  it("shows why a delivery would be skipped", async () => {
    expect(good(await test(mapping, { body: { ...body, action: "closed" } }))).toEqual({
      verdict: "skip",
      reason: "the filter does not take it",
      conditions: [{ condition: "when", matched: false }],
    });
  });

  it("shows what does not fit, and what was cut off", async () => {
    expect(good(await test(mapping, { body: { action: "opened" } }))).toMatchObject({
      verdict: "error",
      error: { code: "MAPPING_INVALID" },
      issues: [
        { field: "run_key", rule: "missing" },
        { field: "tasks[0].id", rule: "missing" },
      ],
    });
    const long = { body: { ...body, issue: { number: 7, title: "x".repeat(20_000) } } };
    expect(good(await test(mapping, long))).toMatchObject({
      verdict: "error",
      error: { code: "MAPPING_LIMIT", limit_name: "output_bytes", limit: 16_384 },
    });
  });

  it("takes a preset by its name, and header names in any case", async () => {
    const sample = {
      headers: { "Sentry-Hook-Resource": "issue" },
      body: { action: "created", data: { issue: { id: "1", title: "Oh no" } } },
    };
    expect(good(await test("sentry_alert", sample))).toMatchObject({
      verdict: "plan",
      plan: { run_key: "sentry/1/" },
    });
  });

  it("makes no run", async () => {
    const run_type = `mapped-${crypto.randomUUID()}`;
    expect(good(await test({ ...mapping, run: { ...mapping.run, run_type } }))).toMatchObject({
      verdict: "plan",
    });
    expect(good(await call("GET", `/v1/runs?run_type=${run_type}`))).toMatchObject({ runs: [] });
  });

  it.each([
    ["no mapping", { sample: {} }, "mapping"],
    ["no sample", { mapping }, "sample"],
    ["a field too many", { mapping, sample: {}, x: 1 }, "x"],
    ["a field too many in the sample", { mapping, sample: { payload: {} } }, "sample.payload"],
    ["a fault in the mapping", { mapping: { ...mapping, run_key: "{{" }, sample: {} }, "mapping.run_key"],
    ["a preset that is none", { mapping: "github", sample: {} }, "mapping"],
  ])("refuses %s", async (_what, asked, field) => {
    const { issues } = problem(
      await call("POST", "/v1/mappings/test", asked),
      422,
      "BODY_INVALID",
    ) as unknown as {
      issues: { field: string }[];
    };
    expect(issues.map((issue) => issue.field)).toContain(field);
  });

  it("answers the worst that fits into a body before long", async () => {
    const outputs = Array(700).fill("{{ $body | json | truncate(16000) }}");
    const worst = { run: mapping.run, event: { input: outputs } };
    const wide = raw(JSON.stringify({ mapping: worst, sample: { body: Array(400_000).fill([1]) } }));
    const began = performance.now();
    expect(
      good(await call("POST", "/v1/mappings/test", wide, { "content-type": "application/json" })),
    ).toMatchObject({
      verdict: "error",
      error: { code: "MAPPING_LIMIT" },
    });
    expect(performance.now() - began).toBeLessThan(5_000);
  });
});

describe("GET /v1/mappings/presets", () => {
  it("lists mappings that can be sent as they are", async () => {
    const { presets } = good(await call("GET", "/v1/mappings/presets")) as unknown as {
      presets: { name: string; title: string; scheme: string; mapping: object }[];
    };
    expect(presets.length).toBeGreaterThanOrEqual(9);
    for (const preset of presets) {
      expect(preset).toMatchObject({ title: expect.any(String), scheme: expect.any(String) });
      expect(good(await test(preset.mapping, { body: {} }))).toHaveProperty("verdict");
    }
  });
});
