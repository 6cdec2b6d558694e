import type { Garbage } from "./garbage.ts";
import type { Credential, Materials } from "./requests.ts";
import { Sender } from "./send.ts";
import { World } from "./world.ts";

/** After so many requests the lane sees to its world: runs to work on, tokens that count, quotas that allow it. */
const CHORES_EVERY = 40;
const LIVE_RUNS = 4;

const encoder = new TextEncoder();
const JSON_TYPE = ["content-type", "application/json"] as const;

type Headers = readonly (readonly [string, string])[];

/** One sender with a tenant of its own, so that what is written in that tenant's runs is known to be its own doing. */
export class Lane {
  readonly number: number;
  readonly world: World;
  readonly sender: Sender;
  readonly #token: string;
  readonly #receiverUrl: string;
  readonly #garbage: Garbage;
  #credentials: Materials["credentials"] | null = null;
  #sinceChores = 0;
  #made = 0;

  constructor(number: number, server: { url: string; token: string }, receiverUrl: string, garbage: Garbage) {
    this.number = number;
    this.world = new World(number);
    this.sender = new Sender(server.url, number);
    this.#token = server.token;
    this.#receiverUrl = receiverUrl;
    this.#garbage = garbage;
  }

  /** The headers by which the root credential acts for the lane's tenant. */
  get root(): Headers {
    return [
      ["authorization", `Bearer ${this.#token}`],
      ["x-tandem-org-id", this.world.tenant],
    ];
  }

