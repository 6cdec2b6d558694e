/** At most so many UTF-16 units of a text, and no half of a surrogate pair. */
export function cut(text: string, length: number): string {
  const start = text.slice(0, length);
  return text.length > length && !start.isWellFormed() ? start.slice(0, -1) : start;
}
