import { execFile } from "node:child_process";
import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, expect, it, onTestFinished } from "vitest";

interface Ended {
  status: number | null;
  stdout: string;
  stderr: string;
}

/** Runs `npm run bench -- …` to its end. */
function bench(...args: string[]): Promise<Ended> {
  const { promise, resolve } = Promise.withResolvers<Ended>();
  const child = execFile("npm", ["run", "--silent", "bench", "--", ...args], (_error, stdout, stderr) =>
    resolve({ status: child.exitCode, stdout, stderr }),
  );
  return promise;
}

async function temporaryDirectory(): Promise<string> {
  const directory = await mkdtemp(join(tmpdir(), "baton-bench-"));
  onTestFinished(() => rm(directory, { recursive: true, force: true }));
  return directory;
}

/** One figure of the JSON file. */
interface WrittenFigure {
  name: string;
  rounds: number[];
  spread: { max: number };
  bar?: { neverOver?: number };
  verdict: string;
}

async function figuresIn(file: string): Promise<WrittenFigure[]> {
  const { measures } = JSON.parse(await readFile(file, "utf8"));
  return measures.flatMap((measure: { figures: WrittenFigure[] }) => measure.figures);
}

describe("npm run bench", () => {
  it("design: finds every operation within its budget of rows, and tells so twice", {
    timeout: 120_000,
  }, async () => {
    const file = join(await temporaryDirectory(), "rows.json");
    const { status, stdout, stderr } = await bench("--only", "rows", "--rounds", "3", "--json", file);
    expect({ status, stderr }).toMatchObject({ status: 0 });
    const figures = await figuresIn(file);
    expect(figures.length).toBeGreaterThanOrEqual(36);
    const lines = stdout.split("\n");
    for (const { name, rounds, spread, bar, verdict } of figures) {
      // Three rounds on each of two sizes of run.
      expect(rounds, name).toHaveLength(6);
      expect(spread.max, name).toBeLessThanOrEqual(bar?.neverOver ?? 0);
      expect(verdict, name).toBe("met");
      const line = lines.find((shown) => shown.trim().startsWith(`${name} `));
      expect(line?.trim().split(/ {2,}/)).toEqual([
        name,
        expect.stringMatching(/^[\d.]+ rows$/),
        expect.stringMatching(/^[\d.]+ rows$/),
        `${Number(spread.max.toPrecision(3))} rows`,
        `max ≤ ${bar?.neverOver} rows`,
        "met",
      ]);
    }
  });

  it("exits with 0 exactly when no bar was missed", { timeout: 120_000 }, async () => {
    const file = join(await temporaryDirectory(), "append.json");
    const ended = await bench("--only", "append", "--rounds", "3", "--seconds", "0.1", "--json", file);
    const figures = await figuresIn(file);
    const barred = figures.filter((figure) => figure.bar !== undefined);
    expect(barred.length).toBeGreaterThan(0);
    expect(barred.map((figure) => figure.verdict)).not.toContain("reported");
    const misses = barred.filter((figure) => figure.verdict === "missed").length;
    expect(ended.stdout.match(/MISSED/g) ?? []).toHaveLength(misses);
    expect(ended).toMatchObject({ status: misses === 0 ? 0 : 1 });
    for (const figure of figures) expect(figure.rounds).toHaveLength(3);
  });

  it("refuses wrong arguments by name, before it measures anything", { timeout: 60_000 }, async () => {
    const directory = await temporaryDirectory();
    const wrong = [
      ["--only", "nothing"],
      ["--only", "rows,"],
      ["--only", "rows,append,rows"],
      ["--rounds", "2"],
      ["--seconds", "fast"],
      ["--json", directory],
      ["--colour"],
    ];
    for (const args of wrong) {
      const ended = await bench(...args);
      expect(ended, args.join(" ")).toMatchObject({ status: 2, stdout: "" });
      expect(ended.stderr.split("\n")[0]).toContain(args[0]);
    }
  });

  it("leaves an earlier file alone until there is something new to write", { timeout: 30_000 }, async () => {
    const file = join(await temporaryDirectory(), "kept.json");
    await writeFile(file, "{}");
    expect(await bench("--json", file, "--only", "nothing")).toMatchObject({ status: 2 });
    expect(await readFile(file, "utf8")).toBe("{}");
  });
});
