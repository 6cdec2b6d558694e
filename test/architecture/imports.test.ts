/// <reference types="vite/types/importMeta.d.ts" />
import { describe, expect, it } from "vitest";

/** Source files by their path below `src`, as text. */
type Sources = ReadonlyMap<string, string>;

const SOURCES: Sources = new Map(
  Object.entries(
    import.meta.glob<string>("../../src/**/*.ts", { query: "?raw", import: "default", eager: true }),
  ).map(([path, text]) => [path.replace("../../src/", ""), text]),
);

const PLATFORM = ["cloudflare:*", "node:*"];

/** Below the layer of the doors: what holds state or reaches outside. */
const SERVICE = { folders: ["protocol", "domain", "identity", "directory", "env.ts"], packages: PLATFORM };

const BELOW_DOORS = [...SERVICE.folders, "run", "artifacts", "history", "feed", "streams", "hooks", "moving"];

/**
 * The layers from low to high. Each folder of `src`, and each file right in it, is a row: the folders it may import from,
 * all of them rows above its own, and the packages. One that has no row fails the test: decide where it belongs.
 */
const RULES: ReadonlyMap<string, { folders: string[]; packages: string[] }> = new Map([
  ["protocol", { folders: [], packages: ["zod/mini", "zod/locales"] }],
  ["domain", { folders: ["protocol"], packages: ["zod/mini"] }],
  ["env.ts", { folders: [], packages: [] }],
  ["identity", { folders: ["protocol", "domain", "env.ts"], packages: [...PLATFORM, "jose/*"] }],
  ["directory", { folders: ["protocol", "domain", "identity"], packages: [] }],
  ["artifacts", SERVICE],
  ["run", { ...SERVICE, folders: [...SERVICE.folders, "artifacts"] }],
  ["history", { ...SERVICE, folders: [...SERVICE.folders, "run"] }],
  ["feed", { ...SERVICE, folders: [...SERVICE.folders, "run"] }],
  ["streams", { ...SERVICE, folders: [...SERVICE.folders, "run", "feed"] }],
  ["moving", { ...SERVICE, folders: [...SERVICE.folders, "artifacts", "run"] }],
  ["hooks", { ...SERVICE, folders: [...SERVICE.folders, "artifacts", "run", "history", "moving"] }],
  // Schemas are made in protocol: here zod is imported for its types only, see TYPES_ONLY.
  ["http", { folders: BELOW_DOORS, packages: ["itty-router", "zod/mini"] }],
  ["maintenance", { folders: BELOW_DOORS, packages: [] }],
  ["index.ts", { folders: [...BELOW_DOORS, "http", "maintenance"], packages: [] }],
]);

/**
 * The imports that point up. A binding is typed by the class of its object, so env.ts names those classes; the compiler
 * erases the imports, and at run time env.ts imports nothing.
 */
const ENV_NAMES_ITS_OBJECTS: readonly string[] = ["env.ts -> run", "env.ts -> feed", "env.ts -> hooks"];

/** Imports that are allowed as types only, because only then they leave no edge at run time. */
const TYPES_ONLY = new Set([...ENV_NAMES_ITS_OBJECTS, "http -> zod"]);

/** What pure code must not touch: time, chance, the platform. Each with what to do instead. */
const IMPURE: [RegExp, string][] = [
  [/\bDate\b/, "time comes with the context"],
  [/\bperformance\b/, "time comes with the context"],
  [/\bMath\.random\b/, "ids come with the context"],
  [/\bcrypto\b/, "ids and tokens come with the context"],
  [/\b(?:setTimeout|setInterval|queueMicrotask|scheduler)\b/, "decisions do not wait"],
  [/\b(?:async|await|Promise)\b/, "decisions do not wait"],
  [/\b(?:fetch|caches|console|process)\b/, "decisions do no I/O"],
];

interface Import {
  from: string;
  to: string;
  isTypeOnly: boolean;
}

