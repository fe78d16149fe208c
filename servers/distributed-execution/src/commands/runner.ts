/** The command that does the tasks of one profile until it is told to stop. */
import { SwarmError, systemClock } from "@mcp-swarm/core";
import { type CommandHost, closeWithin, endOf } from "@mcp-swarm/server";
import { Command } from "commander";
import { parseMcpConfig } from "../mcp/mcp-config.ts";
import { operatorOf } from "../open.ts";

const SLOTS_DEFAULT = 1;
const SLOTS_MAX = 64;

export function runnerCommand(host: CommandHost): Command {
  return new Command("runner")
    .description(
      "Do workflow tasks of the types <profile>:<operation> with other MCP servers, as the file SWARM_EXEC_CONFIG says",
    )
    .requiredOption("--profile <name>", "Of that file")
    .option("--slots <n>", `Tasks at once, 1 to ${SLOTS_MAX} (default: ${SLOTS_DEFAULT})`)
    .action(async ({ profile, slots }: { profile: string; slots?: string }) => {
      const config = host.config();
      if (config.execConfigFile === undefined) {
        throw new SwarmError("failed_precondition", "A runner needs the operator's file.", {
          hint: "Name it in SWARM_EXEC_CONFIG; the README of distributed-execution shows what it holds.",
        });
      }
      const file = operatorOf(config);
      const { ProfileRunner } = await import("../mcp/profile-runner.ts"); // with the protocol's client, which no other command needs
      const runner = new ProfileRunner({
        profile,
        config: parseMcpConfig(file),
        servers: file.runner ?? {},
        slots: slotsOf(slots),
        env: process.env,
        clock: systemClock,
        onEvent: say,
      });
      const stop = new AbortController();
      // no timer of ours keeps a process alive, and between two tries to connect there is nothing else
      const alive = setInterval(() => {}, 2 ** 30);
      const running = runner.run(stop.signal);
      try {
        await Promise.race([running, endOf()]);
      } finally {
        clearInterval(alive);
      }
      stop.abort();
      await closeWithin([() => running]);
    });
}

function slotsOf(text: string | undefined): number {
  if (text === undefined) return SLOTS_DEFAULT;
  const slots = Number(text);
  if (Number.isInteger(slots) && slots >= 1 && slots <= SLOTS_MAX) return slots;
  throw new SwarmError("invalid_argument", `--slots takes a whole number from 1 to ${SLOTS_MAX}.`, {
    hint: "Leave it out for one task at a time.",
  });
}

/** A line for whoever watches. The cause of a failure was redacted where it arose. */
function say(message: string, error?: unknown): void {
  const cause = error instanceof Error && error.cause instanceof Error ? error.cause : error;
  process.stderr.write(`${message}${cause instanceof Error ? ` (${plain(cause.message)})` : ""}\n`);
}

/** Without what would move a terminal's cursor or turn its text round. */
function plain(text: string): string {
  return text.replace(/[\p{Cc}\p{Cf}\p{Cs}]/gu, " ").slice(0, 2_000);
}
