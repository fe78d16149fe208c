/** A server's tools called in this process: all that a call costs but the transport, so that what grows is not hidden behind it. */
import type { Caller } from "@mcp-swarm/identity";
import { type Domain, MountedServer, readConfig, type ServerDefinition, SwarmProcess } from "@mcp-swarm/server";
import type { Mount } from "./servers.ts";

const AGENT_CALLS = new AbortController().signal;

export class InProcess {
  readonly #process: SwarmProcess;
  readonly #mounted: MountedServer;
  readonly #caller: Caller;

  constructor(definition: ServerDefinition<Domain>, { store, durability, agent }: Mount, env: Record<string, string> = {}) {
    const config = readConfig({ SWARM_STORE: store, SWARM_DURABILITY: durability, ...env }, process.cwd());
    this.#process = new SwarmProcess(config, definition.name, () => agent);
    this.#mounted = new MountedServer(definition, this.#process);
    this.#caller = { agentId: agent, verified: false, processId: this.#process.processId };
  }

  /** Calls a tool that must succeed. */
  async ask<T>(tool: string, args: Record<string, unknown> = {}): Promise<T> {
    const result = await this.#mounted.call(
      { name: tool, arguments: args },
      { caller: this.#caller, signal: AGENT_CALLS, progress: () => {} },
    );
    if (!result.isError) return result.structuredContent as T;
    const [first] = result.content;
    throw new Error(`${tool} was refused: ${first?.type === "text" ? first.text : ""}`);
  }

  async close(): Promise<void> {
    await this.#mounted.close();
    await this.#process.close();
  }
}
