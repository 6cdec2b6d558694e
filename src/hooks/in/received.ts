import { MAX_MAPPED_DELIVERY_BYTES } from "../../protocol/limits.ts";

/** A body as data. */
export type Payload = { ok: true; value: unknown } | { ok: false; error: string };

const utf8 = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });

/** One delivery as it came in: what schemes check and what mappings read. The bytes are those that were signed. */
export class Received {
  readonly headers: Headers;
  readonly body: Uint8Array;
  #payload: Payload | null = null;

  constructor(headers: Headers, body: Uint8Array) {
    this.headers = headers;
    this.body = body;
  }

  get isForm(): boolean {
    const type = this.headers.get("content-type")?.split(";")[0]?.trim().toLowerCase();
    return type === "application/x-www-form-urlencoded";
  }

  /** The body as data, read when it is first asked for. */
  payload(): Payload {
    this.#payload ??=
      this.body.length > MAX_MAPPED_DELIVERY_BYTES
        ? { ok: false, error: "body is too long to be read" }
        : readPayload(this.body, this.isForm);
    return this.#payload;
  }

  /** A member of a payload that is an object; undefined where there is none. */
  member(name: string): unknown {
    const payload = this.payload();
    return payload.ok ? memberOf(payload.value, name) : undefined;
  }
}

/** A value's own member; undefined where there is none. */
export function memberOf(value: unknown, name: string): unknown {
  if (typeof value !== "object" || value === null) return undefined;
  // Not just an own one: the length of an array is, and JSON did not bring it along.
  if (!Object.prototype.propertyIsEnumerable.call(value, name)) return undefined;
  return (value as Record<string, unknown>)[name];
}

/** What a JSON pointer (RFC 6901) leads to; undefined where it leads nowhere. */
export function pointedAt(value: unknown, pointer: string): unknown {
  let at = value;
  for (const token of pointer.split("/").slice(1)) {
    at = memberOf(at, token.replaceAll("~1", "/").replaceAll("~0", "~"));
  }
  return at;
}

/**
 * A body as data: JSON; or a form, as an object of its fields. A form's field `payload`, if it is JSON, is the data itself:
 * so GitHub and Slack send JSON in forms. An empty body is null.
 */
function readPayload(body: Uint8Array, isForm: boolean): Payload {
  try {
    const text = utf8.decode(body);
    if (isForm) return { ok: true, value: readForm(new URLSearchParams(text)) };
    return { ok: true, value: text.trim() === "" ? null : JSON.parse(text) };
  } catch (error) {
    // Not the platform's own message: it quotes the body, which may be anything.
    return { ok: false, error: error instanceof SyntaxError ? "body is not JSON" : "body is not UTF-8" };
  }
}

function readForm(form: URLSearchParams): unknown {
  // In one pass: to ask for each name's values takes the square of their number.
  const fields = Map.groupBy(form, ([name]) => name);
  const [wrapped, ...others] = fields.get("payload") ?? [];
  if (wrapped !== undefined && others.length === 0) {
    try {
      return JSON.parse(wrapped[1]);
    } catch {
      // A field like any other.
    }
  }
  return Object.fromEntries(
    [...fields].map(([name, pairs]) => {
      const values = pairs.map(([, value]) => value);
      return [name, values.length === 1 ? values[0] : values];
    }),
  );
}
