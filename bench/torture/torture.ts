import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import type { DrillResult } from "../drill/drill.ts";
import type { Plan } from "../drill/plan.ts";
import { createRng } from "../drill/rng.ts";
import { ServerClock } from "./clock.ts";
import { within } from "./deadline.ts";
import { drillFindings, failEmpty } from "./findings.ts";
import { Lanes } from "./lanes.ts";
import { startObservers } from "./observers/all.ts";
import type { Disturbances, Finding, Observers, Violation } from "./observers/observer.ts";
import { freePort } from "./ports.ts";
import { type BadNetwork, type NetworkCounts, startBadNetwork } from "./proxy.ts";
import { type CronRun, drawSchedule, type Stretch } from "./schedule.ts";
import { TorturedServer, type Victim } from "./server.ts";

export interface TortureOptions {
  readonly kills: number;
  /** Whole number from 0 to 2^32 − 1. It fixes what is done and when, not how that falls in with what the server does. */
  readonly seed: number;
  readonly lanes: number;
  /** Agents of each lane. */
  readonly agents: number;
  /** Worked by every drill; without it each has one of its own. */
  readonly plan?: Plan;
  /** How many tasks such a plan has. Default 150 to 400. */
  readonly tasks?: { readonly min: number; readonly max: number };
  readonly onProgress?: (progress: TortureProgress) => void;
}

export interface TortureProgress {
  /** What goes on, for people. */
  readonly phase: string;
  readonly kills: number;
  readonly elapsedMs: number;
}

export interface TortureResult {
  readonly seed: number;
  /** How many kills were asked for. */
  readonly asked: number;
  /** By who was killed. */
  readonly kills: Readonly<Record<Victim, number>>;
  /** Those of them that met a server that had not begun to serve. */
  readonly killsWhileStarting: number;
  /** From a kill to the first answer afterwards, in milliseconds; what was killed before it answered counts once. */
  readonly outagesMs: readonly number[];
  readonly network: Readonly<NetworkCounts>;
  /** How often the cron ran to its end, and how often a kill came between. */
  readonly crons: { readonly ran: number; readonly broken: number };
  readonly jumps: { readonly forward: number; readonly back: number };
  readonly drills: readonly DrillResult[];
  /** One line of the report each. */
  readonly findings: readonly Finding[];
  /** Whether the storage was read: not where Node has no SQLite, nor where the torture broke off before. */
  readonly storage: "read" | "no_sqlite" | "not_reached";
  readonly elapsedMs: number;
  /** What the server left behind, and what it printed; kept where something was wrong. */
  readonly keptDir?: string;
}

/** Not by the seed: another torture of the same seed on this machine, whose server happens to be away, must not be met. */
const token = `token-of-the-torture-${crypto.randomUUID()}`;
const portsSeed = crypto.getRandomValues(new Uint32Array(1))[0] ?? 0;
/** A start takes some seconds, and starts are killed, too. */
const outageMs = 180_000;
/** How long each phase may take at most, in milliseconds: what takes longer hangs, and is reported. */
const limitsMs = {
  prepare: 60_000,
  beforeKill: 10_000,
  aroundJump: 20_000,
  finish: 360_000,
  audit: 120_000,
  observers: 240_000,
};

/** Somebody ended the torture before its end: it has no result. */
export class Interrupted extends Error {
  override readonly name = "Interrupted";
}

/**
 * One torture: a server on fresh storage, drills and observers at it through a bad network, and kills, crons and jumps of the
 * clock by schedule; then everything is read back and judged. Whatever goes wrong is in the result.
 */
export class Torture {
  readonly #options: TortureOptions;
  readonly #startedMs = performance.now();
  readonly #dir = mkdtempSync(join(tmpdir(), "baton-torture-"));
  /** One for each kill: who serves again for a moment, unnoticed, can send deliveries, and die over them. */
  readonly #outages: { fromMs: number; untilMs?: number }[] = [];
  /** How long the server did not answer, from one answer to the next. */
  readonly #awayMs: number[] = [];
  #awaySinceMs: number | undefined;
  readonly #kills: Record<Victim, number> = { server: 0, runtime: 0, both: 0 };
  readonly #crons: { fromMs: number; untilMs: number; error: string | undefined }[] = [];
  readonly #cronsAtWork: Promise<void>[] = [];
  /** What the server itself did wrong: it hung, survived, died by itself. */
  readonly #faults: Violation[] = [];
  readonly #findings: Finding[] = [];
  #killsWhileStarting = 0;
  #answered = 0;
  #phase = "starting";
  #server: TorturedServer | undefined;
  #clock = new ServerClock("");
  #network: BadNetwork | undefined;
  #observers: Observers | undefined;
  #lanes: Lanes | undefined;
  #drills: DrillResult[] = [];
  #storage: TortureResult["storage"] = "not_reached";
  #isDestroyed = false;

  constructor(options: TortureOptions) {
    this.#options = options;
  }

  /** Where the server's storage and output lie. */
  get dir(): string {
    return this.#dir;
  }

