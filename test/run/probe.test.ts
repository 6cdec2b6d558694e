import { evictDurableObject, runDurableObjectAlarm, runInDurableObject } from "cloudflare:test";
import { env, exports } from "cloudflare:workers";
import fc from "fast-check";
import { expect, it, vi } from "vitest";
import { LOCAL_TENANT, runObjectName, tenantKey } from "../../src/identity/tenant.ts";
import { runClient } from "../../src/run/run-client.ts";
import type { RunObject } from "../../src/run/run-object.ts";
import { Sql } from "../../src/run/storage/sql.ts";

it("probe", async () => {
  const id = crypto.randomUUID();
  const name = runObjectName(tenantKey(LOCAL_TENANT), id);
  const c = runClient(env.RUNS, name);
  const stub = env.RUNS.getByName(name);
  const r = await c.create({ tenant: LOCAL_TENANT, draft: { run_id: id, objective: "o", run_type: "t", workspace: { workspace_id: "", canonical_path: "", lease_epoch: 0 }, mcp_servers: [] }, command: null });
  console.log(JSON.stringify(r));
  const t0 = performance.now();
  const spy = vi.spyOn(Sql.prototype, "transaction");
  await runInDurableObject(stub, async (o: RunObject, state) => {
    console.log(state.storage === state.storage, Object.keys(o));
    try { const s = vi.spyOn(state.storage, "sync"); await o.submit({ command: { op: "append_event", type: "x", status: "running", payload: null } }); console.log("sync calls", s.mock.calls.length); s.mockRestore(); } catch (e) { console.log("spy sync", String(e)); }
    try { const s = vi.spyOn(state.storage, "setAlarm"); await o.submit({ command: { op: "append_event", type: "x", status: "planning", payload: null } }); console.log("setAlarm calls", s.mock.calls.length); s.mockRestore(); } catch (e) { console.log("spy setAlarm", String(e)); }
    console.log("alarm", await state.storage.getAlarm());
  });
  console.log("tx", spy.mock.calls.length); spy.mockRestore();
  const proto = Object.getPrototypeOf(env.DIRECTORY.prepare("SELECT 1"));
  const ps = vi.spyOn(proto, "run").mockImplementation(() => Promise.reject(new Error("boom")));
  console.log(JSON.stringify(await c.submit({ command: { op: "append_event", type: "x", status: "running", payload: null } })));
  await runDurableObjectAlarm(stub);
  console.log("d1 run calls", ps.mock.calls.length); ps.mockRestore();
  await evictDurableObject(stub);
  console.log(JSON.stringify(await c.readOverview()).slice(0, 80));
  // bulk
  for (const size of [1]) {
    const t = performance.now();
    for (let b = 0; b < 20; b++) {
      const a = await c.submit({ command: { op: "create_tasks", replace_existing: false, tasks: Array.from({ length: 500 }, (_, i) => ({ id: `t-${b}-${i}`, task_type: `k${i % 3}`, payload: null, depends_on_task_ids: [], decision_ids: [], artifact_ids: [] })) } });
      if (b === 0) console.log("rows", a.rows);
    }
    console.log("10k tasks ms", performance.now() - t, size);
  }
  fc.assert(fc.property(fc.integer(), (n) => n === n));
  const res = await exports.default.fetch(new Request("http://x/global/health"));
  console.log(res.status, performance.now() - t0);
  expect(1).toBe(1);
});
