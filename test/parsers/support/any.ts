import fc from "fast-check";

/** Names that mean something to JavaScript's own objects. */
const LOADED = ["__proto__", "constructor", "prototype", "toString", "hasOwnProperty", "length", "0", ""];

/** UTF-16 units that parsers stumble over: halves of pairs, controls, NUL, what looks like blanks or digits, marks that combine. */
const ODD = [
  ...["\ud800", "\udfff", "\u{1F600}", "\u0000", "\u001f", "\u007f", "\u0085", "\u00a0", "\u2028", "\ufeff"],
  ...[
    "\uffff",
    "\u0301",
    "é",
    "ß",
    "İ",
    "١",
    "\t",
    "\n",
    "\r\n",
    "\\",
    '"',
    "'",
    "%",
    "%00",
    "%ff",
    "+",
    "&",
    "=",
  ],
];

/** Numbers as texts, at the borders of what parsers hold. */
const NUMBERS = [
  ...["0", "-0", "00", "1", "-1", "+1", "1.0", "1e3", "0x10", "NaN", "Infinity", "1_000", " 1", "1 "],
  ...["9007199254740991", "9007199254740992", "18446744073709551616", "9".repeat(400), "1e400", "1e-400"],
];

/** Any sequence of UTF-16 units, halves of pairs among them. */
const units = fc
  .array(fc.integer({ min: 0, max: 0xffff }), { maxLength: 30 })
  .map((codes) => String.fromCharCode(...codes));

/** A long text of one piece again and again, at times with an end that fits no repetition: what makes patterns go back. */
const long = fc
  .tuple(
    fc.oneof(
      fc.string({ minLength: 1, maxLength: 3 }),
      fc.constantFrom(" ", "/", "a", '"', "\\", "*", "=", ","),
    ),
    fc.integer({ min: 100, max: 20_000 }),
    fc.constantFrom("", "!", "\u0000", "x"),
  )
  .map(([piece, times, end]) => piece.repeat(times) + end);

/** Any text: what people type, what machines send, and what nobody would. */
export const anyText: fc.Arbitrary<string> = fc.oneof(
  { weight: 4, arbitrary: fc.string({ maxLength: 40 }) },
  { weight: 2, arbitrary: fc.string({ unit: "binary", maxLength: 40 }) },
  { weight: 2, arbitrary: units },
  {
    weight: 2,
    arbitrary: fc.array(fc.constantFrom(...ODD, ...NUMBERS), { maxLength: 6 }).map((a) => a.join("")),
  },
  { weight: 1, arbitrary: fc.constantFrom(...LOADED, ...NUMBERS) },
  { weight: 1, arbitrary: long },
);

/** A text that nearly is one of these: some characters of it left out, doubled, exchanged or put in. */
export function nearly(texts: fc.Arbitrary<string>): fc.Arbitrary<string> {
  const edit = fc.tuple(
    fc.constantFrom("drop", "double", "swap", "put", "cut", "case"),
    fc.nat(),
    fc.oneof(fc.constantFrom(...ODD), fc.string({ minLength: 1, maxLength: 2 })),
  );
  return fc.tuple(texts, fc.array(edit, { minLength: 1, maxLength: 3 })).map(([text, edits]) => {
    let edited = text;
    for (const [kind, place, piece] of edits) {
      const at = edited.length === 0 ? 0 : place % edited.length;
      const [before, here, after] = [edited.slice(0, at), edited.slice(at, at + 1), edited.slice(at + 1)];
      if (kind === "drop") edited = before + after;
      if (kind === "double") edited = before + here + here + after;
      if (kind === "swap") edited = before + piece + after;
      if (kind === "put") edited = before + piece + here + after;
      if (kind === "cut") edited = before;
      if (kind === "case")
        edited = before + (here === here.toUpperCase() ? here.toLowerCase() : here.toUpperCase()) + after;
    }
    return edited;
  });
}

/** Any text, or one that is nearly, or just, what the parser wants. */
export const around = (texts: fc.Arbitrary<string>): fc.Arbitrary<string> =>
  fc.oneof(anyText, nearly(texts), texts);

/** What can be the value of a header: bytes without line breaks and NUL, trimmed by whoever reads them off the wire. */
export const headerValue = (texts: fc.Arbitrary<string>): fc.Arbitrary<string> =>
  around(texts).map((text) => text.replace(/[^\t\x20-\x7e\x80-\xff]/g, "").slice(0, 8_000));

/** JSON as `JSON.parse` makes it: nested, long, with members of loaded names (`__proto__` as an own one). */
export function jsonOver(
  names: readonly string[] = [],
  leaves: readonly unknown[] = [],
): fc.Arbitrary<unknown> {
  const name = fc.oneof(fc.constantFrom(...LOADED, ...names), fc.string({ maxLength: 4 }));
  // What JavaScript would make a number or a text of, and cannot.
  const stubborn = { valueOf: 1, toString: 1 };
  const leaf = fc.oneof(
    fc.constantFrom<unknown>({ length: stubborn }, { length: -1 }, { size: stubborn }, stubborn),
    fc.constantFrom<unknown>(null, true, false, 0, -1, 1, 1.5, 1e300, 2 ** 53, "", "a", [], {}),
    fc.constantFrom<unknown>(...leaves, null),
    anyText,
  );
  return fc.letrec<{ value: unknown }>((tie) => ({
    value: fc.oneof(
      { depthSize: "small", withCrossShrink: true },
      leaf,
      fc.array(tie("value"), { maxLength: 4 }),
      fc.array(fc.tuple(name, tie("value")), { maxLength: 6 }).map((entries) => Object.fromEntries(entries)),
    ),
  })).value;
}

export const anyJson: fc.Arbitrary<unknown> = fc.oneof(
  { weight: 9, arbitrary: jsonOver() },
  { weight: 1, arbitrary: fc.integer({ min: 1, max: 3_000 }).map(nested) },
);

/** Arrays in each other, so deep. */
export function nested(depth: number): unknown {
  return JSON.parse("[".repeat(depth) + "]".repeat(depth));
}

/** A value with one or two places of it changed: a member left out, put in or given another value. */
export function nearlyJson(values: fc.Arbitrary<unknown>): fc.Arbitrary<unknown> {
  const edit = fc.tuple(
    fc.nat(),
    fc.constantFrom("drop", "put", "exchange"),
    fc.constantFrom(...LOADED),
    anyJson,
  );
  return fc
    .tuple(values, fc.array(edit, { minLength: 1, maxLength: 2 }))
    .map(([value, edits]) =>
      edits.reduce(
        (changed, [place, kind, name, piece]) => changedAt(changed, place, kind, name, piece),
        value,
      ),
    );
}

function changedAt(value: unknown, place: number, kind: string, name: string, piece: unknown): unknown {
  if (typeof value !== "object" || value === null) return kind === "drop" ? null : piece;
  const entries = Object.entries(value);
  const at = entries.length === 0 ? 0 : place % entries.length;
  const entry = entries[at];
  const goesIn = place % 3 !== 0 && entry !== undefined && typeof entry[1] === "object";
  if (goesIn) entries[at] = [entry[0], changedAt(entry[1], place >> 2, kind, name, piece)];
  else if (kind === "drop") entries.splice(at, 1);
  else if (kind === "put") entries.push([name, piece]);
  else if (entry !== undefined) entries[at] = [entry[0], piece];
  return Array.isArray(value) ? entries.map(([, member]) => member) : Object.fromEntries(entries);
}
