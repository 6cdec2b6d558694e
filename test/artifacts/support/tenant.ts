import { env } from "cloudflare:workers";
import { expect } from "vitest";
import { runHolder } from "../../../src/artifacts/keys.ts";
import type { ArtifactStore } from "../../../src/artifacts/store.ts";
import type { CommandOf } from "../../../src/domain/command.ts";
import { runObjectName, tenantKey } from "../../../src/identity/tenant.ts";
import type { FileVersion } from "../../../src/protocol/file-version.ts";
import { type RunClient, runClient, submit } from "../../../src/run/run-client.ts";
import { draftOf } from "../../run/support/test-run.ts";
import { keysOf, storeOf, textOf } from "./store.ts";

/** A tenant of a test's own, with runs of its own: collection sees all tenants, and tests must not see each other. */
export class TestTenant {
  readonly key: string;
  readonly store: ArtifactStore;
  readonly #workspace = crypto.randomUUID();

  constructor() {
    this.key = tenantKey(this.#tenant());
    this.store = storeOf(this.key).store;
  }

  #tenant() {
    return { org_id: "test", workspace_id: this.#workspace, source: "local_implicit" } as const;
  }

  run(id: string): RunClient {
    return runClient(env.RUNS, runObjectName(this.key, id));
  }

  async newRun(id: string): Promise<RunClient> {
    const run = this.run(id);
    const created = await run.create({ tenant: this.#tenant(), draft: draftOf(id), command: null });
    expect(created.ok).toBe(true);
    return run;
  }

  /** Everything that was done until now was done more than a day ago. */
  async age(): Promise<void> {
    const db = env.DIRECTORY;
    await db.batch([
      db
        .prepare("UPDATE blob_holders SET asked_at_ms = 1 WHERE tenant = ? AND asked_at_ms IS NOT NULL")
        .bind(this.key),
      db.prepare("UPDATE uploads SET started_at_ms = 1 WHERE tenant = ?").bind(this.key),
      db
        .prepare("UPDATE loose_objects SET due_at_ms = 1 WHERE instr(key, ?) = 1")
        .bind(`artifacts/${this.key}/`),
    ]);
  }

  /** What D1 and R2 have of this tenant. */
  async leftovers(): Promise<{ objects: number; contents: number; loose: number; held: string[] }> {
    const db = env.DIRECTORY;
    const count = async (query: string, binding: string) =>
      (await db.prepare(query).bind(binding).first<{ count: number }>())?.count ?? -1;
    const { results } = await db
      .prepare(
        "SELECT holder, sha256, asked_at_ms FROM blob_holders WHERE tenant = ? ORDER BY holder, sha256",
      )
      .bind(this.key)
      .all<{ holder: string; sha256: string; asked_at_ms: number | null }>();
    return {
      objects: (await keysOf(this.key)).length,
      contents: await count("SELECT count(*) AS count FROM blobs WHERE tenant = ?", this.key),
      loose: await count(
        "SELECT count(*) AS count FROM loose_objects WHERE instr(key, ?) = 1",
        `artifacts/${this.key}/`,
      ),
      held: results.map(({ holder, sha256, asked_at_ms }) =>
        [holder, sha256, ...(asked_at_ms === null ? [] : ["asked"])].join(" "),
      ),
    };
  }

  /** Every version of these runs can be read, and is what it says. */
  async expectReadable(versions: { sha256: string; text: string }[]): Promise<void> {
    for (const { sha256, text } of versions) expect(await textOf(await this.store.read(sha256))).toBe(text);
  }
}

/** The command that puts a content. */
export function putCommand(
  path: string,
  content: { sha256: string; bytes: number },
): CommandOf<"put_artifact"> {
  return {
    op: "put_artifact",
    path,
    ...content,
    content_type: "text/plain",
    artifact: { artifact_type: "file" },
  };
}

/** Puts a text into a run as requests do: hold, commit, confirm. */
export async function put(tenant: TestTenant, id: string, path: string, text: string): Promise<FileVersion> {
  const content = await tenant.store.keep(runHolder(id), text);
  const answer = await submit(tenant.run(id), { command: putCommand(path, content) });
  if (!answer.ok || answer.outcome?.op !== "put_artifact") throw new Error(JSON.stringify(answer));
  await tenant.store.confirm(runHolder(id), [content.sha256]);
  return answer.outcome.file;
}
