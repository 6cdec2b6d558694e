import { createExecutionContext } from "cloudflare:test";
import type { Env } from "../../src/env.ts";
import { serve as serveWith } from "../../src/http/server.ts";

/** The Worker's own way of answering, with bindings of the test's choice. */
export function serve(request: Request, env: Env): Promise<Response> {
  return serveWith(request, env, createExecutionContext());
}
