import { runInDurableObject } from "cloudflare:test";
import { afterEach, describe, expect, it, vi } from "vitest";
import { LOCAL_TENANT } from "../../src/identity/tenant.ts";
import { disturbFeed, feedOf, newPath, recordsIn, Subject } from "./support/scenario.ts";
import { type Asking, SseReader } from "./support/sse-reader.ts";

// Streams wait for each other more than they compute: a busy machine takes its time.
vi.setConfig({ testTimeout: 30_000 });

const WATCHERS = 100;

/** Longer than the runtime lets an object that does nothing stay in memory. */
const IDLE_MS = 12_000;

/** The object that is in memory now, to tell it from the one that comes after it. */
function instanceOf(stub: DurableObjectStub): Promise<unknown> {
  return runInDurableObject(stub, (object) => ({ object })).then(({ object }) => object);
}

describe("objects sleep while their streams are watched", () => {
  let watchers: SseReader[] = [];
  afterEach(async () => {
    await Promise.all(watchers.map((watcher) => watcher.stop()));
    watchers = [];
  });

  /** Opens idle watchers; a stream's first frame says that it is ready. */
  async function watch(askings: readonly Asking[]): Promise<void> {
    watchers = Array.from({ length: WATCHERS }, (_, index) => {
      const asking = askings[index % askings.length];
      if (asking === undefined) throw new Error("there is nothing to ask for");
      return new SseReader({ ask: () => asking });
    });
    await Promise.all(watchers.map((watcher) => watcher.until(({ content }) => content.length > 0)));
  }

  /** Every watcher has the log, over the one connection that it had from the start. */
  async function expectAllHave(subject: Subject): Promise<void> {
    const log = await subject.log("event");
    for (const watcher of watchers) {
      await watcher.until(({ content }) => recordsIn(content).length >= log.length);
      expect(recordsIn(watcher.content)).toEqual(log);
      expect(watcher.connections).toBe(1);
    }
  }

  it("a run's object, with 100 who watch the run: they are told what is committed after it woke", async () => {
    const subject = await Subject.create(LOCAL_TENANT);
    const path = `runs/${subject.id}/events/stream`;
    await watch([{ path: `/v1/${path}` }, { path: `/context/${path}` }]);
    const before = await instanceOf(subject.stub);
    await subject.disturb("sleep");
    expect(await instanceOf(subject.stub)).not.toBe(before);
    await subject.disturb("sleep");
    await subject.commit({ do: "note", length: 1 });
    await expectAllHave(subject);
  });

  it("a feed's object, with 100 who watch the workspace, and the run's object with it", async () => {
    const workspace = newPath();
    const subject = await Subject.create(LOCAL_TENANT, workspace);
    const query = `?workspace=${encodeURIComponent(workspace)}`;
    await watch([{ path: `/v1/events/stream${query}` }, { path: `/context/runs/events/stream${query}` }]);
    const feed = () => feedOf(LOCAL_TENANT, workspace);
    const before = await instanceOf(feed());
    await disturbFeed(LOCAL_TENANT, workspace, "sleep");
    expect(await instanceOf(feed())).not.toBe(before);
    await disturbFeed(LOCAL_TENANT, workspace, "sleep");
    await subject.disturb("sleep");
    await subject.commit({ do: "note", length: 1 });
    await expectAllHave(subject);
  });

  it("the runtime itself lets both sleep when nothing happens", async () => {
    const workspace = newPath();
    const subject = await Subject.create(LOCAL_TENANT, workspace);
    const feed = () => feedOf(LOCAL_TENANT, workspace);
    const query = `?workspace=${encodeURIComponent(workspace)}`;
    await subject.commit({ do: "note", length: 1 });
    await watch([{ path: `/v1/runs/${subject.id}/events/stream` }, { path: `/v1/events/stream${query}` }]);
    await expectAllHave(subject);
    const before = [await instanceOf(subject.stub), await instanceOf(feed())];
    // Asking whether an object sleeps would wake it.
    await scheduler.wait(IDLE_MS);
    expect(await instanceOf(subject.stub)).not.toBe(before[0]);
    expect(await instanceOf(feed())).not.toBe(before[1]);
    expect(new Set(watchers.map(({ connections }) => connections))).toEqual(new Set([1]));
  }, 30_000);
});
