import { quotaExceeded, readAllowance } from "../directory/quotas.ts";
import { feedClient } from "../feed/feed-client.ts";
import { type Seat, takeSeat } from "../streams/seat.ts";
import type { Call } from "./call.ts";
import { RequestRefused } from "./problem.ts";

/**
 * A seat for a request that follows something; null for the root credential, which needs none.
 * @throws RequestRefused `QUOTA_EXCEEDED`
 */
export async function seatFor(call: Call): Promise<Seat | null> {
  if (call.principal.kind === "root") return null;
  const { limits } = await readAllowance(call.env.DIRECTORY, call.tenantKey);
  const feed = () => feedClient(call.env.FEEDS, { tenant: call.tenantKey, workspace: null });
  const seat = await takeSeat(feed, limits.streams);
  if (typeof seat === "number") throw new RequestRefused(quotaExceeded("streams", limits.streams, seat));
  return seat;
}
