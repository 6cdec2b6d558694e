import { createScheduledController } from "cloudflare:test";
import { env } from "cloudflare:workers";
import { describe, expect, it } from "vitest";
import { runHolder } from "../../src/artifacts/keys.ts";
import worker from "../../src/index.ts";
import { submit } from "../../src/run/run-client.ts";
import { HELLO } from "../artifacts/support/store.ts";
import { putCommand, TestTenant } from "../artifacts/support/tenant.ts";

const WEEK_MS = 7 * 24 * 3_600_000;

/** The cron's tick, told a moment. */
const tick = (atMs: number) =>
  worker.scheduled(createScheduledController({ scheduledTime: new Date(atMs) }), env);

describe("design: cron destroys nothing before its time", () => {
  it("told of a moment to come, it goes by its own clock: a content on its way into a run is not collected", async () => {
    const tenant = new TestTenant();
    const run = await tenant.newRun("a");
    const content = await tenant.store.keep(runHolder("a"), "hello");
    await tick(Date.now() + WEEK_MS);
    expect((await submit(run, { command: putCommand("p", content) })).ok).toBe(true);
    await tenant.expectReadable([{ sha256: HELLO, text: "hello" }]);
  });

  it("told of a moment that has passed, it goes by that", async () => {
    const tenant = new TestTenant();
    await tenant.store.open();
    await tenant.age();
    await tick(0);
    expect(await tenant.leftovers()).toMatchObject({ loose: 1 });
  });
});
