import { DurableObject } from "cloudflare:workers";
import { type DisabledReason, disableSubscription } from "../../directory/subscriptions.ts";
import type { Env } from "../../env.ts";
import { rootPrincipal } from "../../identity/principal.ts";
import { subscriptionOf, tenantOfKey } from "../../identity/tenant.ts";
import { AlarmClock } from "../../run/alarm-clock.ts";
import type { Nudge } from "../../run/nudges.ts";
import { migrate, storedVersion } from "../../run/storage/migrate.ts";
import { Sql } from "../../run/storage/sql.ts";
import { attemptMessage, takeTurn } from "./deliver.ts";
import { type Backlog, type Line, Lines } from "./lines.ts";
import { PING, pingBody } from "./message.ts";
import { type AttemptRecord, type DeadLetter, DeliveryRecord, type Health } from "./record.ts";
import { activeSecrets, readSettings, SECRETS_CLOSED, type Settings } from "./settings.ts";
import { MIGRATIONS } from "./storage.ts";

/** Runs that one subscription delivers from side by side; the platform lets an object have six connections. */
const MAX_AT_ONCE = 4;
/** What the directory says of the subscription is read anew after this, should a call that told of a change be lost. */
const SETTINGS_KNOWN_MS = 60_000;
/** Where not the receiver but something of ours failed, it is tried again after this. */
const TROUBLE_MS = 10_000;
/**
 * While something is on its way, the alarm is set for no later than this, and that is longer than a receiver is waited for: it
 * is what goes on after a crash.
 */
const GUARD_MS = 30_000;
/** An alarm that is at work cannot fire: what takes longer goes on behind it. */
const MAX_ALARM_WAIT_MS = 1_000;
/** Replays of one subscription that are not done. */
export const MAX_REPLAYS = 100;

/** How far a subscription is, and how it fares. */
export interface SubscriptionState {
  health: Health;
  backlog: Backlog;
  dead_letters: number;
}

/**
 * Sends what the runs of one subscription have committed to its receiver, each run's events in order, and keeps how far it is.
 * It is told that there is something new and reads it from the run's log itself, so that a message that is lost on the way
 * to it delays and never skips. A receiver is waited for here and nowhere else: no commit knows of it.
 *
 * At least once: what was sent and not noted before a crash is sent again, under the same `webhook-id`.
 */
export class SubscriptionObject extends DurableObject<Env> {
  readonly #sql: Sql;
  readonly #alarm: AlarmClock;
  readonly #lines: Lines;
  readonly #record: DeliveryRecord;
  /** Lines that have a message on its way. */
  readonly #working = new Set<string>();
  #name: string | null = null;
  #settings: { readAtMs: number; value: Settings } | null = null;
  /** Counts the calls that change what the subscription is: what was read before one is out of date. */
  #changes = 0;
  /** Whether the subscription was found disabled: until somebody calls, nothing is to be done. */
  #isResting = false;
  /** Turns that are being taken. */
  readonly #turns = new Set<Promise<void>>();

  constructor(ctx: DurableObjectState, env: Env) {
    super(ctx, env);
    this.#sql = new Sql(ctx.storage);
    this.#alarm = new AlarmClock(ctx.storage);
    this.#lines = new Lines(this.#sql);
    this.#record = new DeliveryRecord(this.#sql);
    if (storedVersion(this.#sql) === 0) return;
    migrate(this.#sql, MIGRATIONS);
    this.#name = this.#record.name();
    void ctx.blockConcurrencyWhile(() => this.#alarm.load());
  }

  /** Runs have something new, perhaps. Answers when that is noted, and waits for no receiver. */
  async nudge(nudges: Nudge[]): Promise<void> {
    this.#open();
    const nowMs = Date.now();
    this.#sql.transaction(() => {
      for (const nudge of nudges) this.#lines.heard(nudge, nowMs);
    });
    this.#isResting = false;
    this.#pump();
  }

  /**
   * The subscription was changed in the directory. With `forgives` it tries anew what has failed; with `skips` it leaves out
   * what is on the way to it.
   */
  async changed({ forgives = false, skips = false } = {}): Promise<void> {
    this.#open();
    this.#settings = null;
    this.#isResting = false;
    this.#changes += 1;
    this.#sql.transaction(() => {
      if (skips) this.#lines.removeLive();
      if (!forgives) return;
      this.#record.forgive();
      this.#lines.hurry(Date.now());
    });
    this.#pump();
  }

