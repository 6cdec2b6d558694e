import { expect, it } from "vitest";
import { type Bar, judge, type Verdict } from "../../bench/measure.ts";

const none = Number.NaN;

it.each<[Bar | undefined, number[], Verdict]>([
  [undefined, [1, 2, 3], "reported"],
  [undefined, [], "reported"],
  [undefined, [none], "reported"],
  [{ atLeast: 2 }, [1, 2, 3], "met"],
  [{ atLeast: 2 }, [1, 1.99, 30], "missed"],
  [{ atLeast: 2 }, [2, none, 3], "missed"],
  [{ atLeast: 2 }, [], "missed"],
  [{ atMost: 2 }, [1, 2, 30], "met"],
  [{ atMost: 2 }, [0, 2.01, 3], "missed"],
  [{ atMost: 2 }, [1, none, 1], "missed"],
  [{ atMost: 2 }, [], "missed"],
  [{ neverOver: 2 }, [1, 2, 2], "met"],
  [{ neverOver: 2 }, [1, 1, 3], "missed"],
  [{ neverOver: 2 }, [1, none, 1], "missed"],
  [{ neverOver: 2 }, [], "missed"],
])("with the bar %j, %j is %s", (bar, rounds, verdict) => {
  expect(judge({ rounds, ...(bar !== undefined && { bar }) }).verdict).toBe(verdict);
});
