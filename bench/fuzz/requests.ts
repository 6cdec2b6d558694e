import { type BodyName, nativeBodies } from "../../src/protocol/bodies.ts";
import { MAPPING_PRESETS, mappingSchema } from "../../src/protocol/mapping.ts";
import type { Rng } from "../drill/rng.ts";
import type { Ask, RouteFacts } from "./asks.ts";
import { type Delivery, draftDelivery } from "./deliveries.ts";
import { type Garbage, mutatedLines, mutatedText } from "./garbage.ts";
import { type Faulty, faultyValue, fittingValue, pickFrom, type Source } from "./values.ts";
import type { Kind, World } from "./world.ts";

/** How much of a request is right: all of it, all but one place, a text that was tampered with, or next to nothing. */
export type Sort = "fitting" | "faulty" | "mutated" | "garbage";

/** With which credential it comes. */
export type Credential = "root" | "operator" | "narrow" | "foreign" | "broken";

/** One request as it is sent. */
export interface Drafted {
  readonly route: RouteFacts;
  readonly sort: Sort;
  readonly credential: Credential;
  readonly method: string;
  /** With its query, as it stands in the request line. */
  readonly path: string;
  /** Names and values; a name may come twice. */
  readonly headers: readonly (readonly [string, string])[];
  readonly body: Uint8Array | null;
  /** Where the one fault of a JSON body is, where there is one. */
  readonly fault: Faulty | null;
  /** The run that its path names, if it is as it should be. */
  readonly runId: string | null;
  readonly isStream: boolean;
}

/** What requests are drafted from. */
export interface Materials {
  readonly world: World;
  readonly garbage: Garbage;
  /** Credentials by what they are; several of one kind. */
  readonly credentials: Readonly<Record<Credential, readonly (readonly (readonly [string, string])[])[]>>;
  /** Where deliveries of subscriptions may be sent. */
  readonly receiverUrl: string;
}

const encoder = new TextEncoder();
const encode = (text: string): Uint8Array => encoder.encode(text);

const SORTS: readonly (readonly [Sort, number])[] = [
  ["fitting", 0.5],
  ["faulty", 0.22],
  ["mutated", 0.13],
  ["garbage", 0.15],
];

const CREDENTIALS: readonly (readonly [Credential, number])[] = [
  ["root", 0.5],
  ["operator", 0.28],
  ["narrow", 0.12],
  ["foreign", 0.05],
  ["broken", 0.05],
];

/** Drafts a request to a route. */
export async function draftRequest(
  route: RouteFacts,
  ask: Ask,
  materials: Materials,
  rng: Rng,
): Promise<Drafted> {
  const { world, garbage } = materials;
  const sort = weighted(rng, SORTS);
  const credential = weighted(rng, CREDENTIALS);
  const runId = route.path.includes(":run_id") ? runFor(world, rng) : null;
  const method = rng.chance(0.04) ? pickFrom(rng, OTHER_METHODS) : route.method;
  const { path: filled, holder } = pathOf(route, runId, materials, rng);
  const source = sourceOf(materials, rng, runId, holder);
  const isPathBad = rng.chance(sort === "garbage" ? 0.35 : 0.02);
  const path = (isPathBad ? spoiledPath(filled, garbage, rng) : filled) + queryOf(ask, sort, source, rng);
  const content = await contentOf(route, runId, ask, sort, source, materials, rng);
  const headers = [
    ...pickFrom(rng, materials.credentials[credential]),
    ...content.headers,
    ...oddHeaders(sort, source, rng),
  ];
  return {
    route,
    sort,
    credential,
    method,
    path: sendablePath(path),
    headers: headers.map(([name, value]) => [name, sendableHeader(value)] as const),
    body: method === "GET" || method === "HEAD" ? null : content.body,
    fault: content.fault,
    runId: isPathBad ? null : runId,
    isStream: ask.stream === true,
  };
}

const OTHER_METHODS = ["HEAD", "OPTIONS", "GET", "POST", "PUT", "DELETE", "PATCH", "TRACE"] as const;

function runFor(world: World, rng: Rng): string {
  if (rng.chance(0.04)) return world.some("run_id", rng) === undefined ? "none" : `none-${rng.between(0, 9)}`;
  if (rng.chance(0.06)) return pickFrom(rng, [`archived-${world.lane}`, `deleted-${world.lane}`]);
  return world.some("run_id", rng) ?? "none";
}

