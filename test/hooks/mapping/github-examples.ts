import examples from "@octokit/webhooks-examples/api.github.com/index.json";

/** A real payload, with the event that GitHub names in its header. */
export interface GithubExample {
  event: string;
  action: string;
  body: Record<string, unknown>;
}

/** All of the package. Its JSON has a type of its own for each, which says less here. */
export const GITHUB: GithubExample[] = (
  examples as unknown as { name: string; examples: Record<string, unknown>[] }[]
).flatMap(({ name, examples: bodies }) =>
  bodies.map((body) => ({ event: name, action: String(body.action ?? ""), body })),
);

/** The first example of an event and action, which must be there. */
export function exampleOf(event: string, action: string): GithubExample {
  const found = GITHUB.find((example) => example.event === event && example.action === action);
  if (found === undefined) throw new Error(`no example of ${event} ${action}`);
  return found;
}
