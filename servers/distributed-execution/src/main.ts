import { runServer } from "@mcp-swarm/server";
import { definition } from "./server.ts";

await runServer(definition);