// --- paths and queries ---------------------------------------------------------------------------------------------------

const ARTIFACT_PATHS = ["a.txt", "src/b.ts", "deep/er/c d.md", "ä/ö.json", "note"];

/** A path of the route. `holder` is the task or lock that it names, if it does. */
function pathOf(
  route: RouteFacts,
  runId: string | null,
  materials: Materials,
  rng: Rng,
): { path: string; holder: string | null } {
  const { world } = materials;
  // What the ids that follow in the path belong to.
  let owner = runId;
  let holder: string | null = null;
  const artifact = () => pickFrom(rng, [...ARTIFACT_PATHS, world.some("path", rng, runId) ?? "a.txt"]);
  const path = route.path
    .replace(":path+", () =>
      encodeURI(artifact().toWellFormed()).replaceAll("?", "%3F").replaceAll("#", "%23"),
    )
    .replace(":run_id", () => encodeURIComponent(runId ?? ""))
    .replace(":part", () => String(pickFrom(rng, [1, 2, 3, 0, 10_000, 10_001])))
    .replace(":code", () =>
      pickFrom(rng, ["RUN_NOT_FOUND", "NO_SUCH", "__proto__", "toString", "a".repeat(300)]),
    )
    .replace(/:(\w+)/g, (_, name: string) => {
      const kind = name === "task_id" && rng.chance(0.5) ? "held_task" : (name as Kind);
      const known = rng.chance(0.93) ? world.some(kind, rng, owner) : undefined;
      const id = known ?? `none-${rng.between(0, 3)}`;
      if (name === "hook_id" || name === "subscription_id") owner = id;
      if (name === "task_id" || name === "lock_id") holder = id;
      return encodeURIComponent(id.toWellFormed());
    });
  return { path, holder };
}

/** A path with something that does not belong there. */
function spoiledPath(path: string, garbage: Garbage, rng: Rng): string {
  const parts = path.split("/");
  const at = rng.between(1, parts.length - 1);
  const part = parts[at] ?? "";
  const odd = [
    "",
    ".",
    "..",
    "%2e%2e",
    "%2E",
    "%00",
    "%zz",
    "%",
    "%ff%fe",
    "%C3%A4",
    "%ED%A0%80",
    "%F0%9F%92%A5",
    `${part}%2F`,
    `${part}/`,
    `/${part}`,
    `${part};a=1`,
    "a".repeat(201),
    "b".repeat(9_000),
    "é",
    [...part].map((c) => `%${c.charCodeAt(0).toString(16).padStart(2, "0")}`).join(""),
    encodeURIComponent(garbage.text(rng).toWellFormed()),
    "*",
    "(.*)",
    ":run_id",
  ];
  parts[at] = pickFrom(rng, odd);
  return parts.join("/");
}

function queryOf({ query = {} }: Ask, sort: Sort, source: Source, rng: Rng): string {
  const known = Object.entries(query);
  const pairs = known
    .filter(() => rng.chance(known.length < 3 ? 0.7 : 0.35))
    .map(([name, kind]): [string, string] => [name, queryValue(name, kind, sort, source, rng)]);
  if (sort === "garbage" && rng.chance(0.3)) pairs.push([textOf(source.json()).slice(0, 20), "x"]);
  if (sort === "garbage" && pairs[0] !== undefined && rng.chance(0.3)) pairs.push(pairs[0]);
  if (pairs.length === 0) return rng.chance(0.02) ? "?%&=&&a=%ff" : "";
  return `?${pairs.map(([name, value]) => `${escaped(name)}=${escaped(value)}`).join("&")}`;
}

function queryValue(name: string, kind: string, sort: Sort, source: Source, rng: Rng): string {
  if (sort !== "fitting" && rng.chance(0.4)) {
    return pickFrom(rng, [
      "",
      "-1",
      "1.5",
      "1e3",
      "9007199254740992",
      "99999999999999999999",
      "TRUE",
      "\u0000",
      "ä",
      "a,b,,c",
    ]);
  }
  if (name === "wait_ms") return String(pickFrom(rng, [0, 1, 9]));
  if (kind === "bool") return String(rng.chance(0.5));
  if (kind === "uint") return String(pickFrom(rng, [0, 1, 2, 3, 5, 10, 100, 1_000, 1_001, 2 ** 53 - 1]));
  if (name === "cursor") return cursorOf(source, rng);
  return String(
    source.hint(name) ?? pickFrom(rng, ["a", "running", "interactive", "note,task", "terminal", "/w"]),
  );
}

