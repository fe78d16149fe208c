/** The commands by which a person puts machines to work. */
import type { CommandHost } from "@mcp-swarm/server";
import type { Command } from "commander";
import { runnerCommand } from "./runner.ts";
import { workerCommand } from "./worker.ts";

export function commands(host: CommandHost): Command[] {
  return [workerCommand(host), runnerCommand(host)];
}
