/** Samples in MiB, in the order they were taken. */
export interface MemorySamples {
  /** What lives in the heap of the Worker's isolate, garbage collected. */
  readonly heapMib: number[];
  /** What the process holds in all; empty where that cannot be seen. */
  readonly rssMib: number[];
}

/** What may live in the isolate's heap, MiB: half of what one has on the platform, because bodies come and go beside it. */
export const MAX_HEAP_MIB = 64;

/** How much more may live there at the end than early on, MiB. Some runs' objects are awake then, and others before. */
export const MAX_HEAP_GROWTH_MIB = 16;

/**
 * What the process may hold in all: so many MiB, and so much for each request. Most of it is the runtime's own: SQLite's memory for
 * each object and for the databases and buckets that are simulated here, which a busy process does not give back.
 */
export const MAX_RSS_MIB = 600;
export const MAX_RSS_MIB_PER_REQUEST = 0.06;

export interface MemoryVerdict {
  readonly samples: MemorySamples;
  readonly peakHeapMib: number;
  /** How much more lives at the end than early on: the medians of the last and the second quarter; null for too few samples. */
  readonly heapGrowthMib: number | null;
  readonly peakRssMib: number | null;
  readonly faults: readonly string[];
}

/** The first quarter of the samples is warm-up. */
const QUARTERS = 4;

/** Judges what was sampled during so many requests. */
export function judgeMemory(samples: MemorySamples, requests: number): MemoryVerdict {
  const { heapMib, rssMib } = samples;
  const quarter = Math.floor(heapMib.length / QUARTERS);
  const peakHeapMib = Math.max(0, ...heapMib);
  const heapGrowthMib =
    quarter < 2 ? null : median(heapMib.slice(-quarter)) - median(heapMib.slice(quarter, 2 * quarter));
  const peakRssMib = rssMib.length === 0 ? null : Math.max(...rssMib);
  const maxRssMib = MAX_RSS_MIB + MAX_RSS_MIB_PER_REQUEST * requests;
  const faults: string[] = [];
  if (peakHeapMib > MAX_HEAP_MIB)
    faults.push(`${show(peakHeapMib)} live in the heap, ${MAX_HEAP_MIB} MiB are allowed`);
  if (heapGrowthMib !== null && heapGrowthMib > MAX_HEAP_GROWTH_MIB) {
    faults.push(
      `${show(heapGrowthMib)} more live in the heap at the end, ${MAX_HEAP_GROWTH_MIB} MiB are allowed`,
    );
  }
  if (peakRssMib !== null && peakRssMib > maxRssMib) {
    faults.push(`the process holds ${show(peakRssMib)}, ${show(maxRssMib)} are allowed`);
  }
  return { samples, peakHeapMib, heapGrowthMib, peakRssMib, faults };
}

function show(mib: number): string {
  return `${mib.toFixed(0)} MiB`;
}

function median(values: readonly number[]): number {
  return [...values].sort((a, b) => a - b)[Math.floor(values.length / 2)] ?? 0;
}
