import type { Scope } from "../identity/scopes.ts";

/** Which of the two doors a request came in by. */
export type Door = "context" | "native";

/** What a route is, apart from what it does. */
export interface RouteFacts {
  method: "GET" | "POST" | "PUT" | "DELETE";
  /** With `:name` for an id; `/:path+` at its end takes the rest, whatever that is. */
  path: string;
  door: Door;
  /** What the credential must be allowed to; null where any credential will do. */
  needs: Scope | null;
  /** Whether a token that is bound to a run may use it, though no run is in its path. */
  isForBound?: true;
}
