import { createServer } from "node:http";
import { type AddressInfo, connect } from "node:net";
import { expect, onTestFinished, test } from "vitest";
import { type Cuts, randomCuts, startCuttingProxy } from "../support/cutting-proxy.ts";

const BODY = "zażółć 😀 漢字 ".repeat(20_000);

/** A server that answers every request with the same body, and a proxy in front of it. */
async function proxied(cuts: Cuts) {
  const server = createServer((_request, response) => {
    response.sendDate = false;
    response.end(BODY);
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const target = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  const proxy = await startCuttingProxy(target, cuts);
  onTestFinished(async () => {
    await proxy.close();
    server.close();
  });
  return { target, proxy };
}

/** Every byte that answers one request, until the connection is closed. */
async function bytesFrom(url: string): Promise<Buffer> {
  const { hostname, port } = new URL(url);
  const socket = connect(Number(port), hostname);
  socket.write("GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
  return Buffer.concat(await socket.toArray());
}

test("lets through exactly the bytes before the cut, wherever it falls", async () => {
  const limits = [1, 2, 17, 400, 401, 402, 403, 404, 70_000, 300_001];
  const left = [...limits];
  const { target, proxy } = await proxied({ count: limits.length, afterBytes: () => left.shift() ?? 1 });
  const whole = await bytesFrom(target);
  for (const limit of limits) {
    expect((await bytesFrom(proxy.url)).equals(whole.subarray(0, limit)), `${limit} bytes`).toBe(true);
  }
  expect((await bytesFrom(proxy.url)).equals(whole)).toBe(true);
  expect(proxy).toMatchObject({ connections: limits.length + 1, cuts: limits.length });
});

test("random cuts are those of the seed, within their bounds", () => {
  const drawn = (seed: number) => {
    const cuts = randomCuts({ seed, count: 3, minBytes: 5, maxBytes: 9 });
    return Array.from({ length: 100 }, () => cuts.afterBytes());
  };
  expect(drawn(1)).toEqual(drawn(1));
  expect(drawn(1)).not.toEqual(drawn(2));
  expect(new Set(drawn(1))).toEqual(new Set([5, 6, 7, 8, 9]));
});

test("closing ends the connections that are open and refuses new ones", async () => {
  const { proxy } = await proxied({ count: 0, afterBytes: () => 1 });
  const { hostname, port } = new URL(proxy.url);
  const idle = connect(Number(port), hostname);
  await new Promise((resolve) => idle.once("connect", resolve));
  const closed = new Promise((resolve) => idle.once("close", resolve));
  idle.resume();
  await proxy.close();
  await closed;
  await expect(bytesFrom(proxy.url)).rejects.toThrow("ECONNREFUSED");
});
