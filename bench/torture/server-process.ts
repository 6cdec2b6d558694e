import { startLocalRuntime } from "../../scripts/local-runtime.ts";
import { reasonOf } from "../../scripts/start-error.ts";
import type { FromServer, ServerSettings, ToServer } from "./server.ts";

/*
 * The process that serves Baton while it is tortured, as `npm start` would: it is forked with its settings as the one
 * argument, runs the cron when it is told to, and ends with whoever forked it.
 */

const { port, stateDir, token, main, vars } = JSON.parse(process.argv[2] ?? "") as ServerSettings;
const starting = startLocalRuntime({ port, stateDir, token, main, vars });

process.on("message", (message: ToServer) => void (message.do === "cron" ? runCron(message) : end(0)));
process.on("disconnect", () => void end(1));
// A terminal sends Ctrl-C to this process too; when the server ends is for the torture to say.
for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"] as const) process.on(signal, () => undefined);

starting.then(
  ({ lost }) => lost.then(() => end(1)),
  (error: unknown) => {
    console.error(error);
    process.exit(1);
  },
);

async function runCron({ id, scheduledAtMs }: Extract<ToServer, { do: "cron" }>): Promise<void> {
  try {
    const runtime = await starting;
    await runtime.runCron(scheduledAtMs);
    tell({ did: "cron", id });
  } catch (error) {
    tell({ did: "cron", id, error: reasonOf(error) });
  }
}

/** Nobody may be there any more to hear it. */
function tell(message: FromServer): void {
  if (process.connected) process.send?.(message, undefined, undefined, () => undefined);
}

async function end(exitCode: number): Promise<void> {
  await starting.then((runtime) => runtime.close()).catch(() => undefined);
  process.exit(exitCode);
}
