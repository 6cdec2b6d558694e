/** What the tests import as `vitest`: its expectations and its spies, but groups and tests that are only collected. */
export { expect, vi } from "vitest";
export { describe, it } from "./suite.ts";
