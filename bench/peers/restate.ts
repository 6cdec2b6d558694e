import { Agent, request } from "node:http";
import { installedPackage } from "./installed.ts";
import { host, untilReady } from "./network.ts";
import { type Peer, Skipped } from "./peer.ts";
import { createAll, type Payload, workAll } from "./phases.ts";
import { type RestateServer, startRestate } from "./restate-server.ts";
import type { HoldRequest, StoredTask } from "./restate-service.ts";

const runId = "run";
const holdMs = 30_000;

interface RestateHold {
  task: number;
  id: number;
  holder: string;
}

/** Restate, with a virtual object as the queue. */
export const run: Peer = async (job, children) => {
  const sdk = installedPackage("@restatedev/restate-sdk");
  // The package does not declare it, and its handlers fail for ever without.
  if (!("withResolvers" in Promise)) throw new Skipped(`${sdk} needs Node 22, this is ${process.version}`);
  const server = await startRestate(job, children);
  const agent = new Agent({ keepAlive: true, maxSockets: job.agents });
  const call = caller(server.ingressPort, agent);
  const hold = (holder: string): Omit<HoldRequest, "id"> => ({ holder, heldUntilMs: Date.now() + holdMs });
  try {
    // The ingress knows a service a moment after it was registered; a claim on an empty queue changes nothing.
    await untilReady(() => call("claim", hold("probe")));
    const syncsBefore = await server.countLogSyncs();
    const create_ms = await createAll(job, (payload) => call("create", payload));
    const times = await workAll<RestateHold>(job, {
      claim: async (index) => {
        const holder = `agent-${index}`;
        const claimed = (await call("claim", hold(holder))) as { id: number; payload: Payload } | null;
        return claimed === null ? undefined : { task: claimed.payload.task, id: claimed.id, holder };
      },
      heartbeat: async ({ id, holder }) => {
        await call("heartbeat", { id, ...hold(holder) });
      },
      complete: async ({ id, holder }) => {
        await call("complete", { id, holder });
      },
    });
    const syncs = (await server.countLogSyncs()) - syncsBefore;
    await assertAllDone(server, job.tasks);
    return {
      peer: "restate",
      versions: `${sdk}, ${server.version}`,
      durability: `log on one node; it synced its write-ahead log ${syncs} times during the job`,
      idiom:
        "one virtual object for the run, one state key for each task, lazy state; create, claim, heartbeat and complete " +
        "are exclusive handlers called over HTTP; heartbeat moves the hold's expiry in the task's state",
      create_ms,
      ...times,
      tasks: job.tasks,
      agents: job.agents,
    };
  } finally {
    agent.destroy();
  }
};

/** Calls handlers of the run's object through the ingress, which answers when the handler's effects are durable. */
function caller(port: number, agent: Agent): (handler: string, input: object) => Promise<unknown> {
  return (handler, input) =>
    new Promise((resolve, reject) => {
      const body = JSON.stringify(input);
      const headers = { "content-type": "application/json", "content-length": Buffer.byteLength(body) };
      const path = `/Queue/${runId}/${handler}`;
      const sent = request({ host, port, path, method: "POST", agent, headers }, (response) => {
        let text = "";
        response.setEncoding("utf8");
        response.on("data", (chunk: string) => {
          text += chunk;
        });
        response.once("error", reject);
        response.once("end", () => {
          if (response.statusCode !== 200) reject(new Error(`${handler}: ${response.statusCode} ${text}`));
          else resolve(text === "" ? undefined : JSON.parse(text));
        });
      });
      sent.once("error", reject);
      sent.end(body);
    });
}

async function assertAllDone(server: RestateServer, tasks: number): Promise<void> {
  const rows = await server.query<{ value_utf8: string }>(
    `select value_utf8 from state where service_name = 'Queue' and service_key = '${runId}' and key like 'task/%'`,
  );
  const done = rows.filter(({ value_utf8 }) => (JSON.parse(value_utf8) as StoredTask).status === "done");
  if (rows.length !== tasks || done.length !== tasks) {
    throw new Error(`Restate holds ${rows.length} tasks, ${done.length} of them done`);
  }
}
