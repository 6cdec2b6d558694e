const pollMs = 250;

/**
 * Calls `onGone` once when the npm or tsx that launched this process is gone without having passed a signal on, as
 * after kill -9: whoever ended it meant the server too. A server launched by anything else may outlive its launcher.
 */
export function whenLauncherIsGone(onGone: () => void): void {
  const viaNpm = process.env.npm_lifecycle_event === "start";
  const viaTsx = process.execArgv.some(
    (argument) => argument.includes("tsx") && argument.includes("preflight"),
  );
  if (!viaNpm && !viaTsx) return;
  const launcher = process.ppid;
  const timer = setInterval(() => {
    // An orphan gets another parent.
    if (process.ppid === launcher) return;
    clearInterval(timer);
    onGone();
  }, pollMs);
  timer.unref();
}
