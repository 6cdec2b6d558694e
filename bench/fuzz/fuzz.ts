import * as http from "node:http";
import type { AddressInfo } from "node:net";
import { MAX_WAIT_MS } from "../../src/protocol/limits.ts";
import { createRng, type Rng } from "../drill/rng.ts";
import { type Ask, askOf, OPEN_ROUTES, type RouteFacts } from "./asks.ts";
import { type Answered, type Rule, unaskedCommits, type Violation, violationsOf } from "./checks.ts";
import { garbageOf } from "./garbage.ts";
import { Lane } from "./lane.ts";
import type { Memory } from "./memory.ts";
import { judgeMemory, type MemoryVerdict } from "./memory-bound.ts";
import { rawPlan, sendRaw } from "./raw.ts";
import { type Drafted, draftRequest } from "./requests.ts";
import { ANSWER_MS, asCurl, type Sent, writtenIn } from "./send.ts";
import { type Path, pickFrom } from "./values.ts";

export interface FuzzOptions {
  /** Serves the watched Worker (bench/raw/fuzz/watched-baton.ts). */
  readonly server: { readonly url: string; readonly token: string };
  readonly requests: number;
  /** 0 to 2^32 - 1. */
  readonly seed: number;
  /** The server's. */
  readonly memory: Pick<Memory, "sample" | "samples">;
  /** Runs the Worker's cron. */
  runCron(): Promise<void>;
  /** How long an answer may take, ms. */
  readonly answerMs?: number;
  readonly onProgress?: (done: number) => void;
}

/** Something that must not be. */
export interface Finding {
  readonly rule: Rule;
  readonly detail: string;
  /** Which request it was, counted from 0; null for what no one request did. */
  readonly index: number | null;
  /** The request as a command line. */
  readonly request: string | null;
}

export interface FuzzResult {
  readonly seed: number;
  readonly requests: number;
  readonly tookMs: number;
  readonly findings: readonly Finding[];
  /** Answers by status. */
  readonly statuses: Readonly<Record<string, number>>;
  /** Requests by how much of them was right, and how many of those were answered 2xx. */
  readonly sorts: Readonly<Record<string, { sent: number; accepted: number }>>;
  /** Routes that answered 2xx at least once, of all. */
  readonly routes: {
    readonly known: number;
    readonly asked: number;
    readonly accepted: number;
    readonly never: readonly string[];
  };
  /** How often each rule was looked at. */
  readonly examined: Readonly<Record<Rule, number>>;
  readonly memory: MemoryVerdict;
  readonly slowest: { readonly ms: number; readonly request: string };
}

const MAX_FINDINGS = 500;
/** Senders at once: each must first make a world of its own, which is not worth its while for a few requests. */
const MAX_LANES = 6;
/** Every so many requests the cron runs. */
const CRON_EVERY = 1_000;
const SAMPLE_EVERY = 250;
const TELL_EVERY = 50;
const RAW_SHARE = 0.05;
/** Of what went over a bare socket, a report shows so many characters. */
const MAX_SHOWN = 4_000;

/** Sends requests until there are enough of them, then looks at what they have left. */
export async function runFuzz(options: FuzzOptions): Promise<FuzzResult> {
  const receiver = await startReceiver(options.seed);
  const lanes: Lane[] = [];
  try {
    const garbage = garbageOf(options.seed);
    for (let number = 0; number < Math.min(MAX_LANES, Math.ceil(options.requests / 100)); number += 1) {
      const lane = new Lane(number, options.server, receiver.url, garbage);
      lanes.push(lane);
      await lane.populate();
    }
    return await new Fuzz(options, await routesOf(options.server.url), lanes).run();
  } finally {
    for (const lane of lanes) lane.close();
    receiver.close();
  }
}

type Askable = readonly [RouteFacts, Ask];

/** The server's routes with what requests to them are made of. @throws Error naming those that nobody has said it of. */
async function routesOf(url: string): Promise<Askable[]> {
  const routes = (await (await fetch(`${url}/fuzz/routes`)).json()) as RouteFacts[];
  const known = routes.flatMap((route): Askable[] => {
    const ask = askOf(route);
    return ask === undefined ? [] : [[route, ask]];
  });
  const missing = routes.filter((route) => askOf(route) === undefined);
  if (missing.length > 0) {
    const names = missing.map(({ method, path }) => `${method} ${path}`).join(", ");
    throw new Error(`no requests can be made to ${names}: say in bench/fuzz/asks.ts what they are made of`);
  }
  return [...known, ...OPEN_ROUTES.map(({ ask, ...route }): Askable => [route, ask])];
}

