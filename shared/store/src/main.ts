#!/usr/bin/env node
import { readFileSync } from "node:fs";
import { SwarmError } from "@mcp-swarm/core";
import { storeCommand } from "./command-line.ts";

const manifest: { version: string } = JSON.parse(readFileSync(new URL("../package.json", import.meta.url), "utf8"));

await storeCommand({
  storeUrl() {
    const url = process.env.SWARM_STORE;
    if (url) return url;
    throw new SwarmError("invalid_argument", "No store was named.", {
      hint: "Give --store <url> or set SWARM_STORE; a server's own `store` command knows the project's default.",
    });
  },
})
  .name("mcp-swarm-store")
  .version(manifest.version)
  .showHelpAfterError()
  .parseAsync();
