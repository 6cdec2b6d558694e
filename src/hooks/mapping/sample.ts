/** A delivery as mappings see it; only this much, so that a plan can be made of a sample as of the real thing. */
export interface MappingInput {
  hook_id: string;
  delivery_id: string;
  /** As the scheme names it (`issues`, `invoice.payment_failed`); null where it names none. */
  event: string | null;
  /** By lower-case name, without secrets and signatures. */
  headers: Readonly<Record<string, string>>;
  /** The body as JSON: that of a form as an object of its fields. */
  body: unknown;
  /** Epoch ms. */
  received_at_ms: number;
}
