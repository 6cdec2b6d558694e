import { describe, expect, it } from "vitest";
import { HELLO, keysOf, storeOf, textOf } from "./support/store.ts";

describe("design: contents are stored once per tenant", () => {
  it("keeps texts and bytes alike, once, and reads them whole or in part", async () => {
    const { tenant, store } = storeOf();
    expect(await store.read(HELLO)).toBeNull();
    expect(await store.keep("run:a", "hello")).toEqual({ sha256: HELLO, bytes: 5 });
    expect(await store.keep("run:b", new TextEncoder().encode("hello"))).toEqual({ sha256: HELLO, bytes: 5 });
    expect(await keysOf(tenant)).toHaveLength(1);
    expect(await textOf(await store.read(HELLO))).toBe("hello");
    const part = await store.read(HELLO, { offset: 1, length: 3 });
    expect(part?.bytes).toBe(5);
    expect(await textOf(part)).toBe("ell");
  });

  it("another tenant does not have them", async () => {
    await storeOf().store.keep("run:a", "hello");
    const { store } = storeOf();
    expect(await store.read(HELLO)).toBeNull();
    expect(await store.hold("run:a", [HELLO])).toEqual([HELLO]);
  });

  it("holding tells which contents there are not", async () => {
    const { store } = storeOf();
    const { sha256 } = await store.keep("run:a", "x");
    expect(await store.hold("run:b", [HELLO, sha256, HELLO])).toEqual([HELLO, HELLO]);
    expect(await store.hold("run:b", [])).toEqual([]);
  });

  it("two that keep the same at once store it once", async () => {
    const { tenant, store } = storeOf();
    await Promise.all(Array.from({ length: 8 }, (_, index) => store.keep(`run:${index}`, "hello")));
    expect(await keysOf(tenant)).toHaveLength(1);
    expect(await textOf(await store.read(HELLO))).toBe("hello");
  });
});