  /** @throws Interrupted when it is destroyed meanwhile: what a server does that is taken away is no violation. */
  async run(): Promise<TortureResult> {
    try {
      await this.#torture();
    } catch (error) {
      const detail = `${this.#phase}: ${error instanceof Error ? (error.stack ?? error.message) : String(error)}`;
      this.#faults.push({ rule: "broken_off", detail });
    } finally {
      await this.#close();
    }
    if (this.#isDestroyed) throw new Interrupted("the torture was interrupted");
    const result = this.#result();
    if (!result.findings.some(({ violations }) => violations.length > 0)) {
      rmSync(this.#dir, { recursive: true, force: true, maxRetries: 5 });
      return result;
    }
    this.#keepRecords();
    return { ...result, keptDir: this.#dir };
  }

  /** What the drills that something is held against have sent and been answered, for whoever looks into it. */
  #keepRecords(): void {
    const accused = new Set(
      this.#drills.filter(({ violations }) => violations.length > 0).map(({ runId }) => runId),
    );
    for (const { runId, records } of this.#lanes?.drills ?? []) {
      if (accused.has(runId)) writeFileSync(join(this.#dir, `${runId}.json`), JSON.stringify(records));
    }
  }

  /** Ends everything at once and leaves nothing behind; for a torture that is interrupted. */
  async destroy(): Promise<void> {
    this.#isDestroyed = true;
    await this.#close();
    rmSync(this.#dir, { recursive: true, force: true, maxRetries: 5 });
  }

  async #torture(): Promise<void> {
    const { seed, kills } = this.#options;
    const schedule = drawSchedule(seed, kills);
    const server = await this.#prepare();
    for (const stretch of schedule.stretches) await this.#endure(server, stretch);

    const launchedMs = performance.now();
    this.#runCrons(server, schedule.tail.crons, launchedMs);
    await this.#awaitServer(server);
    await this.#jump(schedule.tail.jumps, performance.now());
    this.#enter("the last drills");
    await within(limitsMs.finish, "finishing the drills at work", this.#lanes?.finish() ?? Promise.resolve());
    await Promise.all(this.#cronsAtWork);
    await this.#judge(server);
  }

  /** The server is up, watched and at work when this resolves. */
  async #prepare(): Promise<TorturedServer> {
    const { seed, lanes, agents, plan, tasks = { min: 150, max: 400 } } = this.#options;
    mkdirSync(join(this.#dir, "state"));
    const port = await freePort(createRng(portsSeed, 0));
    const server = new TorturedServer({
      port,
      stateDir: join(this.#dir, "state"),
      token,
      main: "bench/torture/worker/worker.ts",
      logFile: join(this.#dir, "server.log"),
      vars: () => ({ CLOCK_OFFSET_MS: String(this.#clock.offsetMs) }),
    });
    this.#server = server;
    this.#clock = new ServerClock(server.url);
    server.launch();
    await server.answers();
    const network = await startBadNetwork(server.url, seed);
    this.#network = network;
    const disturbances: Disturbances = { outages: this.#outages, jumps: this.#clock.observed };
    const observers = await within(
      limitsMs.prepare,
      "starting the observers",
      startObservers({ proxyUrl: network.url, url: server.url, token, seed, disturbances }),
    );
    this.#observers = observers;
    this.#lanes = new Lanes({
      lanes,
      agents,
      seed,
      ...(plan !== undefined && { plan }),
      tasks,
      url: network.url,
      auditUrl: server.url,
      token,
      outageMs,
      clockJumps: this.#clock.jumps,
      onRun: (runId) => observers.runStarted(runId),
    });
    return server;
  }

  /** From a launch to the next kill. */
  async #endure(server: TorturedServer, { kill, crons, jumps }: Stretch): Promise<void> {
    const launchedMs = performance.now();
    this.#runCrons(server, crons, launchedMs);
    if (kill.when === "serving") {
      await this.#awaitServer(server);
      const runtime = server.runtimePid;
      const servesSinceMs = performance.now();
      await this.#jump(jumps, servesSinceMs);
      await reach(servesSinceMs + kill.afterMs);
      await within(
        limitsMs.beforeKill,
        "the observers before a kill",
        this.#observers?.beforeKill() ?? Promise.resolve(),
      );
      if (server.runtimePid !== runtime) {
        this.#faults.push({ rule: "runtime_ended", detail: "the runtime ended though nobody had killed it" });
      }
    } else {
      await delay(kill.afterMs);
      this.#killsWhileStarting += 1;
    }
    this.#enter(`killing the ${kill.victim}`);
    this.#endOutage();
    this.#outages.push({ fromMs: Date.now() });
    this.#awaySinceMs ??= performance.now();
    const killed = await server.kill(kill.victim);
    this.#kills[killed] += 1;
    server.revive();
  }

  /** Waits until the server answers again, with the clock that it should have. */
  async #awaitServer(server: TorturedServer): Promise<void> {
    this.#enter("waiting for the server");
    await server.answers();
    this.#answered += 1;
    this.#endOutage();
    if (this.#awaySinceMs !== undefined) this.#awayMs.push(performance.now() - this.#awaySinceMs);
    this.#awaySinceMs = undefined;
    const offsetMs = await this.#clock.read();
    if (offsetMs !== this.#clock.offsetMs) {
      const detail = `the clock is ${offsetMs} ms ahead, not ${this.#clock.offsetMs} ms: was the runtime started anew?`;
      this.#faults.push({ rule: "clock_lost", detail });
    }
    this.#enter("at work");
  }

  #endOutage(): void {
    const outage = this.#outages.at(-1);
    if (outage !== undefined) outage.untilMs ??= Date.now();
  }

  async #jump(jumps: Stretch["jumps"], sinceMs: number): Promise<void> {
    for (const { atMs, byMs } of jumps) {
      await reach(sinceMs + atMs);
      await this.#aroundJump(() => this.#observers?.beforeJump(byMs));
      await this.#clock.jump(byMs);
      await this.#aroundJump(() => this.#observers?.afterJump());
    }
  }

  async #aroundJump(observe: () => Promise<void> | undefined): Promise<void> {
    await within(limitsMs.aroundJump, "the observers around a jump", observe() ?? Promise.resolve());
  }

  /** Has the cron run at its times; whether it did is judged at the end. */
  #runCrons(server: TorturedServer, crons: readonly CronRun[], sinceMs: number): void {
    for (const { atMs, toldMs, twice } of crons) {
      const run = async (): Promise<void> => {
        await reach(sinceMs + atMs);
        const once = async (): Promise<void> => {
          const fromMs = Date.now();
          const error = await server.cron(this.#clock.nowMs + toldMs);
          this.#crons.push({ fromMs, untilMs: Date.now(), error });
        };
        await Promise.all(twice ? [once(), once()] : [once()]);
      };
      const atWork = run();
      // A cron that hangs is told at the end.
      atWork.catch(() => undefined);
      this.#cronsAtWork.push(atWork);
    }
  }

  /** Reads everything back, first from the server and then from its storage. */
  async #judge(server: TorturedServer): Promise<void> {
    this.#enter("the audit");
    for (const drill of this.#lanes?.drills ?? []) {
      this.#drills.push(await within(limitsMs.audit, `the audit of ${drill.runId}`, drill.audit()));
    }
    this.#findings.push(...drillFindings(this.#drills));
    this.#enter("what the observers saw");
    const observers = this.#observers;
    if (observers === undefined) return;
    this.#findings.push(...(await within(limitsMs.observers, "what the observers saw", observers.check())));
    await observers.close();
    this.#enter("closing the server");
    await server.close();
    this.#enter("reading the storage");
    const stored = await observers.checkStorage(join(this.#dir, "state"));
    this.#storage = stored === null ? "no_sqlite" : "read";
    this.#findings.push(...(stored ?? []));
  }

  #result(): TortureResult {
    const errors = this.#crons.filter(({ error }) => error !== undefined);
    for (const cron of errors) {
      if (
        this.#outages.some(({ fromMs, untilMs = Number.POSITIVE_INFINITY }) => overlap(cron, fromMs, untilMs))
      )
        continue;
      this.#faults.push({
        rule: "cron_failed",
        detail: `the cron failed though nobody was killed: ${cron.error}`,
      });
    }
    const jumps = this.#clock.jumps;
    const crons = { ran: this.#crons.length - errors.length, broken: errors.length };
    const server: Finding = {
      name: "the server started, died and ran its cron when it was told to, and at no other time",
      examined: this.#answered + crons.ran,
      violations: this.#faults,
    };
    return {
      seed: this.#options.seed,
      asked: this.#options.kills,
      kills: this.#kills,
      killsWhileStarting: this.#killsWhileStarting,
      outagesMs: this.#awayMs,
      network: this.#network?.counts ?? { connections: 0, refused: 0, cut: 0, swallowed: 0, delayed: 0 },
      crons,
      jumps: {
        forward: jumps.filter(({ byMs }) => byMs > 0).length,
        back: jumps.filter(({ byMs }) => byMs < 0).length,
      },
      drills: this.#drills,
      findings: failEmpty([server, ...this.#findings]),
      storage: this.#storage,
      elapsedMs: performance.now() - this.#startedMs,
    };
  }

  async #close(): Promise<void> {
    this.#lanes?.close();
    await this.#server?.destroy();
    await this.#observers?.close().catch(() => undefined);
    await this.#network?.close().catch(() => undefined);
  }

  #enter(phase: string): void {
    this.#phase = phase;
    const kills = this.#kills.server + this.#kills.runtime + this.#kills.both;
    this.#options.onProgress?.({ phase, kills, elapsedMs: performance.now() - this.#startedMs });
  }
}

/** Waits until `performance.now()` says so. */
async function reach(ms: number): Promise<void> {
  await delay(Math.max(0, ms - performance.now()));
}

function overlap(span: { fromMs: number; untilMs: number }, fromMs: number, untilMs: number): boolean {
  return span.fromMs <= untilMs && fromMs <= span.untilMs;
}
