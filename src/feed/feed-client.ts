import { type FeedScope, feedObjectName } from "../identity/tenant.ts";
import type { FeedObject } from "./feed-object.ts";

/** A feed's object as those who follow it see it. */
export type FeedClient = Pick<FeedObject, "fetch" | "seatsTaken" | "enroll" | "readRows" | "headsAt">;

/** The object of a feed. It stores nothing until it is followed. */
export function feedClient(feeds: DurableObjectNamespace<FeedObject>, scope: FeedScope): FeedClient {
  return feeds.getByName(feedObjectName(scope)) as unknown as FeedClient;
}
