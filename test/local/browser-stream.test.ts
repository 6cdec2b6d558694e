import { existsSync } from "node:fs";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { type Browser, chromium } from "playwright-core";
import { afterAll, beforeAll, describe, test } from "vitest";
import type { Follow, Frame } from "../support/stream-clients.ts";
import { followsRun, followsWorkspace, stopsWithRun, type Tool } from "./stream-scenario.ts";

const SYSTEM_CHROMIUMS = ["/usr/bin/chromium", "/usr/bin/chromium-browser", "/usr/bin/google-chrome"];

/** Empty when there is none. */
const executablePath = process.env.CHROMIUM_PATH || SYSTEM_CHROMIUMS.find((path) => existsSync(path)) || "";

let browser: Browser;

/** A page for the EventSource to run in; it has an origin of its own. */
const pages = createServer((_request, response) => {
  response.setHeader("content-type", "text/html").end("<!doctype html><title>A page</title>");
});

/** What the page calls back. */
interface Hooks {
  onFrame(index: number, data: unknown): void;
  onClosed(): void;
}

/** The EventSource of a page. Its requests are given the credential by the browser, as it takes no headers itself. */
const followInPage: Follow = async (url, token) => {
  const frames: Frame[] = [];
  let ended: string | undefined;
  const context = await browser.newContext({ extraHTTPHeaders: { authorization: `Bearer ${token}` } });
  const page = await context.newPage();
  await page.exposeFunction("onFrame", (index: number, data: string) => {
    frames[index] = JSON.parse(data);
  });
  await page.exposeFunction("onClosed", () => {
    ended = "closed";
  });
  await page.goto(`http://127.0.0.1:${(pages.address() as AddressInfo).port}/`);
  await page.evaluate((url) => {
    const { onFrame, onClosed } = globalThis as unknown as Hooks;
    let frames = 0;
    const source = new EventSource(url);
    for (const type of ["message", "end"]) {
      source.addEventListener(type, (event) => onFrame(frames++, (event as MessageEvent).data));
    }
    source.addEventListener("error", () => {
      if (source.readyState === EventSource.CLOSED) onClosed();
    });
  }, url);
  return {
    frames,
    get ended() {
      return ended;
    },
    stop: () => context.close(),
  };
};

/**
 * It waits a second before it resumes. Over plain HTTP a browser takes a head that ends in the middle for a whole one, and
 * gives up when the content type is not in it: cuts fall behind the head.
 */
const CHROMIUM: Tool = {
  name: "Chromium",
  follow: followInPage,
  cuts: 6,
  minBytes: 1_024,
  maxBytes: 16_000,
  seed: 21,
};

if (executablePath === "") {
  console.warn("The browser tests are skipped: there is no Chromium. Install one or set CHROMIUM_PATH.");
}

describe.skipIf(executablePath === "")("the EventSource of Chromium", { timeout: 60_000 }, () => {
  beforeAll(async () => {
    browser = await chromium.launch({ executablePath });
    await new Promise<void>((resolve) => pages.listen(0, "127.0.0.1", resolve));
  });
  afterAll(async () => {
    await browser?.close();
    pages.close();
  });

  test.concurrent("cut off again and again, it is given each event of a run in order and once", (context) =>
    followsRun(CHROMIUM, context));

  test.concurrent("the same with a workspace and a run that is created meanwhile", (context) =>
    followsWorkspace(CHROMIUM, context));

  test.concurrent("until=terminal ends it behind the run's last event", (context) =>
    stopsWithRun(CHROMIUM, context));
});
