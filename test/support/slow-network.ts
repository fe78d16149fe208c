/** A network between a program and its server that takes its time: everything arrives, in order, some ms later. */
import { once } from "node:events";
import { createServer, connect as dial, type Socket } from "node:net";

export interface SlowNetwork extends AsyncDisposable {
  /** `url` as it is reached through this network. */
  url: string;
}

/** @param delayMs one way; a round trip takes twice as long */
export async function slowNetwork(url: string, delayMs: number): Promise<SlowNetwork> {
  const target = new URL(url);
  const sockets = new Set<Socket>();
  const pipe = (from: Socket, to: Socket) => {
    sockets.add(from);
    from.on("data", (chunk) => setTimeout(() => to.writable && to.write(chunk), delayMs));
    from.on("close", () => {
      sockets.delete(from);
      setTimeout(() => to.destroy(), delayMs);
    });
    from.on("error", () => from.destroy());
  };
  const server = createServer((near) => {
    const far = dial(Number(target.port), target.hostname);
    pipe(near, far);
    pipe(far, near);
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  const address = server.address();
  if (address === null || typeof address === "string") throw new Error("No port");
  const slow = new URL(url);
  slow.port = String(address.port);
  return {
    url: slow.href,
    async [Symbol.asyncDispose]() {
      for (const socket of sockets) socket.destroy();
      server.close();
      await once(server, "close");
    },
  };
}
