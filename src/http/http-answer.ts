/** What a request is answered with, as plain data: the response is made in one place, with all its headers at once. */
export interface HttpAnswer {
  status: number;
  headers: Record<string, string>;
  body: BodyInit | null;
  /** The client's end, when the request is upgraded. */
  webSocket?: WebSocket;
}