/** A cursor that was given out, or one that was tampered with. */
function cursorOf(source: Source, rng: Rng): string {
  const real = String(source.hint("cursor") ?? "WzEwXQ");
  if (rng.chance(0.5)) return real;
  const texts = [
    "[]",
    "[1]",
    "[1,2,3]",
    '["a",1]',
    "{}",
    "null",
    "[-1]",
    "[1e99]",
    '[9007199254740993,"x"]',
    '["\\ud800"]',
  ];
  if (rng.chance(0.4)) return btoa(pickFrom(rng, texts)).replace(/=+$/, "");
  return pickFrom(rng, [
    mutatedText(real, rng).slice(0, 2_000),
    `${real}=`,
    "12e",
    "0e",
    "999999999999999e",
    "e30",
    "~",
  ]);
}

function escaped(text: string): string {
  return encodeURIComponent(text.toWellFormed()).replace(/%2C/g, ",");
}

/** A request line takes no more than these bytes. What is unusual beyond them is sent over a socket of its own (raw.ts). */
function sendablePath(path: string): string {
  return path.toWellFormed().replace(/[^\u0021-\u007e]/g, (c) => encodeURIComponent(c));
}

function sendableHeader(value: string): string {
  return value.replace(/[^\t\u0020-\u007e\u0080-\u00ff]/g, "?").slice(0, 12_000);
}

// --- headers ------------------------------------------------------------------------------------------------------------

/** Headers that mean something here, each with values that could fit. */
const HEADERS: readonly (readonly [string, readonly string[]])[] = [
  ["idempotency-key", ["k1", '"k2"', "k3", '"', '"a\\"b"', "a".repeat(200), "a".repeat(201), "é", '"x";p=1']],
  ["if-match", ["*", '"0"', '"1"', 'W/"1"', '"1", "2"', '"abc"', ",", '"', '"18446744073709551616"']],
  ["if-none-match", ["*", '"0"', 'W/"x"', ",,", '"'.repeat(50)]],
  ["if-range", ['"0"', "Wed, 21 Oct 2026 07:28:00 GMT", ""]],
  [
    "range",
    [
      "bytes=0-",
      "bytes=0-0",
      "bytes=-1",
      "bytes=-0",
      "bytes=1-0",
      "bytes=0-1,3-4",
      "lines=1",
      "bytes=99999999999999999999-",
      "bytes=",
    ],
  ],
  ["last-event-id", ["0", "1", "3e", "0e", "-1", "x", "99999999999999999", "a:1", ""]],
  [
    "prefer",
    ["return=representation", "return=minimal", "return=", 'return="representation"; x, wait=10', ",,,"],
  ],
  ["content-encoding", ["gzip", "identity", "br", "x", "gzip, gzip"]],
  ["content-digest", ["sha-256=:AAAA:", `sha-256=:${"A".repeat(43)}=:`, "sha-512=:AA==:", "sha-256=x", ""]],
  ["repr-digest", [`sha-256=:${"A".repeat(43)}=:`, "md5=:AA==:"]],
  [
    "content-type",
    [
      "text/plain",
      "application/json; charset=utf-16",
      "application/problem+json",
      "application/x-ndjson",
      "",
      "a",
      "/",
      "multipart/form-data",
      "text/plain; x=\u007f",
    ],
  ],
  ["baton-lease-token", ["x", " ", "a".repeat(1_001)]],
  ["origin", ["null", "https://example.com", "http://["]],
  ["access-control-request-method", ["PUT"]],
  ["access-control-request-headers", ["x-a, x-b", "é", "a".repeat(4_000)]],
  ["accept", ["text/event-stream", "application/json", "*/*;q=0"]],
  ["x-request-id", ["mine"]],
  ["x-tandem-actor-id", ["ann", "a b", "é", "a".repeat(500), "{}"]],
  ["x-tandem-workspace-id", ["other", "..", "a/b", "%2f"]],
  ["x-forwarded-proto", ["https"]],
  ["x-forwarded-host", ["evil.example", "["]],
  ["host", ["evil.example", "[::1", "a b", ""]],
  ["cf-connecting-ip", ["127.0.0.1", "x"]],
  ["cookie", [`a=${"b".repeat(8_000)}`]],
];