/** The code of a file without comments. Strings stay: module names are strings. */
function withoutComments(text: string): string {
  return text.replace(
    /("(?:[^"\\\n]|\\.)*")|\/\*[\s\S]*?\*\/|\/\/[^\n]*/g,
    (_, quoted?: string) => quoted ?? "",
  );
}

/** Every module that a text imports: static and dynamic imports, and re-exports. */
function importsOf(from: string, text: string): Import[] {
  const code = withoutComments(text);
  const statements = code.matchAll(/^(?:import|export)\s+(type\s+)?[\w*{][^;"]*?\bfrom\s+"([^"]+)"/gm);
  const bare = code.matchAll(/^import\s+()"([^"]+)"/gm);
  const dynamic = code.matchAll(/\bimport\(\s*()"([^"]+)"/g);
  return [...statements, ...bare, ...dynamic].map(([, type, module = ""]) => ({
    from,
    to: module.startsWith(".") ? resolve(from, module) : module,
    isTypeOnly: Boolean(type),
  }));
}

function resolve(from: string, module: string): string {
  return new URL(module, `src:/${from}`).pathname.slice(1);
}

/** The row that a path or package belongs to: its folder, or itself. */
function layerOf(path: string): string {
  return path.includes("/") ? path.slice(0, path.indexOf("/")) : path;
}

const allImports = (sources: Sources) => [...sources].flatMap(([path, text]) => importsOf(path, text));

/** Imports against the rules, as `file -> module`. */
function violations(sources: Sources): string[] {
  return allImports(sources).flatMap(({ from, to, isTypeOnly }) => {
    const layer = layerOf(from);
    const rule = RULES.get(layer);
    const complaint = [`${from} -> ${to}`];
    if (rule === undefined) return complaint;
    const edge = `${layer} -> ${layerOf(to)}`;
    if (TYPES_ONLY.has(edge) && !isTypeOnly) return complaint;
    if (sources.has(to)) {
      const isAllowed = layerOf(to) === layer || rule.folders.includes(layerOf(to));
      return isAllowed || ENV_NAMES_ITS_OBJECTS.includes(edge) ? [] : complaint;
    }
    const isAllowed = rule.packages.some((name) =>
      name.endsWith("*") ? to.startsWith(name.slice(0, -1)) : to === name,
    );
    return isAllowed ? [] : complaint;
  });
}

/** Impure words in the code of protocol and domain, as `file: word`. */
function impurities(sources: Sources): string[] {
  return [...sources]
    .filter(([path]) => ["protocol", "domain"].includes(layerOf(path)))
    .flatMap(([path, text]) => {
      const code = withoutComments(text).replace(/"(?:[^"\\\n]|\\.)*"/g, '""');
      return IMPURE.flatMap(([word, instead]) => {
        const found = word.exec(code);
        return found === null ? [] : [`${path}: ${found[0]} (${instead})`];
      });
    });
}

/** The first cycle among edges, as the way round, or null. */
function cycleIn(edges: ReadonlyMap<string, ReadonlySet<string>>): string[] | null {
  const done = new Set<string>();
  const visit = (node: string, path: string[]): string[] | null => {
    if (path.includes(node)) return [...path.slice(path.indexOf(node)), node];
    if (done.has(node)) return null;
    for (const next of edges.get(node) ?? []) {
      const cycle = visit(next, [...path, node]);
      if (cycle !== null) return cycle;
    }
    done.add(node);
    return null;
  };
  for (const node of edges.keys()) {
    const cycle = visit(node, []);
    if (cycle !== null) return cycle;
  }
  return null;
}

function edgesOf(imports: { from: string; to: string }[]): Map<string, Set<string>> {
  const edges = new Map<string, Set<string>>();
  for (const { from, to } of imports) {
    if (from !== to) edges.set(from, (edges.get(from) ?? new Set()).add(to));
  }
  return edges;
}

describe("import direction", () => {
  it("every import keeps to the layers", () => {
    expect(violations(SOURCES)).toEqual([]);
  });

  it("the layers themselves point downward only, and nothing imports index.ts", () => {
    const order = [...RULES.keys()];
    for (const [index, [, { folders }]] of [...RULES].entries()) {
      for (const folder of folders) expect(order.slice(0, index)).toContain(folder);
      expect(folders).not.toContain("index.ts");
    }
  });

  it("folders do not import each other in a circle", () => {
    const between = allImports(SOURCES)
      .filter(({ to }) => SOURCES.has(to))
      .map(({ from, to }) => ({ from: layerOf(from), to: layerOf(to) }))
      .filter(({ from, to }) => !ENV_NAMES_ITS_OBJECTS.includes(`${from} -> ${to}`));
    expect(cycleIn(edgesOf(between))).toBeNull();
  });

  it("files do not import each other in a circle, types aside", () => {
    const atRunTime = allImports(SOURCES).filter(({ to, isTypeOnly }) => SOURCES.has(to) && !isTypeOnly);
    expect(cycleIn(edgesOf(atRunTime))).toBeNull();
  });

  it("protocol and domain know no clock, no chance and no platform", () => {
    expect(impurities(SOURCES)).toEqual([]);
  });

  it("every exception is still in use", () => {
    const edges = new Set(allImports(SOURCES).map(({ from, to }) => `${layerOf(from)} -> ${layerOf(to)}`));
    for (const edge of TYPES_ONLY) expect([...edges]).toContain(edge);
  });
});

describe("the check itself", () => {
  it("reads all sources, and finds what each of them imports", () => {
    expect(SOURCES.size).toBeGreaterThan(60);
    for (const { from, to } of allImports(SOURCES)) {
      expect(to.endsWith(".ts"), `${from} -> ${to}`).toBe(SOURCES.has(to));
    }
    const words = [...SOURCES.values()].flatMap((text) => withoutComments(text).match(/\bfrom\s+"/g) ?? []);
    expect(allImports(SOURCES)).toHaveLength(words.length);
  });

  const bad: [string, string][] = [
    ["protocol/x.ts", 'import { a } from "../domain/a.ts";'],
    ["domain/x.ts", 'import {\n  a,\n  b,\n} from "../run/a.ts";'],
    ["domain/x.ts", 'import type { a } from "../env.ts";'],
    ["domain/x.ts", 'import { createHash } from "node:crypto";'],
    ["domain/x.ts", 'import { env } from "cloudflare:workers";'],
    ["domain/x.ts", 'import "node:fs";'],
    ["domain/x.ts", 'const a = await import("node:fs");'],
    ["run/x.ts", 'export { a } from "../http/a.ts";'],
    ["run/storage/x.ts", 'export * from "../../http/a.ts";'],
    ["run/x.ts", 'import a from "../index.ts";'],
    ["env.ts", 'import { RunObject } from "./run/a.ts";'],
    ["http/x.ts", 'import * as z from "zod/mini";'],
    ["protocol/x.ts", 'import * as z from "zod";'],
    ["http/x.ts", 'import a from "../maintenance/a.ts";'],
    ["maintenance/x.ts", 'import a from "../http/a.ts";'],
    ["elsewhere/x.ts", 'import a from "../protocol/a.ts";'],
  ];
  it.each(bad)("%s must not say %s", (path, text) => {
    const folders = ["protocol", "domain", "run", "http", "maintenance"];
    const others = folders.map((folder): [string, string] => [`${folder}/a.ts`, ""]);
    const sources: Sources = new Map([...others, ["index.ts", ""], ["env.ts", ""], [path, text]]);
    expect(violations(sources)).toHaveLength(1);
  });

  it.each([
    "Date.now()",
    "new Date()",
    "Math.random()",
    "crypto.randomUUID()",
    "fetch(url)",
    "async () => 1",
  ])("domain code must not say %s, comments and texts may", (code) => {
    expect(impurities(new Map([["domain/x.ts", `const a = ${code};`]]))).not.toEqual([]);
    const spoken = `// ${code}\n/** ${code} */\nconst a = "${code}";`;
    expect(impurities(new Map([["domain/x.ts", spoken]]))).toEqual([]);
    expect(impurities(new Map([["run/x.ts", `const a = ${code};`]]))).toEqual([]);
  });
});
