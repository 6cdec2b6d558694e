import type { D1Migration } from "cloudflare:test";
import type { Env as BatonEnv } from "../../src/env.ts";

declare global {
  namespace Cloudflare {
    /** What the Worker under test is bound to, with the D1 migrations that only tests are given. */
    interface Env extends BatonEnv {
      TEST_MIGRATIONS: D1Migration[];
    }
    interface GlobalProps {
      mainModule: typeof import("../../src/index.ts");
    }
  }
}
