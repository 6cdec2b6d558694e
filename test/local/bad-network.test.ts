import { createServer } from "node:http";
import { type AddressInfo, connect, createServer as createTcpServer } from "node:net";
import { expect, onTestFinished, test } from "vitest";
import type { Mishap } from "../../bench/torture/mishaps.ts";
import { startBadNetwork } from "../../bench/torture/proxy.ts";

const BODY = "zażółć 😀 漢字 ".repeat(20_000);
const spared: Mishap = { delayedShare: 0, delayMs: { min: 0, max: 0 } };

/** The proxy in front of a server that answers every request with the same body. */
async function proxied(mishaps: readonly Mishap[]) {
  const server = createServer((_request, response) => {
    response.sendDate = false;
    response.end(BODY);
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const target = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  const left = [...mishaps];
  const network = await startBadNetwork(target, 1, () => left.shift() ?? spared);
  onTestFinished(async () => {
    await network.close();
    server.close();
    server.closeAllConnections();
  });
  return { target, network };
}

/** Every byte that answers one request, until the connection is closed. */
async function bytesFrom(url: string): Promise<Buffer> {
  const { hostname, port } = new URL(url);
  const socket = connect(Number(port), hostname);
  socket.write("GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
  return Buffer.concat(await socket.toArray());
}

test("what is cut on its way back has come exactly as far as it was let through", async () => {
  const limits = [1, 17, 400, 403, 70_000, 300_001];
  const cut = (afterBytes: number): Mishap => ({ ...spared, end: { kind: "cut", way: "down", afterBytes } });
  const { target, network } = await proxied(limits.map(cut));
  const whole = await bytesFrom(target);
  for (const limit of limits) {
    expect((await bytesFrom(network.url)).equals(whole.subarray(0, limit)), `${limit} bytes`).toBe(true);
  }
  expect((await bytesFrom(network.url)).equals(whole)).toBe(true);
  expect(network.counts).toMatchObject({ connections: limits.length + 1, cut: limits.length, refused: 0 });
});

test("of what is cut on its way to the server that has the bytes before the cut, and no more", async () => {
  const got: Buffer[] = [];
  const server = createTcpServer((socket) => void socket.on("data", (bytes) => got.push(bytes)));
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const target = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  const end = { kind: "cut", way: "up", afterBytes: 10 } as const;
  const network = await startBadNetwork(target, 1, () => ({ ...spared, end }));
  onTestFinished(async () => {
    await network.close();
    server.close();
  });
  expect(await bytesFrom(network.url)).toHaveLength(0);
  await expect.poll(() => Buffer.concat(got).toString()).toBe("GET / HTTP");
});

test("what is swallowed is read to its end by nobody, and the connection is closed", async () => {
  const end = { kind: "swallow", afterBytes: 5, closeAfterMs: 10 } as const;
  const { network } = await proxied([{ ...spared, end }]);
  expect((await bytesFrom(network.url)).toString()).toBe("HTTP/");
  expect(network.counts).toMatchObject({ swallowed: 1, cut: 0 });
});

test("what is held up arrives whole and in order", async () => {
  const slow: Mishap = { delayedShare: 0.7, delayMs: { min: 1, max: 5 } };
  const { target, network } = await proxied([slow]);
  expect((await bytesFrom(network.url)).equals(await bytesFrom(target))).toBe(true);
  expect(network.counts.delayed).toBeGreaterThan(0);
});

test("a connection that finds no server ends, and counts", async () => {
  const placeholder = createTcpServer();
  await new Promise<void>((resolve) => placeholder.listen(0, "127.0.0.1", resolve));
  const { port } = placeholder.address() as AddressInfo;
  await new Promise((resolve) => placeholder.close(resolve));
  const network = await startBadNetwork(`http://127.0.0.1:${port}`, 1, () => spared);
  onTestFinished(() => network.close());
  expect(await bytesFrom(network.url).catch(() => Buffer.alloc(0))).toHaveLength(0);
  expect(network.counts.refused).toBe(1);
});
