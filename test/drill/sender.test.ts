import { describe, expect, it } from "vitest";
import { type Answer, type Api, NoAnswer, type Request } from "../../bench/drill/api.ts";
import { createJournal } from "../../bench/drill/journal.ts";
import { createRng } from "../../bench/drill/rng.ts";
import { type Command, CommandFailed, Forgotten, type Manners, Sender } from "../../bench/drill/sender.ts";

const completion: Command = {
  kind: "complete",
  path: "/v1/runs/r/tasks/t/transition",
  body: {},
  commandId: "c",
  taskId: "t",
  fence: 5,
};
const done = { task: { id: "t", task_rev: 4, status: "done" } };

/** A server that gives these answers in turn, null for none, and then the last one again and again. */
function served(answers: readonly (Partial<Answer> | null)[], manners: Partial<Manners> = {}) {
  const requests: Request[] = [];
  const api: Api = {
    send: async (request) => {
      const answer = answers[Math.min(requests.push(request), answers.length) - 1];
      if (answer === null) throw new NoAnswer("the server is away");
      return { status: 200, body: done, replayed: false, elapsedMs: 1, ...answer };
    },
    cut: async (request) => {
      requests.push(request);
    },
    close: () => undefined,
  };
  const journal = createJournal();
  const all = { retry: 0, outageMs: 60_000, forget: 0, ...manners };
  return { requests, journal, sender: new Sender(api, journal, createRng(7, 0), all) };
}

describe("a command that meets with no answer", () => {
  it("is sent again as it was, and its record says how often it was sent in vain", async () => {
    const { sender, journal, requests } = served([null, { status: 503 }, {}]);
    expect(await sender.send(completion)).toMatchObject({ task_id: "t", status: "done" });
    expect(requests).toHaveLength(3);
    expect(new Set(requests.map((request) => JSON.stringify(request)))).toHaveProperty("size", 1);
    expect(journal.commands).toMatchObject([{ missed: 2, answers: [{ status: 200 }] }]);
    expect(journal.counts).toMatchObject({ unanswered: 2, neverAnswered: 0 });
  });

  it("is no violation where the server has too much to do, and one where it says that it failed", async () => {
    const busy = served([{ status: 503 }, { status: 429 }, {}]);
    await busy.sender.send(completion);
    expect(busy.journal.violations).toEqual([]);
    const broken = served([{ status: 500, body: { code: "INTERNAL" } }, {}]);
    expect(await broken.sender.send(completion)).toMatchObject({ status: "done" });
    expect(broken.journal.violations).toMatchObject([
      { check: "answers", rule: "internal_error", command_id: "c" },
    ]);
    expect(broken.journal.commands).toMatchObject([{ missed: 1, answers: [{ status: 200 }] }]);
  });

  it("is a violation once the outage is longer than it may be", async () => {
    const { sender, journal } = served([null], { outageMs: 0 });
    await expect(sender.send(completion)).rejects.toBeInstanceOf(CommandFailed);
    expect(journal.violations).toMatchObject([{ check: "answers", rule: "no_answer", command_id: "c" }]);
    expect(journal.commands).toMatchObject([{ missed: 1, answers: [] }]);
  });

  it("is no violation where its sender crashes over it, and is never sent again", async () => {
    const { sender, journal, requests } = served([null, {}], { forget: 1 });
    await expect(sender.send(completion)).rejects.toBeInstanceOf(Forgotten);
    expect(requests).toHaveLength(1);
    expect(journal.violations).toEqual([]);
    expect(journal.commands).toMatchObject([{ missed: 1, answers: [] }]);
    expect(journal.counts.neverAnswered).toBe(1);
  });

  it("is forgotten, too, where it was to be sent once over a connection that is cut", async () => {
    const { sender, journal, requests } = served([{}], { forget: 1 });
    await expect(sender.send(completion, "lost")).rejects.toBeInstanceOf(Forgotten);
    expect(requests).toHaveLength(1);
    expect(journal.commands).toMatchObject([{ missed: 1, answers: [] }]);
  });
});

describe("what is drawn", () => {
  it("is never lost where nobody may crash over it", () => {
    const { sender } = served([{}], { retry: 1 });
    const drawn = new Set(Array.from({ length: 300 }, () => sender.drawDelivery()));
    expect(drawn).toEqual(new Set(["twice", "repeated", "cut"]));
    const crashing = served([{}], { retry: 1, forget: 0.25 }).sender;
    expect(Array.from({ length: 300 }, () => crashing.drawDelivery())).toContain("lost");
  });
});
