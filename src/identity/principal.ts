import type { Tenant } from "../protocol/run.ts";
import type { Scope } from "./scopes.ts";

/** Who sends a request, by its credential alone. */
export interface Principal {
  /** `root`: the secret BATON_TOKEN; `token`: one that this deployment has minted; `external`: one of a trusted issuer. */
  kind: "root" | "token" | "external";
  tenant: Tenant;
  scopes: readonly Scope[];
  /** The token's id; `root` for the root credential. Shown in logs and audit events: it is no secret. */
  token_id: string;
  /** Of another issuer's token: whom it is of, told apart from those of other issuers. The next token has the same. */
  subject?: string;
  /** Ids of the tokens that it was minted from, the first one first: it is revoked with each of them. */
  ancestors: readonly string[];
  /** What the token is bound to; null where it is bound to nothing. */
  run_id: string | null;
  agent_id: string | null;
  task_types: readonly string[] | null;
  /** Epoch ms from when it is no longer valid; null for ever. */
  expires_at_ms: number | null;
}

/** The holder of the root credential, acting for a tenant. */
export function rootPrincipal(tenant: Tenant): Principal {
  return {
    kind: "root",
    tenant,
    scopes: ["operator"],
    token_id: "root",
    ancestors: [],
    run_id: null,
    agent_id: null,
    task_types: null,
    expires_at_ms: null,
  };
}
