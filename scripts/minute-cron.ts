const minuteMs = 60_000;

/**
 * Calls `run` at each minute boundary with the boundary's time (epoch milliseconds), as the cron "* * * * *" does. A
 * run that takes longer than a minute delays the next one; boundaries passed meanwhile, or while the machine slept, are
 * not made up for.
 *
 * @returns a function that ends the calls.
 */
export function everyMinute(run: (scheduledAtMs: number) => Promise<void>): () => void {
  let timer: NodeJS.Timeout | undefined;
  let lastMs = 0;
  let stopped = false;
  const wait = (): void => {
    // A timer may fire a little early: never take the same boundary twice.
    const nextMs = Math.max((Math.floor(Date.now() / minuteMs) + 1) * minuteMs, lastMs + minuteMs);
    timer = setTimeout(() => {
      lastMs = nextMs;
      void run(nextMs).finally(() => {
        if (!stopped) wait();
      });
    }, nextMs - Date.now());
  };
  wait();
  return () => {
    stopped = true;
    clearTimeout(timer);
  };
}
