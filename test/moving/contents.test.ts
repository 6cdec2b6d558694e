import { env } from "cloudflare:workers";
import { describe, expect, it } from "vitest";
import { runHolder } from "../../src/artifacts/keys.ts";
import { type ArtifactStore, artifactStore } from "../../src/artifacts/store.ts";
import { runObjectName, tenantKey } from "../../src/identity/tenant.ts";
import { collectArtifacts } from "../../src/maintenance/collect-artifacts.ts";
import { artifactBlobs } from "../../src/moving/blobs.ts";
import { exportText } from "../../src/moving/export.ts";
import { BLOB_PART_BYTES } from "../../src/protocol/export-format.ts";
import type { Tenant } from "../../src/protocol/run.ts";
import { runClient } from "../../src/run/run-client.ts";
import { arrive } from "../run/support/moving.ts";
import { accepted, newTestRun, TENANT, type TestRun } from "../run/support/test-run.ts";

function storeOf(tenant: string): ArtifactStore {
  const store = artifactStore(env, tenant);
  if (store === null) throw new Error("tests have a bucket");
  return store;
}

/** A tenant that has nothing yet, and the object of a run in it. */
function elsewhere(): { run: TestRun; tenant: Tenant; store: ArtifactStore; key: string } {
  const tenant: Tenant = { org_id: crypto.randomUUID(), workspace_id: "w", source: "explicit" };
  const key = tenantKey(tenant);
  const id = crypto.randomUUID();
  const name = runObjectName(key, id);
  const run = { id, stub: env.RUNS.getByName(name), client: runClient(env.RUNS, name) };
  return { run, tenant, store: storeOf(key), key };
}

async function withArtifacts(contents: Uint8Array[]): Promise<TestRun> {
  const run = await newTestRun();
  for (const [index, content] of contents.entries()) {
    const kept = await storeOf(TENANT).keep(runHolder(run.id), content);
    await accepted(run, {
      op: "put_artifact",
      path: `out/${index}.bin`,
      ...kept,
      content_type: "application/octet-stream",
      artifact: { artifact_type: "file" },
    });
  }
  return run;
}

async function exportOf(run: TestRun, inline: boolean): Promise<string> {
  const start = await run.client.startExport();
  if (!start.ok) throw new Error(start.refusal.code);
  const blobs = artifactBlobs(env, TENANT, run.id);
  let text = "";
  for await (const piece of exportText(run.client, start.value, { blobs, inline })) text += piece;
  return text;
}

const random = (length: number): Uint8Array => {
  const bytes = new Uint8Array(length);
  for (let offset = 0; offset < length; offset += 65_536) {
    crypto.getRandomValues(bytes.subarray(offset, Math.min(length, offset + 65_536)));
  }
  return bytes;
};

async function holders(key: string): Promise<number> {
  const row = await env.DIRECTORY.prepare("SELECT count(*) AS held FROM blob_holders WHERE tenant = ?")
    .bind(key)
    .first<{ held: number }>();
  return row?.held ?? 0;
}

describe("contents that a run refers to", () => {
  const sizes = [0, 1, BLOB_PART_BYTES, BLOB_PART_BYTES + 1, 3 * BLOB_PART_BYTES - 5];

  it("come inline when asked for, and are stored where the run arrives", async () => {
    const contents = sizes.map(random);
    const run = await withArtifacts(contents);
    const text = await exportOf(run, true);
    const there = elsewhere();
    const arrived = await arrive(there.run, text, { tenant: there.tenant });
    expect(arrived).toMatchObject({
      ok: true,
      value: {
        run: { tenant_context: there.tenant },
        checks: { blobs: sizes.length, inline_blobs: sizes.length },
      },
    });
    const file = await there.run.client.readFile("out/3.bin", null);
    expect(file).toMatchObject({ ok: true });
    for (const line of text.split("\n").filter((line) => line.startsWith('{"blob":'))) {
      const { blob } = JSON.parse(line) as { blob: { sha256: string; bytes: number } };
      const read = await there.store.read(blob.sha256);
      expect(read?.bytes).toBe(blob.bytes);
      const known = await storeOf(TENANT).read(blob.sha256);
      expect(await new Response(read?.body).bytes()).toEqual(await new Response(known?.body).bytes());
    }
    expect(await holders(there.key)).toBe(sizes.length);
  });

  it("need not come along where they are already", async () => {
    const run = await withArtifacts([random(10)]);
    const text = await exportOf(run, false);
    expect(text).not.toContain("blob_part");
    const { objectOf } = await import("../run/support/test-run.ts");
    expect(await arrive(objectOf(), text)).toMatchObject({
      ok: true,
      value: { checks: { blobs: 1, inline_blobs: 0 } },
    });
  });

  it("that are nowhere are a reason to refuse, by name, and nothing is left", async () => {
    const run = await withArtifacts([random(10), random(11)]);
    const there = elsewhere();
    const refused = await arrive(there.run, await exportOf(run, false), { tenant: there.tenant });
    expect(refused).toMatchObject({
      ok: false,
      refusal: {
        issues: [{ rule: "content_missing", message: expect.stringMatching(/[0-9a-f]{64}, [0-9a-f]{64}/) }],
      },
    });
    expect(await holders(there.key)).toBe(0);
  });

  /** Everything that was asked for in a tenant was asked for more than a day ago, and cron has looked. */
  async function daysPass(tenant: string): Promise<void> {
    await env.DIRECTORY.prepare(
      "UPDATE blob_holders SET asked_at_ms = 1 WHERE tenant = ? AND asked_at_ms IS NOT NULL",
    )
      .bind(tenant)
      .run();
    await collectArtifacts(env, Date.now());
  }

  /** The export with another last part than its digest says. */
  function damaged(text: string): string {
    const last = text.lastIndexOf('{"blob_part":"') + '{"blob_part":"'.length;
    return text.slice(0, last) + (text[last] === "A" ? "B" : "A") + text.slice(last + 1);
  }

  it("that are not what their digest says are refused, and collection lets go of what came before them", async () => {
    const run = await withArtifacts([random(10), random(11)]);
    const there = elsewhere();
    const refused = await arrive(there.run, damaged(await exportOf(run, true)), { tenant: there.tenant });
    expect(refused).toMatchObject({ ok: false, refusal: { issues: [{ rule: "digest" }] } });
    expect((await there.run.client.readOverview()).ok).toBe(false);
    await daysPass(there.key);
    expect(await holders(there.key)).toBe(0);
  });

  it("stay where a later attempt brought the run, whenever an earlier one fails", async () => {
    const run = await withArtifacts([random(10), random(11)]);
    const text = await exportOf(run, true);
    const there = elsewhere();
    const attempts = [damaged(text), text].map((lines) => arrive(there.run, lines, { tenant: there.tenant }));
    expect((await Promise.all(attempts)).map(({ ok }) => ok)).toEqual([false, true]);
    await daysPass(there.key);
    expect(await holders(there.key)).toBe(2);
  });
});
