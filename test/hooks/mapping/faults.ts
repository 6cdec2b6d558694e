import type { Env } from "../../../src/env.ts";

/** The bindings that mapping works with. */
type Bindings = Pick<Env, "RUNS" | "DIRECTORY" | "ARTIFACTS">;

/** What a process that was cut off throws in the test. */
export class CutOff extends Error {}

/**
 * Where a process ends: with its call number `call`, counted from 0, before anything was done or, `after`, with all of it done
 * and its answer lost.
 */
export interface Cut {
  call: number;
  when: "before" | "after";
}

/**
 * The same bindings, for a process that ends at a cut: every call to an object, D1 or R2 counts, and none that comes later is
 * made. The things behind are the real ones.
 */
export function bindingsUntil(env: Bindings, cut: Cut | null): { env: Bindings; calls: () => number } {
  let calls = 0;
  let isOver = false;
  const guarded = async (call: () => unknown): Promise<unknown> => {
    const isLast = cut !== null && calls === cut.call;
    calls += 1;
    if (isOver || (isLast && cut.when === "before")) {
      isOver = true;
      throw new CutOff();
    }
    const result = await call();
    if (isLast || isOver) {
      isOver = true;
      throw new CutOff();
    }
    return result;
  };
  /** An object some of whose methods count as calls; the others give objects that are wrapped in turn. */
  const wrapped = <T extends object>(
    target: T,
    isCall: (name: string) => boolean,
    originals = new Map(),
  ): T =>
    new Proxy(target, {
      get(_target, name) {
        if (name === "then") return undefined;
        const value: unknown = Reflect.get(target, name);
        if (typeof value !== "function") return value;
        return (...args: unknown[]) => {
          const given = args.map((arg) => unwrapped(arg, originals));
          // A method of a stub is no function of which `apply` could be called.
          const call = () =>
            (target as Record<string, (...args: unknown[]) => unknown>)[String(name)]?.(...given);
          if (isCall(String(name))) return guarded(call);
          const made = call() as object;
          const proxy = wrapped(made, isCall, originals);
          originals.set(proxy, made);
          return proxy;
        };
      },
    });
  const unwrapped = (value: unknown, originals: Map<unknown, unknown>): unknown =>
    Array.isArray(value)
      ? value.map((element) => originals.get(element) ?? element)
      : (originals.get(value) ?? value);
  const { ARTIFACTS } = env;
  return {
    calls: () => calls,
    env: {
      RUNS: wrapped(env.RUNS, (name) => name !== "getByName"),
      DIRECTORY: wrapped(env.DIRECTORY, (name) => name !== "prepare" && name !== "bind"),
      ...(ARTIFACTS !== undefined && { ARTIFACTS: wrapped(ARTIFACTS, () => true) }),
    },
  };
}
