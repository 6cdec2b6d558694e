import { env } from "cloudflare:workers";
import { describe, expect, it, vi } from "vitest";
import { runHolder } from "../../src/artifacts/keys.ts";
import { Uploads } from "../../src/artifacts/uploads.ts";
import type { Env } from "../../src/env.ts";
import { collectArtifacts } from "../../src/maintenance/collect-artifacts.ts";
import { submit } from "../../src/run/run-client.ts";
import { bucket, HELLO, textOf } from "./support/store.ts";
import { put, putCommand, TestTenant } from "./support/tenant.ts";

const collect = (changed: Partial<Env> = {}) => collectArtifacts({ ...env, ...changed }, Date.now());

const NOTHING = { objects: 0, contents: 0, loose: 0, held: [] };

describe("design: what a crash leaves behind is collected, once it is old", () => {
  it("an object that was announced and never written, or written and never adopted", async () => {
    const tenant = new TestTenant();
    await tenant.store.open();
    const object = await tenant.store.open();
    await bucket().put(object.key, "x");
    await collect();
    expect(await tenant.leftovers()).toMatchObject({ objects: 1, loose: 2 });
    await tenant.age();
    await collect();
    // It is looked at once more: a write may have outlived its announcement.
    expect(await tenant.leftovers()).toMatchObject({ objects: 0, loose: 2 });
    await bucket().put(object.key, "late");
    await tenant.age();
    await collect();
    expect(await tenant.leftovers()).toEqual(NOTHING);
  });

  it("an object that comes too late becomes no content", async () => {
    const tenant = new TestTenant();
    const object = await tenant.store.open();
    await tenant.age();
    await collect();
    await bucket().put(object.key, "hello");
    expect(await tenant.store.adopt("run:a", object, { sha256: HELLO, bytes: 5 })).toBeNull();
    expect(await tenant.leftovers()).toEqual(NOTHING);
  });

  it("but never one that a content has taken, whoever thinks that it was not", async () => {
    const tenant = new TestTenant();
    const object = await tenant.store.open();
    await bucket().put(object.key, "hello");
    await tenant.store.adopt("run:a", object, { sha256: HELLO, bytes: 5 });
    await tenant.store.discard(object);
    await tenant.expectReadable([{ sha256: HELLO, text: "hello" }]);
    const again = await tenant.store.adopt("run:a", object, { sha256: HELLO, bytes: 5 });
    expect(again).toEqual({ sha256: HELLO, bytes: 5 });
    await tenant.expectReadable([{ sha256: HELLO, text: "hello" }]);
  });

  it("but nothing that a commit refers to, though its reference was dropped while the commit was on its way", async () => {
    const tenant = new TestTenant();
    const run = await tenant.newRun("a");
    const content = await tenant.store.keep(runHolder("a"), "hello");
    // As when a run goes into the archive and comes back meanwhile.
    await tenant.store.release(runHolder("a"));
    expect((await submit(run, { command: putCommand("p", content) })).ok).toBe(true);
    await tenant.store.confirm(runHolder("a"), [content.sha256]);
    await collect();
    await tenant.expectReadable([{ sha256: HELLO, text: "hello" }]);
    await tenant.age();
    await collect();
    await tenant.expectReadable([{ sha256: HELLO, text: "hello" }]);
    expect((await tenant.leftovers()).held).toEqual([`run:a ${HELLO}`]);
  });

  it("parts of an upload that was never completed", async () => {
    const tenant = new TestTenant();
    const object = await tenant.store.open();
    const multipart = await bucket().createMultipartUpload(object.key);
    await object.announceMultipart(multipart.uploadId);
    await multipart.uploadPart(1, "x");
    await tenant.age();
    await collect();
    await expect(multipart.uploadPart(2, "y")).rejects.toThrow();
    await tenant.age();
    await collect();
    expect(await tenant.leftovers()).toEqual(NOTHING);
  });

  it("uploads that a released run had begun, at once", async () => {
    const tenant = new TestTenant();
    const run = { tenant: tenant.key, run_id: "a" };
    const uploads = new Uploads({ bucket: bucket(), db: env.DIRECTORY, store: tenant.store }, run);
    const plan = { path: "p", content_type: "text/plain", artifact: { artifact_type: "file" } };
    const uploadId = crypto.randomUUID();
    const started = await uploads.start(plan, uploadId);
    if (!started.ok) throw new Error(started.problem.error);
    const part = await uploads.putPart(uploadId, 1, new Blob(["x"]).stream(), 1, []);
    expect(part.ok).toBe(true);
    const found = await uploads.find(uploadId);
    await tenant.store.release(runHolder("b"));
    expect(await uploads.find(uploadId)).toEqual(found);
    await tenant.store.release(runHolder("a"));
    expect(await uploads.find(uploadId)).toBeNull();
    await collect();
    const multipart = bucket().resumeMultipartUpload(
      found?.upload.key ?? "",
      found?.upload.multipart_id ?? "",
    );
    await expect(multipart.uploadPart(2, "y")).rejects.toThrow();
    await tenant.age();
    await collect();
    expect(await tenant.leftovers()).toEqual(NOTHING);
  });

  it("uploads that were never completed, with their parts", async () => {
    const tenant = new TestTenant();
    const run = { tenant: tenant.key, run_id: "a" };
    const uploads = new Uploads({ bucket: bucket(), db: env.DIRECTORY, store: tenant.store }, run);
    const plan = { path: "p", content_type: "text/plain", artifact: { artifact_type: "file" } };
    const uploadId = crypto.randomUUID();
    const started = await uploads.start(plan, uploadId);
    if (!started.ok) throw new Error(started.problem.error);
    await uploads.putPart(uploadId, 1, new Blob(["x"]).stream(), 1, []);
    await collect();
    expect(await uploads.find(uploadId)).not.toBeNull();
    await tenant.age();
    await collect();
    expect(await uploads.find(uploadId)).toBeNull();
    const parts = await env.DIRECTORY.prepare(
      "SELECT count(*) AS count FROM upload_parts WHERE upload_id = ?",
    )
      .bind(uploadId)
      .first();
    expect(parts).toEqual({ count: 0 });
    await tenant.age();
    await collect();
    expect(await tenant.leftovers()).toEqual(NOTHING);
  });

  it("a content whose commit never came: the run says that it does not have it", async () => {
    const tenant = new TestTenant();
    await tenant.newRun("a");
    await tenant.store.keep(runHolder("a"), "hello");
    await tenant.store.keep(runHolder("no-such-run"), "other");
    await collect();
    expect(await tenant.leftovers()).toMatchObject({ objects: 2, contents: 2 });
    await tenant.age();
    await collect();
    expect(await tenant.leftovers()).toEqual(NOTHING);
    expect(await tenant.store.read(HELLO)).toBeNull();
  });

  it("a commit that was not confirmed keeps its content, an old version and a removed path too", async () => {
    const tenant = new TestTenant();
    const run = await tenant.newRun("a");
    const content = await tenant.store.keep(runHolder("a"), "hello");
    await submit(run, { command: putCommand("p", content) });
    await put(tenant, "a", "p", "second");
    await submit(run, { command: { op: "remove_artifact", path: "p" } });
    await tenant.age();
    await collect();
    expect(await tenant.leftovers()).toMatchObject({ objects: 2, loose: 0 });
    expect((await tenant.leftovers()).held.join()).not.toContain("asked");
    await tenant.expectReadable([{ sha256: HELLO, text: "hello" }]);
  });

  it("what one run lets go is kept while another has it", async () => {
    const tenant = new TestTenant();
    for (const id of ["a", "b"]) {
      await tenant.newRun(id);
      await put(tenant, id, "p", "hello");
    }
    await tenant.store.release(runHolder("a"));
    await collect();
    expect(await textOf(await tenant.store.read(HELLO))).toBe("hello");
    await tenant.store.release(runHolder("b"));
    await collect();
    expect(await tenant.leftovers()).toEqual(NOTHING);
    // Uploaded again it is a new object: the old one's deletion cannot hit it.
    await put(tenant, "b", "p", "hello");
    await collect();
    expect(await textOf(await tenant.store.read(HELLO))).toBe("hello");
  });

  it("what is held again before it is taken stays", async () => {
    const tenant = new TestTenant();
    await tenant.newRun("a");
    await put(tenant, "a", "p", "hello");
    await tenant.store.release(runHolder("a"));
    expect(await tenant.store.hold("run:b", [HELLO])).toEqual([]);
    await collect();
    expect(await tenant.leftovers()).toMatchObject({ objects: 1, contents: 1 });
  });

  it("what is asked for again while the run is asked stays", async () => {
    const tenant = new TestTenant();
    await tenant.store.keep(runHolder("a"), "hello");
    await tenant.age();
    const runs = {
      getByName: (name: string) => ({
        holdsFiles: async () => {
          if (name.startsWith(`${tenant.key}/`)) await tenant.store.hold(runHolder("a"), [HELLO]);
          return { ok: true, value: [] };
        },
      }),
    };
    await collect({ RUNS: runs as unknown as Env["RUNS"] });
    expect((await tenant.leftovers()).held).toEqual([`run:a ${HELLO} asked`]);
    expect(await textOf(await tenant.store.read(HELLO))).toBe("hello");
  });

  it("runs that cannot be reached lose nothing, and do not hold up the others", async () => {
    const tenant = new TestTenant();
    await tenant.store.keep(runHolder("away"), "hello");
    await tenant.store.keep(runHolder("gone"), "other");
    await tenant.age();
    vi.spyOn(console, "error").mockReturnValue(undefined);
    const runs = {
      getByName: (name: string) => ({
        holdsFiles: async () => {
          if (name.endsWith("/away")) throw new Error("the object is away");
          return { ok: false };
        },
      }),
    };
    const { failed } = await collect({ RUNS: runs as unknown as Env["RUNS"] });
    expect(failed).toBe(1);
    vi.restoreAllMocks();
    const { held } = await tenant.leftovers();
    expect(held).toEqual([`run:away ${HELLO} asked`]);
    await tenant.age();
    await collect();
    expect(await tenant.leftovers()).toEqual(NOTHING);
  });

  it("holders that are no runs are released by who keeps them", async () => {
    const tenant = new TestTenant();
    await tenant.store.keep("archive:a", "hello");
    await tenant.age();
    await collect();
    expect((await tenant.leftovers()).held).toEqual([`archive:a ${HELLO}`]);
    await tenant.store.release("archive:a");
    await collect();
    expect(await tenant.leftovers()).toEqual(NOTHING);
  });

  it("twice changes nothing, and without a bucket there is nothing to do", async () => {
    const { ARTIFACTS: _bucket, ...without } = env;
    expect(await collectArtifacts(without as Env, Date.now())).toEqual({
      uploads: 0,
      references: 0,
      contents: 0,
      objects: 0,
      failed: 0,
    });
    const tenant = new TestTenant();
    await tenant.newRun("a");
    await put(tenant, "a", "p", "hello");
    await tenant.store.keep(runHolder("a"), "other");
    await tenant.age();
    await collect();
    const after = await tenant.leftovers();
    await collect();
    expect(await tenant.leftovers()).toEqual(after);
  });

  it("more references than one statement takes are dropped all the same", async () => {
    const tenant = new TestTenant();
    const { sha256 } = await tenant.store.keep("run:a", "hello");
    await env.DIRECTORY.prepare(
      `INSERT INTO blob_holders (tenant, holder, sha256, asked_at_ms)
       SELECT ?, 'run:a', printf('%064d', value), NULL FROM
         (WITH RECURSIVE n(value) AS (SELECT 1 UNION ALL SELECT value + 1 FROM n WHERE value < 2500) SELECT value FROM n)`,
    )
      .bind(tenant.key)
      .run();
    expect((await tenant.leftovers()).held).toHaveLength(2_501);
    await tenant.store.release("run:a");
    await collect();
    expect(await tenant.leftovers()).toEqual(NOTHING);
    expect(sha256).toBe(HELLO);
  });
});
