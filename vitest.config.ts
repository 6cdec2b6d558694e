import { cloudflareTest, readD1Migrations } from "@cloudflare/vitest-plugin";
import { defineConfig } from "vitest/config";
import { outbound } from "./test/support/outbound.ts";

/** Tests that drive a running server over HTTP; all others run inside workerd, beside the Worker's own code. */
const overHttp = ["test/conformance/**/*.test.ts", "test/local/**/*.test.ts"];

export default defineConfig({
  test: {
    projects: [
      {
        plugins: [
          cloudflareTest(async () => ({
            wrangler: { configPath: "./wrangler.toml" },
            miniflare: {
              outboundService: outbound,
              bindings: {
                BATON_TOKEN: "test-token",
                REQUEST_LOG: "none",
                BATON_KEYS: "keys-of-the-tests-0123456789-abcdef",
                TEST_MIGRATIONS: await readD1Migrations("./migrations"),
              },
            },
          })),
        ],
        test: {
          name: "workerd",
          include: ["test/**/*.test.ts"],
          exclude: overHttp,
          setupFiles: ["./test/support/migrate-directory.ts"],
          // Some boards are large, and the machine may be busy with other things.
          testTimeout: 30_000,
          hookTimeout: 30_000,
          // One runtime for all files: storage is shared, so every test names its own runs.
          isolate: false,
        },
      },
      {
        test: {
          name: "http",
          include: overHttp,
          globalSetup: ["./test/support/local-server.ts"],
          // Some of them start servers of their own, several times, and the machine may be busy.
          testTimeout: 120_000,
          // So do their hooks, and browsers.
          hookTimeout: 120_000,
          // These tests wait for answers more than they compute.
          maxWorkers: 4,
          sequence: { groupOrder: 1 },
        },
      },
    ],
  },
});
