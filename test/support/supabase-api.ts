/** What Supabase's own MCP server calls of the platform's API, on loopback; SQL runs in a real PostgreSQL. */
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import pg from "pg";

export interface SupabaseApi extends AsyncDisposable {
  readonly url: string;
  /** Bodies of what was deployed. */
  readonly deployed: readonly string[];
}

/** @param token the access token, looked at with each call; without it everything is refused */
export async function supabaseApi(databaseUrl: string, token: { readonly value: string }): Promise<SupabaseApi> {
  const deployed: string[] = [];
  const client = new pg.Client({ connectionString: databaseUrl });
  await client.connect();
  const respond = async (path: string, body: string): Promise<{ status: number; body: unknown }> => {
    if (path === "/v1/projects")
      return { status: 200, body: [{ id: "planets", name: "Planets", organization_id: "o", region: "eu" }] };
    if (path.endsWith("/database/query")) {
      // of several statements there are several results; the platform answers the last
      const results = [await client.query((JSON.parse(body) as { query: string }).query)].flat();
      return { status: 201, body: results.at(-1)?.rows ?? [] };
    }
    if (path.includes("/functions/deploy")) {
      deployed.push(body);
      return { status: 201, body: { id: "f1", slug: "hello", name: "hello", version: 1, status: "ACTIVE" } };
    }
    return { status: 404, body: { message: "nothing of this name" } };
  };
  const server = createServer((request, response) => {
    let body = "";
    request.on("data", (chunk: Buffer) => {
      body += chunk.toString();
    });
    const answer = (status: number, value: unknown) =>
      response.writeHead(status, { "content-type": "application/json" }).end(JSON.stringify(value));
    request.on("end", () => {
      if (request.headers.authorization !== `Bearer ${token.value}`) return void answer(401, { message: "no" });
      respond(request.url ?? "", body).then(
        (made) => answer(made.status, made.body),
        (error: Error) => answer(400, { message: error.message }),
      );
    });
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const { port } = server.address() as AddressInfo;
  return {
    url: `http://127.0.0.1:${port}`,
    deployed,
    async [Symbol.asyncDispose]() {
      server.closeAllConnections();
      await new Promise((resolve) => server.close(resolve));
      await client.end();
    },
  };
}
