/**
 * A value that is made when it is first asked for, and kept. Schemas are many objects: what few requests need must not
 * slow down every start.
 */
export function lazy<T>(make: () => T): () => T {
  let made: { value: T } | null = null;
  return () => {
    made ??= { value: make() };
    return made.value;
  };
}
