/** The servers that end-to-end tests run over: a new one is proven by being here. */
import { globSync } from "node:fs";
import { dirname, join } from "node:path";
import { ROOT } from "./host.ts";

/** Every server that a host mounts: the folders of `servers` that define tools. */
export const SERVERS: readonly string[] = globSync(join(ROOT, "servers", "*", "src", "server.ts"))
  .map((file) => dirname(dirname(file)).split(/[/\\]/).at(-1) ?? "")
  .sort();
