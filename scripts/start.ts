import { resolve } from "node:path";
import { whenLauncherIsGone } from "./launcher.ts";
import { type LocalRuntime, startLocalRuntime } from "./local-runtime.ts";
import { everyMinute } from "./minute-cron.ts";
import { reasonOf, StartError } from "./start-error.ts";

/**
 * `npm start`: serves Baton on this machine until Ctrl-C. Environment: PORT (default 8787, 0 takes a free one),
 * STATE_DIR (default .baton), BATON_TOKEN and BATON_KEYS (default: random ones, kept in STATE_DIR), and the Worker's
 * variables CORS_ORIGINS, BATON_ISSUERS and REQUEST_LOG (src/env.ts; here `problems` is the default of the last).
 */
async function start(): Promise<void> {
  let runtime: LocalRuntime | undefined;
  let stopping = false;
  const stop = (exitCode: number): void => {
    // A launcher may pass on a signal that the terminal has sent to this process already.
    if (stopping) return;
    stopping = true;
    void (runtime?.close() ?? Promise.resolve()).finally(() => process.exit(exitCode));
  };
  for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"] as const) process.on(signal, () => stop(0));
  whenLauncherIsGone(() => stop(1));
  const stateDir = fromEnvironment("STATE_DIR") ?? ".baton";
  const token = fromEnvironment("BATON_TOKEN");
  const keys = fromEnvironment("BATON_KEYS");
  runtime = await startLocalRuntime({
    port: parsePort(fromEnvironment("PORT") ?? "8787"),
    stateDir,
    ...(token !== undefined && { token }),
    ...(keys !== undefined && { keys }),
    vars: variables("CORS_ORIGINS", "REQUEST_LOG", "BATON_ISSUERS"),
  });
  const { url, token: accepted, runCron, lost } = runtime;
  // A process that answers nothing would look alive to whoever supervises it.
  void lost.then((error) => {
    console.error(`Baton stopped: ${error.message}`);
    stop(1);
  });
  everyMinute((scheduledAtMs) =>
    runCron(scheduledAtMs).catch((error: unknown) => console.error(`cron: ${reasonOf(error)}`)),
  );
  console.log(`
  Baton is running. Ctrl-C stops it; its state stays.

  URL    ${url}
  Token  ${accepted}
  State  ${resolve(stateDir)}
  Cron   every minute

  Create a run:

  curl -s ${url}/v1/runs -H 'Authorization: Bearer ${accepted}' -H 'content-type: application/json' -d '{"objective":"Try Baton"}'
`);
}

/** A variable's value; an empty one counts as not set. */
function fromEnvironment(name: string): string | undefined {
  return process.env[name] || undefined;
}

/** Those of these variables that are set. */
function variables(...names: string[]): Record<string, string> {
  const set: Record<string, string> = {};
  for (const name of names) {
    const value = fromEnvironment(name);
    if (value !== undefined) set[name] = value;
  }
  return set;
}

function parsePort(text: string): number {
  const port = Number(text);
  if (!/^\d+$/.test(text) || port > 65_535) {
    throw new StartError(`PORT must be a whole number from 0 to 65535, not "${text}"`);
  }
  return port;
}

start().catch((error: unknown) => {
  console.error(error instanceof StartError ? `Baton did not start: ${error.message}` : error);
  process.exit(1);
});
