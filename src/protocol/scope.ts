/** What a credential may do; identity/scopes.ts says what each word allows. */
export const SCOPES = ["ingest", "viewer", "agent", "planner", "operator"] as const;

export type Scope = (typeof SCOPES)[number];
