import { describe, expect, it, vi } from "vitest";
import { type Revocation, RevocationsUnknown, RevokedSet } from "../../src/identity/revoked-set.ts";

const SECOND = 1_000;

/** What is written down somewhere, and a set that reads it. */
function newSet() {
  const written: Revocation[] = [];
  const reads: number[] = [];
  let isDown = false;
  let hangs = false;
  const background: Promise<void>[] = [];
  const set = new RevokedSet(async (afterSeq, nowMs) => {
    reads.push(afterSeq);
    if (isDown) throw new Error("down");
    if (hangs) return new Promise(() => undefined);
    return written.filter(({ seq, expires_at_ms }) => seq > afterSeq && expires_at_ms > nowMs);
  });
  return {
    set,
    reads,
    background,
    revoke: (token_id: string, expires_at_ms = 10_000 * SECOND) =>
      written.push({ seq: written.length + 1, token_id, expires_at_ms }),
    breakDown: () => {
      isDown = true;
    },
    hang: () => {
      hangs = true;
    },
    /** Checks as a request at that time does; what it leaves behind is done when it resolves. */
    check: async (tokenId: string, nowMs: number): Promise<boolean> => {
      await set.refresh(nowMs, (reading) => background.push(reading));
      const isRevoked = set.hasAny([tokenId]);
      await Promise.all(background);
      return isRevoked;
    },
  };
}

describe("what is revoked, as an isolate knows it", () => {
  it("R1 a first request reads all, later ones only what is new", async () => {
    const { check, revoke, reads } = newSet();
    revoke("a");
    expect(await check("a", 0)).toBe(true);
    revoke("b");
    await check("b", 10 * SECOND);
    expect(await check("b", 10 * SECOND)).toBe(true);
    expect(await check("a", 10 * SECOND)).toBe(true);
    expect(reads).toEqual([0, 1]);
  });

  it.each([0, 5, 9.999, 10, 15, 20, 29.999, 30, 31])(
    "R1 revoked right after a read: refused from 30 s on, whenever it was checked meanwhile (%d s)",
    async (betweenS) => {
      const { check, revoke } = newSet();
      await check("a", 0);
      revoke("a");
      await check("a", betweenS * SECOND);
      expect(await check("a", 30 * SECOND)).toBe(true);
    },
  );

  it("R2 nothing is waited for before the bound, and one read at a time is on beside requests", async () => {
    const { set, background, hang, reads } = newSet();
    const check = (nowMs: number) => set.refresh(nowMs, (reading) => background.push(reading));
    await check(0);
    hang();
    for (const seconds of [1, 9, 10, 11, 14, 15, 29]) await check(seconds * SECOND);
    // At 10 s, and again when that one is taken for dead, at 15 and at 29.
    expect(reads).toHaveLength(4);
  });

  it("R3 that cannot be read: known for 30 s, then refused, and read again when it can be", async () => {
    const { check, revoke, breakDown, set } = newSet();
    await check("a", 0);
    revoke("a");
    breakDown();
    expect(await check("a", 29 * SECOND)).toBe(false);
    await expect(set.refresh(30 * SECOND, () => undefined)).rejects.toThrow(RevocationsUnknown);
  });

  it("R3 a read that never ends: refused after a while, and not waited for", async () => {
    vi.useFakeTimers();
    try {
      const { set, hang } = newSet();
      hang();
      const refused = expect(set.refresh(0, () => undefined)).rejects.toThrow(RevocationsUnknown);
      await vi.advanceTimersByTimeAsync(5 * SECOND);
      await refused;
    } finally {
      vi.useRealTimers();
    }
  });

  it("R1 a clock that goes back makes nothing younger", async () => {
    const { check, revoke } = newSet();
    await check("a", 1_000 * SECOND);
    revoke("a");
    expect(await check("a", 900 * SECOND)).toBe(true);
  });

  it("R1 what a clock that ran ahead took for expired counts again when it has gone back", async () => {
    const { check, revoke } = newSet();
    revoke("a", 1_000 * SECOND);
    expect(await check("a", 0)).toBe(true);
    expect(await check("a", 2_000 * SECOND)).toBe(false);
    expect(await check("a", 100 * SECOND)).toBe(true);
  });

  it("R3 never read: refused", async () => {
    const { set, breakDown } = newSet();
    breakDown();
    await expect(set.refresh(0, () => undefined)).rejects.toThrow(RevocationsUnknown);
  });

  it("what has expired is forgotten, and what this isolate revokes counts at once", async () => {
    const { set, check, revoke } = newSet();
    revoke("a", 20 * SECOND);
    expect(await check("a", 0)).toBe(true);
    expect(await check("a", 40 * SECOND)).toBe(false);
    set.add("c", 100 * SECOND);
    expect(await check("c", 41 * SECOND)).toBe(true);
  });
});
