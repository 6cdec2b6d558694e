import type { Effect, EffectKind } from "../../domain/audit.ts";
import type { Sql } from "./sql.ts";

/** Where an event is that audits ask for. */
export interface EffectRow extends Record<string, SqlStorageValue> {
  seq: number;
  /** Of a mutation that was undone: seq of the rollback. */
  applied_seq: number | null;
}

/** The index of the events that audits ask for: views read it, then the events themselves. */
export class EffectTable {
  readonly #sql: Sql;

  constructor(sql: Sql) {
    this.#sql = sql;
  }

  /** Doing it again changes nothing. */
  add({ kind, seq, event_id }: Effect): void {
    this.#sql.run(
      "INSERT INTO effects (kind, seq, event_id) VALUES (?, ?, ?) ON CONFLICT DO NOTHING",
      kind,
      seq,
      event_id,
    );
  }

  markApplied(seqs: number[], appliedSeq: number): void {
    for (const seq of seqs) {
      this.#sql.run(
        "UPDATE effects SET applied_seq = ? WHERE kind = 'mutation' AND seq = ?",
        appliedSeq,
        seq,
      );
    }
  }

  appliedSeq(mutationSeq: number): number | null {
    const row = this.#sql.first<{ applied_seq: number | null }>(
      "SELECT applied_seq FROM effects WHERE kind = 'mutation' AND seq = ?",
      mutationSeq,
    );
    return row?.applied_seq ?? null;
  }

  /** Events of a kind with `after < seq <= upto`; ascending, or newest first. */
  page(kind: EffectKind, after: number, upto: number, newestFirst: boolean, limit: number): EffectRow[] {
    return this.#sql.all<EffectRow>(
      `SELECT seq, applied_seq FROM effects WHERE kind = ? AND seq > ? AND seq <= ?
       ORDER BY seq ${newestFirst ? "DESC" : "ASC"} LIMIT ?`,
      kind,
      after,
      upto,
      limit,
    );
  }

  /** The mutation whose event has this id. */
  mutation(eventId: string): EffectRow | null {
    return this.#sql.first<EffectRow>("SELECT seq, applied_seq FROM effects WHERE event_id = ?", eventId);
  }
}