  /** The subscription is about to begin elsewhere: what it has heard of until now begins where it was to begin. */
  async keepStarts(sinceMs: number): Promise<void> {
    this.#open();
    this.#lines.keepStarts(sinceMs);
  }

  /** The subscription was deleted: nothing of it stays. */
  async erase(): Promise<void> {
    this.#changes += 1;
    this.#settings = null;
    this.#name = null;
    await this.ctx.storage.deleteAlarm();
    await this.ctx.storage.deleteAll();
    this.#alarm.fired();
  }

  async readState(): Promise<SubscriptionState> {
    this.#open();
    return {
      health: this.#record.health(),
      backlog: this.#lines.backlog(),
      dead_letters: this.#record.letterCount(),
    };
  }

  /** The last attempts, newest first. */
  async readAttempts(): Promise<AttemptRecord[]> {
    this.#open();
    return this.#record.attempts();
  }

  /** Dead letters before a position, newest first. */
  async readLetters(
    beforePos: number,
    limit: number,
  ): Promise<{ letters: DeadLetter[]; nextPos: number | null }> {
    this.#open();
    return this.#record.letters(beforePos, limit);
  }

  /** Sends a dead letter once more, with all its attempts. Null when there is none of that id. */
  async redeliver(letterId: string): Promise<DeadLetter | null> {
    this.#open();
    const letter = this.#record.letter(letterId);
    if (letter === null) return null;
    const { run_id, seq } = letter;
    const line_id = `letter:${letterId}`;
    this.#lines.add({ line_id, kind: "letter", run_id, after_seq: seq - 1, upto_seq: seq }, Date.now());
    this.#pump();
    return letter;
  }

