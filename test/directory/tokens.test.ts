import { env } from "cloudflare:workers";
import { describe, expect, it } from "vitest";
import { listAudit } from "../../src/directory/audit-events.ts";
import { addToken, findToken, forgetTokens, listTokens, revokeToken } from "../../src/directory/tokens.ts";
import { rootPrincipal } from "../../src/identity/principal.ts";
import { tenantKey, tenantOf } from "../../src/identity/tenant.ts";

const DAY_MS = 24 * 60 * 60 * 1000;
const db = env.DIRECTORY;

function newToken(expires_at_ms: number) {
  const tenant = tenantOf(`org-${crypto.randomUUID()}`, "main", null);
  const token_id = `tok_${crypto.randomUUID()}`;
  return { ...rootPrincipal(tenant), kind: "token" as const, token_id, expires_at_ms };
}

async function plan(sql: string): Promise<string> {
  const { results } = await db.prepare(`EXPLAIN QUERY PLAN ${sql}`).all<{ detail: string }>();
  return results.map(({ detail }) => detail).join("; ");
}

describe("tokens in the directory", () => {
  it("one of an id that is taken changes nothing, and leaves no audit event", async () => {
    const token = newToken(DAY_MS);
    const by = rootPrincipal(token.tenant);
    const told = { name: "first", fingerprint: null };
    expect(await addToken(db, by, token, told, 1)).toBe(true);
    expect(await addToken(db, by, token, { ...told, name: "second" }, 2)).toBe(false);
    expect((await findToken(db, tenantKey(token.tenant), token.token_id))?.name).toBe("first");
    expect(await listAudit(db, tenantKey(token.tenant), Number.MAX_SAFE_INTEGER, 10)).toHaveLength(1);
  });

  it("are revoked once, however often that is asked: every isolate reads each revocation", async () => {
    const token = newToken(DAY_MS);
    const by = rootPrincipal(token.tenant);
    await addToken(db, by, token, { name: null, fingerprint: null }, 1);
    for (const nowMs of [2, 3, 4]) {
      const row = await findToken(db, tenantKey(token.tenant), token.token_id);
      if (row !== null) await revokeToken(db, by, row, nowMs);
    }
    const rows = db.prepare("SELECT count(*) AS n FROM revocations WHERE token_id = ?").bind(token.token_id);
    expect(await rows.first("n")).toBe(1);
    const audited = await listAudit(db, tenantKey(token.tenant), Number.MAX_SAFE_INTEGER, 10);
    expect(audited.map(({ type }) => type)).toEqual(["token.revoked", "token.minted"]);
    expect((await findToken(db, tenantKey(token.tenant), token.token_id))?.revoked_at_ms).toBe(2);
  });

  it("that expired are kept for a while, and as long what revokes them: a clock may have run ahead; what is valid stays", async () => {
    const nowMs = 100 * DAY_MS;
    const tokens = [newToken(nowMs - 31 * DAY_MS), newToken(nowMs - DAY_MS), newToken(nowMs + DAY_MS)];
    for (const token of tokens) {
      const by = rootPrincipal(token.tenant);
      await addToken(db, by, token, { name: null, fingerprint: null }, 1);
      const row = await findToken(db, tenantKey(token.tenant), token.token_id);
      if (row !== null) await revokeToken(db, by, row, 2);
    }
    await forgetTokens(db, nowMs, 30 * DAY_MS, 1_000);
    const left = await Promise.all(
      tokens.map(async ({ tenant, token_id }) => [
        (await listTokens(db, tenantKey(tenant), null, 10)).length,
        await db
          .prepare("SELECT count(*) AS n FROM revocations WHERE token_id = ?")
          .bind(token_id)
          .first("n"),
      ]),
    );
    expect(left).toEqual([
      [0, 0],
      [1, 1],
      [1, 1],
    ]);
  });

  it("are found, listed and forgotten by index; so is the other tenant that has a run", async () => {
    expect(
      await plan(
        "SELECT * FROM tokens WHERE tenant = 'a' AND (minted_at_ms, token_id) < (5, 'x') ORDER BY minted_at_ms DESC, token_id DESC LIMIT 5",
      ),
    ).toBe("SEARCH tokens USING INDEX tokens_by_age (tenant=? AND (minted_at_ms,token_id)<(?,?))");
    expect(
      await plan(
        "SELECT tenant, token_id FROM tokens WHERE expires_at_ms < 5 ORDER BY expires_at_ms LIMIT 5",
      ),
    ).toContain("USING COVERING INDEX tokens_by_expiry (expires_at_ms<?)");
    expect(
      await plan(
        "SELECT seq, token_id, expires_at_ms FROM revocations WHERE seq > 5 AND expires_at_ms > 5 ORDER BY seq LIMIT 5",
      ),
    ).toBe("SEARCH revocations USING INTEGER PRIMARY KEY (rowid>?)");
    expect(
      await plan("SELECT tenant FROM runs WHERE run_id = 'a' AND tenant <> 'local/local' LIMIT 2"),
    ).toContain("INDEX runs_of_other_tenants (run_id=?)");
  });
});
