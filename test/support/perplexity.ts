/** Perplexity's agent API as its MCP server calls it, on loopback: the answers are the test's, the requests are kept. */
import { createServer, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";

export interface Asked {
  readonly path: string;
  readonly authorization: string | undefined;
  readonly body: { preset?: string; input?: { role: string; content: string }[]; tools?: unknown[] };
}

/** `hold`: nothing comes until the connection ends. */
export type Reply = { text: string } | { status: number; body: string } | "hold";

export interface PerplexityStub extends AsyncDisposable {
  readonly url: string;
  readonly asked: readonly Asked[];
}

/** @param reply what comes of a request, by its number from 0 */
export async function perplexityStub(reply: (asked: Asked, number: number) => Reply): Promise<PerplexityStub> {
  const asked: Asked[] = [];
  const server = createServer((request, response) => {
    let text = "";
    request.on("data", (chunk: Buffer) => {
      text += chunk.toString();
    });
    request.on("end", () => {
      const { url = "", headers } = request;
      const one = { path: url, authorization: headers.authorization, body: JSON.parse(text || "{}") as Asked["body"] };
      if (url.endsWith("/cancel")) return void response.writeHead(200, { "content-type": "application/json" }).end("{}");
      asked.push(one);
      answer(response, reply(one, asked.length - 1));
    });
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const { port } = server.address() as AddressInfo;
  return {
    url: `http://127.0.0.1:${port}`,
    asked,
    async [Symbol.asyncDispose]() {
      server.closeAllConnections();
      await new Promise((resolve) => server.close(resolve));
    },
  };
}

function answer(response: ServerResponse, reply: Reply): void {
  if (reply === "hold") return;
  if ("status" in reply) return void response.writeHead(reply.status, { "content-type": "text/plain" }).end(reply.body);
  const whole = {
    type: "response.completed",
    response: {
      ...{ id: "resp_1", status: "completed" },
      output: [
        { type: "search_results", results: [{ id: 1, url: "https://source.invalid/one", title: "One" }] },
        { type: "message", content: [{ type: "output_text", text: reply.text }] },
      ],
    },
  };
  response.writeHead(200, { "content-type": "text/event-stream" });
  response.end(`event: response.completed\ndata: ${JSON.stringify(whole)}\n\n`);
}