  /** Sends the wanted events of a stretch of a run's log once more, in order. Null when too many replays are not done. */
  async replay(runId: string, afterSeq: number, uptoSeq: number): Promise<string | null> {
    this.#open();
    if (this.#lines.replays() >= MAX_REPLAYS) return null;
    const id = crypto.randomUUID().replaceAll("-", "");
    const line = { line_id: `replay:${id}`, kind: "replay", run_id: runId } as const;
    this.#lines.add({ ...line, after_seq: afterSeq, upto_seq: uptoSeq }, Date.now());
    this.#pump();
    return id;
  }

  /**
   * Sends a test's message, once, at once, also while the subscription is disabled; else tells why not: it was deleted, or no
   * secret of it can be opened.
   */
  async ping(): Promise<AttemptRecord | "deleted" | "closed"> {
    this.#open();
    const settings = await this.#readSettings();
    if (settings === null) return "deleted";
    if (activeSecrets(settings, Date.now()).length === 0) return "closed";
    const webhook_id = `msg_${crypto.randomUUID().replaceAll("-", "")}`;
    const body = pingBody(settings.subscription.subscription_id, Date.now());
    const message = { webhook_id, type: PING, run_id: null, seq: null, attempt: 1 };
    const { attempt } = await attemptMessage(this.env, settings, message, body);
    if (this.#name !== null) this.#record.attempted(attempt, 0);
    return attempt;
  }

  /** May fire early, late or twice: derives anew what is due. */
  override async alarm(): Promise<void> {
    this.#alarm.fired();
    if (this.#name === null) return;
    const patience = new AbortController();
    const isOver = scheduler.wait(MAX_ALARM_WAIT_MS, { signal: patience.signal }).catch(() => undefined);
    this.#pump();
    await Promise.race([this.#settled(), isOver]);
    patience.abort();
  }

  /** Stores which subscription this is, when it is first called. */
  #open(): void {
    if (this.#name !== null) return;
    const name = this.ctx.id.name ?? "";
    this.#sql.transaction(() => {
      migrate(this.#sql, MIGRATIONS);
      this.#record.begin(name);
    });
    this.#name = name;
  }

  /** Gives lines that are due their turn, as many at once as there may be. A turn that ends makes room for the next. */
  #pump(): void {
    if (this.#name === null || this.#isResting) return;
    const { failing_since_ms, paused_until_ms } = this.#record.health();
    // While nothing succeeds, one message at a time is enough to find out when that changes.
    const room = failing_since_ms === null ? MAX_AT_ONCE : 1;
    while (paused_until_ms <= Date.now() && this.#working.size < room) {
      const line = this.#lines.nextDue(Date.now(), this.#working);
      if (line === null) break;
      this.#working.add(line.line_id);
      const turn = this.#turn(line).finally(() => {
        this.#working.delete(line.line_id);
        this.#turns.delete(turn);
        this.#pump();
      });
      this.#turns.add(turn);
    }
    this.#arm(this.#working.size < room, paused_until_ms);
  }

  #arm(hasRoom: boolean, pausedUntilMs: number): void {
    const guardMs = this.#working.size === 0 ? null : Date.now() + GUARD_MS;
    const dueAtMs = hasRoom ? this.#lines.nextDueAtMs(this.#working) : null;
    const nextMs = dueAtMs === null ? null : Math.max(dueAtMs, pausedUntilMs);
    const moments = [guardMs, nextMs].filter((moment) => moment !== null);
    if (moments.length > 0) this.#alarm.armFor(Math.min(...moments));
  }

  /** Never rejects. */
  async #turn(line: Line): Promise<void> {
    const changes = this.#changes;
    let settings: Settings | null = null;
    try {
      settings = await this.#readSettings();
      if (settings === null) return await this.erase();
      if (settings.subscription.status !== "active") {
        // Unless it was enabled while that was read.
        this.#isResting = this.#changes === changes;
        return;
      }
      if (activeSecrets(settings, Date.now()).length === 0) throw new Error(SECRETS_CLOSED);
      const desk = {
        env: this.env,
        sql: this.#sql,
        lines: this.#lines,
        record: this.#record,
        settings,
        isCurrent: () => this.#changes === changes,
      };
      const reason = await takeTurn(desk, line);
      if (reason !== null) await this.#disable(settings, reason);
    } catch (error) {
      // Deleted meanwhile: there is nothing left to note it in.
      if (this.#name === null) return;
      const { line_id } = line;
      console.error(JSON.stringify({ event: "delivery_troubled", line_id, error: String(error) }));
      const untilMs = Date.now() + TROUBLE_MS;
      // What keeps one line from being served keeps all: each of them would ask again.
      if (settings === null || activeSecrets(settings, Date.now()).length === 0) this.#record.pause(untilMs);
      else this.#lines.postpone(line_id, untilMs);
    }
  }

  async #disable({ subscription }: Settings, reason: DisabledReason): Promise<void> {
    const by = { ...rootPrincipal(tenantOfKey(subscription.tenant)), token_id: "baton" };
    const changes = this.#changes;
    await disableSubscription(this.env.DIRECTORY, by, subscription, reason, Date.now());
    this.#settings = null;
    // Unless somebody has enabled it again before that was heard here.
    this.#isResting = this.#changes === changes;
  }

  /** What the directory says of the subscription, perhaps a minute ago; null when it was deleted. */
  async #readSettings(): Promise<Settings | null> {
    const known = this.#settings;
    if (known !== null && known.readAtMs + SETTINGS_KNOWN_MS > Date.now()) return known.value;
    const changes = this.#changes;
    const readAtMs = Date.now();
    const value = await readSettings(this.env, subscriptionOf(this.#name ?? ""));
    // Where no secret could be opened somebody is about to mend that, and what is disabled may be enabled any time.
    const isLasting = value?.subscription.status === "active" && activeSecrets(value, readAtMs).length > 0;
    if (isLasting && this.#changes === changes) this.#settings = { readAtMs, value };
    return value;
  }

  /** Resolves when nothing is on its way. */
  async #settled(): Promise<void> {
    while (this.#turns.size > 0) await Promise.all(this.#turns);
  }
}
