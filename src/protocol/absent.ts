/** Members that may be undefined; free JSON (`unknown`) counts as always there. */
type MaybeAbsent<T> = {
  [K in keyof T]: unknown extends T[K] ? never : undefined extends T[K] ? K : never;
}[keyof T];

type Defined<T> = Omit<T, MaybeAbsent<T>> & { [K in MaybeAbsent<T>]?: Exclude<T[K], undefined> };

/** A copy without the members that are undefined: on the wire an empty member is absent, and stored equals wire. */
export function withoutAbsent<T extends object>(members: T): Defined<T> {
  return Object.fromEntries(Object.entries(members).filter(([, value]) => value !== undefined)) as Defined<T>;
}

/** A text, trimmed; undefined when that leaves nothing. */
export function nonBlank(text: string | undefined): string | undefined {
  return text?.trim() || undefined;
}
