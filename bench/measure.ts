import { type Spread, spread } from "./stats.ts";

/** What the median of a figure must reach, or must not exceed; or what none of its rounds may exceed. */
export type Bar = { atLeast: number } | { atMost: number } | { neverOver: number };

export type Unit = "/s" | "ms" | "x" | "rows" | "times" | "watchers" | "KB" | "%";

/** One line of a measure's table. */
export interface Figure {
  name: string;
  unit: Unit;
  /** One value per round. */
  rounds: number[];
  /** Without one, the figure is only reported. */
  bar?: Bar;
}

/** What a measure found. */
export interface Report {
  figures: Figure[];
  /** How to read the figures: settings, and what they do not say. */
  notes: string[];
}

/** A server under load. */
export interface Target {
  /** Without a slash at the end. */
  url: string;
  token: string;
}

/** A server that can be ended; ending it again does nothing. */
export interface Closable {
  close(): Promise<void>;
}

/** What a measure works with. */
export interface Bench {
  /** Counted rounds, at least three. */
  rounds: number;
  /** How long one subject is loaded in one round, in milliseconds. */
  roundMs: number;
  /** Baton as `npm start` runs it, on fresh storage; the same for all measures that ask. */
  baton(): Promise<Target>;
  /** The raw platform: the Worker of bench/raw, on fresh storage. */
  raw(): Promise<Target>;
  /** A directory for what a measure keeps on disk; removed at the end. */
  directory(name: string): Promise<string>;
  /** Starts a server that a measure needs for itself. It is closed at the end, or earlier by the measure. */
  serve<S extends Closable>(start: () => Promise<S>): Promise<S>;
  /** Aborted when the bench ends before its time: what works without a server must then give up. */
  signal: AbortSignal;
  /** Says what is going on, while it goes on. */
  progress(text: string): void;
}

/** One question the bench answers. */
export interface Measure {
  /** For `--only`. */
  name: string;
  title: string;
  run(bench: Bench): Promise<Report>;
}

export type Verdict = "met" | "missed" | "reported";

/** What a figure says about its bar. A figure with a round that could not be measured (NaN), or with none, misses it. */
export function judge({ rounds, bar }: Pick<Figure, "rounds" | "bar">): { spread: Spread; verdict: Verdict } {
  const found = spread(rounds);
  if (bar === undefined) return { spread: found, verdict: "reported" };
  return { spread: found, verdict: meets(found, bar) ? "met" : "missed" };
}

function meets({ median, max }: Spread, bar: Bar): boolean {
  if ("atLeast" in bar) return median >= bar.atLeast;
  return "atMost" in bar ? median <= bar.atMost : max <= bar.neverOver;
}