class Fuzz {
  readonly #options: FuzzOptions;
  readonly #routes: readonly Askable[];
  readonly #lanes: readonly Lane[];
  readonly #findings: Finding[] = [];
  readonly #statuses: Record<string, number> = {};
  readonly #sorts: Record<string, { sent: number; accepted: number }> = {};
  readonly #asked = new Set<string>();
  readonly #accepted = new Set<string>();
  readonly #examined: Record<Rule, number> = {
    server_error: 0,
    hang: 0,
    shape: 0,
    field: 0,
    long: 0,
    changed: 0,
    background: 0,
    memory: 0,
    replay: 0,
  };
  #next = 0;
  #slowest = { ms: 0, request: "" };

  constructor(options: FuzzOptions, routes: readonly Askable[], lanes: readonly Lane[]) {
    this.#options = options;
    this.#routes = routes;
    this.#lanes = lanes;
  }

  async run(): Promise<FuzzResult> {
    const { seed, requests } = this.#options;
    const startedAtMs = performance.now();
    await Promise.all(this.#lanes.map((lane) => this.#work(lane)));
    await this.#checkBackground();
    for (const lane of this.#lanes) for (const tenant of lane.tenants) await this.#checkRuns(lane, tenant);
    await this.#options.memory.sample();
    const memory = judgeMemory(this.#options.memory.samples, requests);
    this.#examined.memory = memory.samples.heapMib.length;
    for (const detail of memory.faults) this.#find(null, null, { rule: "memory", detail });
    return {
      seed,
      requests,
      tookMs: performance.now() - startedAtMs,
      findings: this.#findings,
      statuses: this.#statuses,
      sorts: this.#sorts,
      routes: {
        known: this.#routes.length,
        asked: this.#asked.size,
        accepted: this.#accepted.size,
        never: this.#routes.map(([route]) => nameOf(route)).filter((name) => !this.#accepted.has(name)),
      },
      examined: this.#examined,
      memory,
      slowest: this.#slowest,
    };
  }

  /** Sends the next request that nobody has sent yet, until there are none. */
  async #work(lane: Lane): Promise<void> {
    while (this.#next < this.#options.requests && this.#findings.length < MAX_FINDINGS) {
      const index = this.#next;
      this.#next += 1;
      if (index % CRON_EVERY === CRON_EVERY - 1) await this.#options.runCron();
      if (index % SAMPLE_EVERY === 0) await this.#options.memory.sample();
      if (index % TELL_EVERY === 0) this.#options.onProgress?.(index);
      await lane.attend();
      // A stream of numbers of its own for each: what one request draws never shifts the next one.
      const rng = createRng(this.#options.seed, index);
      if (rng.chance(RAW_SHARE)) await this.#sendRaw(lane, index, rng);
      else await this.#send(lane, index, rng);
    }
  }

  async #send(lane: Lane, index: number, rng: Rng): Promise<void> {
    // Each route in its turn, so that none is left out of a short fuzz; the stride has no factor in common with their number.
    const [route, ask] = this.#routes[(index * STRIDE) % this.#routes.length] ?? pickFrom(rng, this.#routes);
    const drafted = await draftRequest(route, ask, lane.materials(), rng);
    const name = nameOf(route);
    this.#asked.add(name);
    const waitMs = /\/(wait|claim)$/.test(route.path) && drafted.sort === "mutated" ? MAX_WAIT_MS : 0;
    const sent = await lane.sender.send(drafted, (this.#options.answerMs ?? ANSWER_MS) + waitMs);
    const request = () => asCurl(drafted);
    this.#examined.hang += 1;
    if ("hung" in sent) {
      this.#find(index, request(), { rule: "hang", detail: sent.hung });
      return;
    }
    const { answered } = sent;
    this.#count(sent, drafted, name);
    for (const violation of violationsOf({ ...drafted, faultAt: faultAt(drafted) }, answered)) {
      const what = drafted.fault === null || violation.rule !== "field" ? "" : ` (${drafted.fault.what})`;
      this.#find(index, request(), { ...violation, detail: `${name}: ${violation.detail}${what}` });
    }
    if (answered.status < 300) learn(lane, drafted, answered);
    if (answered.status === 410 || answered.text?.includes("RUN_NOT_FOUND"))
      lane.world.dropRun(drafted.runId ?? "");
  }

  #count({ answered, tookMs }: Exclude<Sent, { hung: string }>, drafted: Drafted, name: string): void {
    const { status } = answered;
    this.#statuses[status] = (this.#statuses[status] ?? 0) + 1;
    if (tookMs > this.#slowest.ms)
      this.#slowest = { ms: tookMs, request: `${drafted.method} ${drafted.path.slice(0, 200)}` };
    const sort = this.#sorts[drafted.sort] ?? { sent: 0, accepted: 0 };
    this.#sorts[drafted.sort] = sort;
    sort.sent += 1;
    const isSoft = answered.text?.startsWith('{"ok":false') === true;
    if (status < 300 && !isSoft) {
      sort.accepted += 1;
      if (drafted.method === drafted.route.method) this.#accepted.add(name);
    }
    this.#examined.server_error += 1;
    if (status < 400 && !isSoft) return;
    this.#examined.shape += 1;
    this.#examined.long += 1;
    this.#examined.changed += 1;
    if (faultAt(drafted) !== null && answered.text?.includes("BODY_INVALID")) this.#examined.field += 1;
  }

  async #sendRaw(lane: Lane, index: number, rng: Rng): Promise<void> {
    const { url, token } = this.#options.server;
    const { world } = lane;
    const runId = world.some("run_id", rng) ?? "none";
    const place = {
      host: new URL(url).host,
      lane: lane.number,
      authorization: `Bearer ${token}`,
      tenant: world.tenant,
      runId,
      cutRun: world.cutRun,
    };
    const plan = rawPlan(place, rng);
    const result = await sendRaw(url, plan, this.#options.answerMs ?? ANSWER_MS);
    const sent = Buffer.concat(plan.bytes).toString("latin1").replaceAll(token, "$TOKEN");
    const request = () => `${plan.name}: ${JSON.stringify(sent.slice(0, MAX_SHOWN))}`;
    this.#examined.hang += 1;
    if (!result.isDone)
      this.#find(index, request(), {
        rule: "hang",
        detail: `${plan.name}: ${result.statuses.length} of ${plan.answers} answers`,
      });
    for (const part of result.text.split(/(?=HTTP\/1\.1 \d{3} )/)) {
      const status = Number(/^HTTP\/1\.1 (\d{3}) /.exec(part)?.[1] ?? 0);
      if (status < 200) continue;
      this.#statuses[status] = (this.#statuses[status] ?? 0) + 1;
      this.#examined.server_error += 1;
      const written = writtenIn(/^x-fuzz-written: (.*)\r$/im.exec(part)?.[1]);
      const headers = { ...(/^x-request-id: /im.test(part) && { "x-request-id": "it" }) };
      // Only what says something without the request's own framing is judged: statuses, and what a refusal has written.
      const about = violationsOf(
        { method: "HEAD", path: "/v1", faultAt: null },
        { status, headers, text: null, written },
      );
      for (const violation of about)
        this.#find(index, request(), { ...violation, detail: `${plan.name}: ${violation.detail}` });
    }
  }

  /** What went on while nobody asked. */
  async #checkBackground(): Promise<void> {
    const answer = await fetch(`${this.#options.server.url}/fuzz/background`);
    const { written, faults } = (await answer.json()) as Background;
    for (const [object, writes] of Object.entries(written)) {
      this.#examined.background += 1;
      const changes = unaskedCommits(object, writes);
      if (changes.length > 0)
        this.#find(null, null, { rule: "background", detail: `${object}: ${changes.join(", ")}` });
    }
    for (const detail of faults) this.#find(null, null, { rule: "background", detail });
  }

  /** Replays every run of a tenant, proves its log, and gives it something to do. */
  async #checkRuns(lane: Lane, tenant: string): Promise<void> {
    const headers = [["x-tandem-org-id", tenant] as const];
    const root = [["authorization", lane.root[0]?.[1] ?? ""] as const, ...headers];
    const ask = async (
      method: string,
      path: string,
      body?: unknown,
    ): Promise<{ status: number; json: Record<string, unknown> }> => {
      const encoded = body === undefined ? null : new TextEncoder().encode(JSON.stringify(body));
      const sent = await lane.sender.send(
        { method, path, headers: [...root, ["content-type", "application/json"]], body: encoded },
        60_000,
      );
      if ("hung" in sent) return { status: 0, json: { error: sent.hung } };
      return {
        status: sent.answered.status,
        json: JSON.parse(sent.answered.text ?? "null") as Record<string, unknown>,
      };
    };
    for (let path: string | null = "/v1/runs?limit=1000&archived=false"; path !== null; ) {
      const page = await ask("GET", path);
      const { runs = [], next = null } = page.json as { runs?: { run_id: string }[]; next?: string | null };
      if (page.status !== 200)
        this.#find(null, null, { rule: "replay", detail: `GET ${path}: ${page.status}` });
      for (const { run_id } of runs) {
        this.#examined.replay += 1;
        const run = `/v1/runs/${encodeURIComponent(run_id)}`;
        const problem = (detail: string, told: unknown) =>
          this.#find(null, null, {
            rule: "replay",
            detail: `${tenant} ${run_id}: ${detail} ${JSON.stringify(told).slice(0, 300)}`,
          });
        const replay = await ask("GET", `${run}/replay?from_checkpoint=false`);
        const { drift } = replay.json as { drift?: { mismatch: boolean; compared: boolean } };
        // A run may be gone or archived by the time it is looked at, where retention says so.
        if (replay.status === 404 || replay.status === 410) continue;
        if (drift?.mismatch !== false || !drift.compared) problem("replay", replay.json);
        const whole = await ask("GET", `${run}/verify`);
        if (whole.json.ok !== true) problem("verify", whole.json);
        const done = await ask("POST", `${run}/blackboard/patches`, {
          op: "set_rolling_summary",
          payload: "still here",
        });
        if (done.status !== 201) problem("takes no command", done.json);
      }
      path = next === null ? null : next.replace(/^https?:\/\/[^/]+/, "");
    }
  }

  #find(index: number | null, request: string | null, { rule, detail }: Violation): void {
    this.#findings.push({ rule, detail, index, request });
  }
}

