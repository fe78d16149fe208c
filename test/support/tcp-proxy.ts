/** Stands between a client and a server on the loopback and does to their connections what networks do. */
import { connect, createServer, type Socket } from "node:net";

/** What becomes of bytes on their way to the server: passed on (perhaps changed), or the connection ends before or after them. */
export type Verdict = { pass: Buffer } | { cut: "before" | "after"; pass: Buffer };

export interface TcpProxy {
  readonly port: number;
  /** How many connections were cut. */
  readonly cuts: number;
  close(): Promise<void>;
}

/**
 * A connection cut "after" has its last bytes delivered, and its answer never comes back: the server's side stays open until
 * it has answered.
 */
export async function startProxy(targetPort: number, judge: (toServer: Buffer) => Verdict): Promise<TcpProxy> {
  const sockets = new Set<Socket>();
  let cuts = 0;
  const server = createServer((client) => {
    const upstream = connect(targetPort, "127.0.0.1");
    for (const socket of [client, upstream]) {
      sockets.add(socket);
      socket.setNoDelay(true);
      socket.on("error", () => socket.destroy());
      socket.on("close", () => sockets.delete(socket));
    }
    let cut = false;
    client.on("data", (chunk: Buffer) => {
      if (cut) return;
      const verdict = judge(chunk);
      cut = "cut" in verdict;
      if (!cut) {
        upstream.write(verdict.pass);
        return;
      }
      cuts += 1;
      client.destroy();
      if ("cut" in verdict && verdict.cut === "after") upstream.write(verdict.pass);
      else upstream.destroy();
    });
    upstream.on("data", (chunk: Buffer) => {
      if (cut) upstream.destroy();
      else client.write(chunk);
    });
    client.on("close", () => {
      if (!cut) upstream.destroy();
    });
    upstream.on("close", () => client.destroy());
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const address = server.address();
  if (address === null || typeof address === "string") throw new Error("The proxy has no port");
  return {
    port: address.port,
    get cuts() {
      return cuts;
    },
    async close() {
      for (const socket of sockets) socket.destroy();
      await new Promise((resolve) => server.close(resolve));
    },
  };
}