function oddHeaders(sort: Sort, source: Source, rng: Rng): [string, string][] {
  const count = rng.chance(sort === "garbage" ? 0.6 : 0.15) ? rng.between(1, 2) : 0;
  return Array.from({ length: count }, (): [string, string] => {
    const [name, values] = pickFrom(rng, HEADERS);
    // What a Host of those would ask for is not what the request line says.
    if (sort === "garbage" && rng.chance(0.3))
      return [
        name,
        sendableHeader(String(source.hint("text"))).replace(name === "host" ? /[/?#]/g : /$^/, ""),
      ];
    return [name, pickFrom(rng, values)];
  });
}

// --- bodies -------------------------------------------------------------------------------------------------------------

interface Content {
  readonly body: Uint8Array | null;
  readonly headers: readonly (readonly [string, string])[];
  readonly fault: Faulty | null;
}

const JSON_TYPE = ["content-type", "application/json"] as const;

async function contentOf(
  route: RouteFacts,
  runId: string | null,
  ask: Ask,
  sort: Sort,
  source: Source,
  materials: Materials,
  rng: Rng,
): Promise<Content> {
  const { garbage } = materials;
  if (ask.content !== undefined && (sort !== "garbage" || rng.chance(0.3))) {
    return withoutFault(await otherContent(ask.content, sort, route, materials, rng));
  }
  if (ask.body === undefined) {
    if (sort !== "garbage") return { body: null, headers: [], fault: null };
    return { body: garbage.bytes(rng), headers: [JSON_TYPE], fault: null };
  }
  if (sort === "garbage") {
    const isJson = rng.chance(0.6);
    const body = isJson ? encode(textOf(garbage.json(rng))) : garbage.bytes(rng);
    return { body, headers: rng.chance(0.85) ? [JSON_TYPE] : [], fault: null };
  }
  const schema = ask.body();
  if (sort === "faulty") {
    const fault = faultyValue(schema, source);
    if (fault !== null)
      return { body: encode(textOf(waitingLittle(route, fault.value))), headers: [JSON_TYPE], fault };
  }
  const value = route.path.endsWith("/commands")
    ? batch(source, rng)
    : sensible(waitingLittle(route, fittingValue(schema, source)), rng);
  const whole =
    route.method === "PUT" && /:run_id$/.test(route.path) ? { ...(value as object), run_id: runId } : value;
  const text = textOf(whole);
  const mutated = sort === "mutated" ? mutatedText(text, rng) : text;
  return { body: encode(staysHere(mutated) ? mutated : text), headers: [JSON_TYPE], fault: null };
}

/** Whether every URL in a text is one of this machine: a subscription to another one would send there what it is told. */
function staysHere(text: string): boolean {
  const hosts = [...text.matchAll(/:\/+([^/"\\]*)/g)].map((match) => match[1] ?? "");
  return !/http|ftp/i.test(text) || hosts.every((host) => /^(u:p@)?127\.0\.0\.1(:\d+)?$/.test(host));
}

function withoutFault({ body, headers }: Delivery): Content {
  return { body, headers, fault: null };
}

/** JSON text; what has no JSON is left out. */
function textOf(value: unknown): string {
  return JSON.stringify(value) ?? "";
}

/** A request to wait that does not say how long would wait for as long as the engine sees fit. */
function waitingLittle({ path }: RouteFacts, value: unknown): unknown {
  const saysNothing =
    path.endsWith("/wait") && typeof value === "object" && value !== null && !("wait_ms" in value);
  return saysNothing && !Array.isArray(value) ? { ...value, wait_ms: 9 } : value;
}

const PATCHES: readonly object[] = [
  { op: "set_rolling_summary", payload: "so far" },
  { op: "set_latest_context_pack", payload: null },
  { op: "add_fact", payload: { id: "f", ts_ms: 1, text: "t" } },
  { op: "add_decision", payload: { id: "d", ts_ms: 1, text: "t" } },
  { op: "add_open_question", payload: { id: "q", ts_ms: 1, text: "t" } },
  { op: "add_artifact", payload: { id: "a", ts_ms: 1, path: "p", artifact_type: "file" } },
];

/** What schemas cannot say: what a patch of each kind holds, and that of the things that can be waited for a request says one. */
function sensible(value: unknown, rng: Rng): unknown {
  if (typeof value !== "object" || value === null) return value;
  if ("op" in value && "payload" in value && rng.chance(0.7)) return { ...value, ...pickFrom(rng, PATCHES) };
  if ("confirm" in value && rng.chance(0.7)) {
    return { ...value, confirm: "rollback", policy_ack: "allow_rollback_execution" };
  }
  if (!("for" in value)) return value;
  const awaited = pickFrom(rng, [
    { run_status: ["running", "completed"] },
    { event: { since_seq: 0 } },
    { event: { types: ["note"] } },
    value.for,
  ]);
  return { ...value, for: awaited };
}

/** Commands of a batch, with the body of the route that each stands for. */
const OPS: readonly (readonly [string, BodyName, readonly string[]])[] = [
  ["create_tasks", "createTasks", []],
  ["claim", "claimTask", []],
  ["heartbeat", "transitionTask", ["task_id"]],
  ["complete", "transitionTask", ["task_id"]],
  ["fail", "transitionTask", ["task_id"]],
  ["release", "transitionTask", ["task_id"]],
  ["retry", "transitionTask", ["task_id"]],
  ["status", "transitionTask", ["task_id"]],
  ["change_dependencies", "changeDependencies", ["task_id"]],
  ["cancel_task", "cancelTask", ["task_id"]],
  ["redrive_task", "redriveTask", ["task_id"]],
  ["redrive_tasks", "redriveTasks", []],
  ["pause_run", "haltRun", []],
  ["resume_run", "resumeRun", []],
  ["append_event", "appendEvent", []],
  ["patch_blackboard", "patchBlackboard", []],
  ["sync_todos", "syncTodos", []],
  ["select_next_step", "selectNextStep", []],
  ["record_mutation", "recordMutation", []],
  ["acquire_lock", "acquireLock", []],
  ["heartbeat_lock", "heartbeatLock", ["lock_id"]],
  ["release_lock", "releaseLock", ["lock_id"]],
  ["put_settings", "putSettings", []],
];

function batch(source: Source, rng: Rng): unknown {
  const commands = Array.from({ length: rng.between(1, 5) }, () => {
    const [op, body, ids] = pickFrom(rng, OPS);
    const { command_id, action, wait_ms, ...fields } = fittingValue(nativeBodies()[body], source) as Record<
      string,
      unknown
    >;
    const { op: patch_op, ...rest } = fields;
    const named = Object.fromEntries(ids.map((id) => [id, source.hint(id) ?? "none"]));
    return { ...rest, ...(patch_op !== undefined && { patch_op }), ...named, op };
  });
  return {
    commands,
    ...(rng.chance(0.2) && { dry_run: true }),
    ...(rng.chance(0.3) && { command_id: source.hint("command_id") }),
  };
}

async function otherContent(
  kind: NonNullable<Ask["content"]>,
  sort: Sort,
  route: RouteFacts,
  materials: Materials,
  rng: Rng,
): Promise<Delivery> {
  const { world, garbage } = materials;
  switch (kind) {
    case "bytes": {
      const body = garbage.bytes(rng);
      const digest = new Uint8Array(await crypto.subtle.digest("SHA-256", new Uint8Array(body)));
      const sha256 = btoa(String.fromCharCode(...digest));
      const headers: [string, string][] = [
        ["content-type", pickFrom(rng, ["text/plain", "image/png", "text/html", "application/json"])],
      ];
      if (rng.chance(0.3))
        headers.push([
          "content-digest",
          `sha-256=:${sort === "faulty" ? sha256.replace(/^./, "x") : sha256}:`,
        ]);
      return { body, headers };
    }
    case "export": {
      const isFitting = sort === "fitting" || world.exported === "";
      const text = isFitting ? world.exported : mutatedLines(world.exported, rng);
      const cut = sort === "mutated" && rng.chance(0.3) ? text.slice(0, rng.between(0, text.length)) : text;
      return { body: encode(cut.toWellFormed()), headers: [["content-type", "application/x-ndjson"]] };
    }
    case "form":
      return referenceForm(sort, rng);
    case "delivery":
      return draftDelivery(world, garbage, rng);
  }
  throw new Error(`no content for ${route.path}`);
}

function referenceForm(sort: Sort, rng: Rng): Delivery {
  const counters = { revision: 1, last_event_seq: 1, created_at_ms: 1, updated_at_ms: 2 };
  const run_id = `brought-${rng.between(0, 1e9)}`;
  const run = { run_id, run_type: "interactive", status: "running", objective: "o", tasks: [], ...counters };
  const event = {
    event_id: "e1",
    run_id,
    seq: 1,
    ts_ms: 2,
    type: "note",
    status: "running",
    revision: 1,
    payload: null,
  };
  const files: [string, string][] = [
    ["run_state.json", JSON.stringify(run)],
    ["events.jsonl", `${JSON.stringify(event)}\n`],
    ["blackboard.json", "{}"],
    ["1.json", "{}"],
  ];
  const sent = files.filter((_, index) => index === 0 || rng.chance(0.5));
  const parts = sent.map(([name, text]) => {
    const content = sort === "fitting" ? text : mutatedText(text, rng);
    return `--b\r\ncontent-disposition: form-data; name="f"; filename="${name}"\r\n\r\n${content}\r\n`;
  });
  const whole = `${parts.join("")}--b--\r\n`;
  const text = sort === "mutated" ? mutatedText(whole, rng) : whole;
  return {
    body: encode(text.toWellFormed()),
    headers: [["content-type", "multipart/form-data; boundary=b"]],
  };
}

// --- what members hold ----------------------------------------------------------------------------------------------------

/** What values of bodies and queries are drawn from: mostly ids that are there. */
export function sourceOf(
  materials: Materials,
  rng: Rng,
  runId: string | null,
  holder: string | null,
): Source {
  const { world, garbage } = materials;
  const some = (kind: Kind, orElse: string) => world.some(kind, rng, runId) ?? orElse;
  const oneOf = <T>(...values: T[]): T => pickFrom(rng, values);
  const hints: Record<string, () => unknown> = {
    text: () => garbage.text(rng),
    key: () => oneOf("a", "db", "k"),
    run_id: () => oneOf(some("run_id", "none"), `r-${rng.between(0, 1e9)}`),
    task_id: () => some("task_id", "t0"),
    dependency: () => some("task_id", "t0"),
    depends_on_task_id: () => some("task_id", "t0"),
    add: () => some("task_id", "t0"),
    remove: () => some("task_id", "t0"),
    id: () => oneOf(`t${rng.between(0, 99)}`, some("task_id", "t0")),
    lock_id: () => some("lock_id", "none"),
    lease_token: () =>
      world.some("lease_token", rng, holder === null ? runId : `${runId}/${holder}`) ?? "none",
    agent_id: () => oneOf("a1", "a2", "a3", "  ", "ann"),
    task_type: () => oneOf("t", "t", "build", "implementation"),
    workflow_id: () => oneOf("w", "w2"),
    command_id: () => `c${rng.between(0, 400)}`,
    path: () => oneOf(...ARTIFACT_PATHS, some("path", "a.txt")),
    canonical_path: () => oneOf("/w", "/w/sub", "", "relative"),
    workspace: () => oneOf("/w", "/w/", "/none"),
    current_path: () => oneOf("/w", "/elsewhere"),
    name: () => oneOf("src/**", "db", "deploy:eu", "n1", `n${rng.between(0, 50)}`),
    action: () => oneOf("heartbeat", "status", "complete", "fail", "release", "retry", "dance"),
    type: () => oneOf("note", "planning_started", "context.task.created", "tool_effect_recorded", "x"),
    op: () => oneOf("add_fact", "add_decision", "set_rolling_summary", "add_artifact"),
    confirm: () => oneOf("rollback", "yes"),
    policy_ack: () => oneOf("allow_rollback_execution", "no"),
    event_id: () => oneOf(some("mutation_id", "none"), some("event_id", "none")),
    wait_ms: () => oneOf(0, 1, 9),
    lease_ms: () => oneOf(0, 5_000, 30_000, 300_000, 300_001),
    grace_ms: () => oneOf(0, 1, 1_000, 60_000),
    max: () => oneOf(1, 2, 5, 100),
    limit: () => oneOf(1, 2, 5, 500),
    expected_version: () => oneOf(0, 1, 5, 9),
    expected_revision: () => oneOf(0, 1, 5, 9),
    expected_task_rev: () => oneOf(1, 1, 2, 3),
    before_version: () => oneOf(1, 5, 6),
    after_version: () => oneOf(2, 5, 6),
    at_seq: () => oneOf(0, 1, 5, 1_000),
    from_seq: () => oneOf(1, 2),
    max_attempts: () => oneOf(1, 2, 3),
    url: () =>
      oneOf(
        materials.receiverUrl,
        `${materials.receiverUrl}slow`,
        "https://127.0.0.1:1/",
        "ftp://127.0.0.1/",
        "http://u:p@127.0.0.1:1/",
      ),
    secret: () => oneOf("0123456789abcdef", "whsec_MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE=", "short"),
    mapping: () => (rng.chance(0.4) ? pickFrom(rng, MAPPING_PRESETS) : mappingOf(hints, garbage, rng)),
    header: () => oneOf("x-token", "x-signature", "authorization"),
    objective: () => oneOf("objective", "read {{ body.a }}", garbage.text(rng)),
    sha256: () => some("sha256", "0".repeat(64)),
    cursor: () => some("cursor", "WzEwXQ"),
    delivery_id: () => some("delivery_id", "none"),
    scope: () => oneOf("viewer", "agent", "ingest", "planner"),
    part: () => oneOf(1, 2, 3),
    tenant: () => undefined,
    prefix: () => oneOf("", "src/", "sha256="),
    signed: () => oneOf("{body}", "{timestamp}.{body}", "{id}.{timestamp}.{body}", "{body}{body}"),
    types: () => oneOf("note", "context.task.created,note", "*"),
    run_ids: () =>
      oneOf(some("run_id", "none"), `${some("run_id", "none")},${some("run_id", "none")}`, ",", "none"),
    since_seq: () => oneOf(0, 1, 5, 1_000),
  };
  return {
    rng,
    hint: (name) => (Object.hasOwn(hints, name) ? hints[name]?.() : undefined),
    share: (name) => (name === "lease_token" && holder !== null ? 0.85 : SHARES.get(name)),
    json: () => garbage.json(rng),
  };
}

/** Members that must fit something else: with each of them in every third request next to none would be accepted. */
const SHARES: ReadonlyMap<string, number> = new Map(
  [
    "task_id",
    "lock_id",
    "lease_token",
    "payload_artifact",
    "expected_task_rev",
    "expected_version",
    "expected_revision",
    "locks",
    "retryable",
    "error_code",
    "progress",
    "status",
  ].map((name) => [name, 0.07]),
);

const TEMPLATES = [
  "it says {{ a }}",
  "{{ issue.title | truncate(10) }}",
  "do {{ $event }} {{ $headers.x-github-event }}",
  '{{ list[0].b }}{{ ["a key"].c }}',
  '{{ a | default("x") }}',
  "plain",
  "{{",
  "{{ }}",
  "{{ $item.x }}",
];

function mappingOf(hints: Record<string, () => unknown>, garbage: Garbage, rng: Rng): unknown {
  const templates = new Set(["objective", "run_key", "id", "wake_task_id", "input"]);
  const source: Source = {
    rng,
    hint: (name) => {
      if (templates.has(name)) return pickFrom(rng, TEMPLATES);
      if (name === "in") return pickFrom(rng, ["list", "issue.labels", "$item.x"]);
      if (name === "when") return pickFrom(rng, CONDITIONS);
      return name === "mapping" ? undefined : hints[name]?.();
    },
    json: () => garbage.json(rng),
  };
  return fittingValue(mappingSchema(), source);
}

const CONDITIONS: readonly unknown[] = [
  { event: "*" },
  { event: ["issues", "push*"] },
  { path: "a", eq: 1 },
  { path: "issue.title", matches: "*a?b*" },
  { and: [{ path: "$headers.x-token", exists: true }, { not: { path: "list[1].b", in: [1, "x", null] } }] },
  { or: [] },
  { path: 1 },
];

function weighted<T>(rng: Rng, choices: readonly (readonly [T, number])[]): T {
  let left = rng.next();
  for (const [choice, share] of choices) {
    left -= share;
    if (left < 0) return choice;
  }
  return (choices[0] as readonly [T, number])[0];
}