/** Where the body is surely wrong, if it is. */
function faultAt({ fault }: Drafted): Path | null {
  return fault?.isSure === true ? fault.path : null;
}

const STRIDE = 7_919;

/** What `/fuzz/background` of the watched Worker tells: what each object has written by itself, by its name, and what failed. */
interface Background {
  readonly written: Readonly<Record<string, Readonly<Record<string, number>>>>;
  readonly faults: readonly string[];
}

function nameOf({ method, path }: RouteFacts): string {
  return `${method} ${path}`;
}

const MAX_LEARNT_LENGTH = 300_000;

function learn({ world }: Lane, { route, runId, path }: Drafted, { text, headers }: Answered): void {
  if (runId !== null && route.path.endsWith("/archive")) world.dropRun(runId);
  const isJson = /[/+]json/.test(headers["content-type"] ?? "");
  if (text === null || !isJson || text.length > MAX_LEARNT_LENGTH) return;
  try {
    world.learn(JSON.parse(text), path);
  } catch (error) {
    // What HEAD is answered is empty, and an artifact is what was put there, whatever type it was said to be of.
    if (!(error instanceof SyntaxError)) throw error;
  }
}

/** Takes deliveries of subscriptions: some at once, some slowly, some not. */
async function startReceiver(seed: number): Promise<{ url: string; close(): void }> {
  const rng = createRng(seed, 2 ** 31);
  const server = http.createServer((request, response) => {
    request.resume();
    const answer = () => {
      response.statusCode = request.url?.includes("broken") ? pickFrom(rng, [500, 404, 302, 410]) : 204;
      response.end();
    };
    if (request.url?.includes("slow")) setTimeout(answer, 300);
    else answer();
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const { port } = server.address() as AddressInfo;
  return {
    url: `http://127.0.0.1:${port}/`,
    close: () => {
      server.close();
      server.closeAllConnections();
    },
  };
}