  materials(): Materials {
    if (this.#credentials === null) throw new Error("the lane is not populated");
    return {
      world: this.world,
      garbage: this.#garbage,
      credentials: this.#credentials,
      receiverUrl: this.#receiverUrl,
    };
  }

  /** Asks something that must succeed; answers its JSON. */
  async ask(
    method: string,
    path: string,
    body?: unknown,
    headers: Headers = [],
  ): Promise<Record<string, unknown>> {
    const text = body === undefined || typeof body === "string" ? body : JSON.stringify(body);
    const sent = await this.sender.send({
      method,
      path,
      headers: [...this.root, ...(text === undefined || headers.length > 0 ? [] : [JSON_TYPE]), ...headers],
      body: text === undefined ? null : encoder.encode(text as string),
    });
    if ("hung" in sent) throw new Error(`${method} ${path}: ${sent.hung}`);
    const { status, text: answer } = sent.answered;
    if (status >= 300) throw new Error(`${method} ${path}: ${status} ${answer?.slice(0, 300)}`);
    const type = sent.answered.headers["content-type"] ?? "";
    const json = /[/+]json/.test(type)
      ? (JSON.parse(answer ?? "{}") as Record<string, unknown>)
      : { text: answer };
    this.world.learn(json, path);
    return json;
  }

  /** Makes one of everything that a request can be about. */
  async populate(): Promise<void> {
    const { world } = this;
    const n = this.number;
    await this.#renewTokens();
    for (const state of ["working", "paused", "over"]) await this.#newRun(`${state}-${n}`);
    await this.ask("POST", `/v1/runs/paused-${n}/pause`, { grace_ms: 0 });
    await this.ask("POST", `/v1/runs/over-${n}/cancel`, { grace_ms: 0 });
    world.exported = String((await this.ask("GET", `/v1/runs/working-${n}/export`)).text);
    for (const gone of ["archived", "deleted", "cut"]) {
      await this.ask("POST", "/v1/runs", { run_id: `${gone}-${n}`, objective: "o" });
    }
    await this.ask("POST", `/v1/runs/archived-${n}/archive`);
    await this.ask("DELETE", `/v1/runs/deleted-${n}`);
    world.dropRun(`archived-${n}`);
    world.dropRun(`deleted-${n}`);
    await this.#newHooks();
    await this.ask("POST", "/v1/subscriptions", { url: this.#receiverUrl, name: "all" });
    await this.ask("POST", "/v1/subscriptions", {
      url: `${this.#receiverUrl}broken`,
      run_id: `working-${n}`,
    });
  }

  /** To be called before each request: now and then something must be made anew that requests have used up. */
  async attend(): Promise<void> {
    this.#sinceChores += 1;
    if (this.#sinceChores < CHORES_EVERY) return;
    this.#sinceChores = 0;
    const none = { runs: null, artifact_bytes: null, streams: null, deliveries: null, tokens: null };
    await this.ask("PUT", "/v1/quotas", none);
    await this.ask("PUT", "/v1/retention", { archive_after_ms: null, delete_after_ms: null });
    await this.#renewTokens();
    for (let runs = this.world.runs().length; runs < LIVE_RUNS; runs += 1) await this.#newRun();
    // Most of what befalls a run ends it sooner or later.
    await this.#newRun();
    if (this.#made % 5 === 0) await this.#newHooks();
  }

  /** A run of an id that no request has made by chance, with tasks in several states, a lock, an artifact of two versions, a mutation and a checkpoint. */
  async #newRun(run_id = `made-${crypto.randomUUID()}`): Promise<void> {
    this.#made += 1;
    const workspace = { workspace_id: "w", canonical_path: "/w", lease_epoch: 0 };
    await this.ask("POST", "/v1/runs", { run_id, objective: "o", workspace });
    this.world.addRun(run_id);
    const run = `/v1/runs/${run_id}`;
    const row = (id: string, more: object = {}) => ({ id, task_type: "t", ...more });
    const tasks = [
      row("t0"),
      row("t1", { priority: 5, max_attempts: 1 }),
      row("t2", { depends_on_task_ids: ["t0", "t1"] }),
      row("t3", {
        task_type: "build",
        workflow_id: "w",
        retry: { base_ms: 0 },
        clocks: { run_within_ms: 60_000 },
      }),
      row("t4", { depends_on_task_ids: ["none"], on_dependency_failure: "skip", concurrency_key: "k" }),
    ];
    await this.ask("POST", `${run}/tasks`, { tasks });
    const claim = await this.ask("POST", `${run}/tasks/claim`, { agent_id: "a1", lease_ms: 300_000 });
    const { task, lease } = claim as { task: { id: string }; lease: { token: string } };
    await this.ask("POST", `${run}/tasks/claim`, { agent_id: "a2", lease_ms: 300_000 });
    await this.ask("POST", `${run}/tasks/${task.id}/transition`, {
      action: "fail",
      lease_token: lease.token,
      error: "e",
    });
    await this.ask("POST", `${run}/locks`, {
      agent_id: "a1",
      resources: [{ name: "src/**", mode: "shared" }],
      lease_ms: 300_000,
    });
    for (const content of ["one", "two"]) {
      await this.ask("PUT", `${run}/artifacts/a.txt`, content, [["content-type", "text/plain"]]);
    }
    const { upload_id } = await this.ask("POST", `${run}/uploads`, { path: "big" });
    await this.ask("PUT", `${run}/uploads/${upload_id}/parts/1`, "all of it", [
      ["content-type", "text/plain"],
    ]);
    await this.ask("POST", `${run}/checkpoints`, { reason: "r" });
    const mutation = await this.ask("POST", `${run}/checkpoints/mutations`, {
      session_id: "s",
      message_id: "m",
      tool: "edit",
      outcome: "succeeded",
      files: [{ path: "a.txt", before_version: null, after_version: null }],
    });
    this.world.remember("mutation_id", (mutation as { event: { event_id: string } }).event.event_id, run_id);
  }

  async #newHooks(): Promise<void> {
    const mapping = {
      run: { objective: 'about {{ a | default("it") | truncate(50) }}' },
      run_key: '{{ action | default("all") }}',
      event: { type: "came_in", input: { a: "{{ a }}" } },
    };
    const schemes: [string, string | undefined][] = [
      ["shared_secret", "a shared secret of the fuzz"],
      ["github", undefined],
      ["standard", undefined],
      ["slack", "0123456789abcdef0123"],
      ["stripe", "whsec_0123456789abcdef"],
      ["bearer", undefined],
    ];
    for (const [kind, secret] of schemes) {
      const scheme = kind === "shared_secret" ? { kind, header: "x-token", id_pointer: "/id" } : { kind };
      const chosen = kind === "github" ? "github_issue_opened" : mapping;
      const asked = { name: kind, scheme, mapping: chosen, ...(secret !== undefined && { secret }) };
      const made = await this.ask("POST", "/v1/hooks", asked);
      const { hook, secret: told } = made as { hook: { url: string }; secret: string | null };
      const publicId = /\/hooks\/([^/]+)$/.exec(hook.url)?.[1] ?? "";
      this.world.remember("public_id", publicId);
      this.world.hooks.set(publicId, { kind, secret: told ?? secret ?? "" });
    }
  }

  /** Tokens are revoked by the very requests that are sent: now and then there are new ones. */
  async #renewTokens(): Promise<void> {
    const tenantOf = (org_id: string) => ({ org_id, workspace_id: "local" });
    const mint = async (asked: object, org_id = this.world.tenant): Promise<Headers> => {
      const minted = await this.ask("POST", "/v1/tokens", {
        expires_in_ms: 3_600_000,
        tenant: tenantOf(org_id),
        ...asked,
      });
      return [["authorization", `Bearer ${minted.token}`]];
    };
    const operator = await mint({ scopes: ["operator"] });
    const [run = "none"] = this.world.runs();
    const narrow = [
      await mint({ scopes: ["viewer"] }),
      await mint({ scopes: ["agent"], task_types: ["t"] }),
      await mint({ scopes: ["agent"], agent_id: "a1", run_id: run }),
      await mint({ scopes: ["ingest"] }),
      await mint({ scopes: ["planner"], actor_id: "ann" }),
    ];
    const foreign = await mint({ scopes: ["operator"] }, `${this.world.tenant}-foreign`);
    const token = operator[0]?.[1].slice("Bearer ".length) ?? "";
    const broken: Headers[] = [
      [],
      [["authorization", "Bearer "]],
      [["authorization", "Basic eDp5"]],
      [["authorization", `Bearer ${token.slice(0, -3)}`]],
      [["authorization", `Bearer ${token.replace(/\.[^.]*\./, ".e30.")}`]],
      [["authorization", `Bearer ${"a".repeat(9_000)}`]],
      [
        ["authorization", "Bearer a.b.c"],
        ["x-tandem-org-id", "é"],
      ],
      [["x-agent-token", "no"], ...operator],
      [
        ["authorization", `Bearer ${this.#token}`],
        ["x-tandem-org-id", "a/b"],
      ],
      [
        ["authorization", operator[0]?.[1] ?? ""],
        ["x-tandem-org-id", "another"],
      ],
    ];
    const credentials: Record<Credential, Headers[]> = {
      root: [
        this.root,
        [
          ["x-agent-token", this.#token],
          ["x-tenant-org-id", this.world.tenant],
        ],
      ],
      operator: [operator],
      narrow,
      foreign: [foreign],
      broken,
    };
    this.#credentials = credentials;
  }

  /** The tenants that hold what the lane has made. */
  get tenants(): readonly string[] {
    return [this.world.tenant, `${this.world.tenant}-foreign`];
  }

  close(): void {
    this.sender.close();
  }
}
