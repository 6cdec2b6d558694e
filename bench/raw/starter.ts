/**
 * Starts a Worker from its code, anew with every request: an isolate of its own that parses the module, evaluates its
 * top level and answers one request. The path names the binding that holds the code.
 */
export default {
  async fetch(request: Request, env: StarterEnv): Promise<Response> {
    const { pathname } = new URL(request.url);
    const code = pathname === "/worker" ? env.WORKER : env.EMPTY;
    const started = env.LOADER.load({
      ...env.COMPATIBILITY,
      mainModule: "index.js",
      modules: { "index.js": code },
      // Its lines about requests would only stand between the figures.
      env: { REQUEST_LOG: "none" },
      globalOutbound: null,
    });
    const response = await started.getEntrypoint().fetch("https://worker/global/health");
    return new Response(response.body, { status: response.status });
  },
};

interface StarterEnv {
  LOADER: WorkerLoader;
  COMPATIBILITY: Pick<WorkerLoaderWorkerCode, "compatibilityDate" | "compatibilityFlags">;
  /** Module texts. */
  WORKER: string;
  EMPTY: string;
}
