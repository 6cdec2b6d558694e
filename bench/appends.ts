import { accepted, withConnections } from "./connection.ts";
import { drive } from "./drive.ts";
import type { Target } from "./measure.ts";

/** What an agent notes while it works. */
export const noteEvent = JSON.stringify({
  type: "note.added",
  status: "running",
  payload: { text: "the parser accepts both forms", line: 12, files: ["src/a.ts", "src/b.ts"] },
});

/**
 * Sends the note over that many connections for a time.
 *
 * @param pathOf where a connection sends it, by the connection's index.
 * @returns accepted notes per second.
 */
export function noteRate(
  target: Target,
  load: { connections: number; durationMs: number; pathOf(connection: number): string },
): Promise<number> {
  return withConnections(target, load.connections, async (open) => {
    const { perSecond } = await drive(open, load.durationMs, async (connection, index) => {
      const path = load.pathOf(index);
      accepted(path, await connection.post(path, noteEvent));
    });
    return perSecond;
  });
}
