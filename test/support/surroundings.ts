/** Where the tests over all servers start their hosts: an open swarm, or a secured one for a server that works in no other. */
import { issueToken, readKeyFile } from "@mcp-swarm/identity/trust";
import { proofOf } from "../e2e/proofs/index.ts";
import { type HttpServerProcess, RawHost, startServerHttp } from "./bin.ts";
import { Host, type HostOptions } from "./host.ts";
import { SecuredSwarm } from "./secured.ts";

/** The agent that serves others over HTTP. */
const GATE = "gate";

export class Surroundings implements AsyncDisposable {
  /** Whether names are proven. */
  readonly verified: boolean;
  readonly #server: string;
  readonly #store: string;
  readonly #swarm: SecuredSwarm | undefined;
  readonly #members = new Set<string>();

  private constructor(server: string, store: string, swarm: SecuredSwarm | undefined) {
    this.#server = server;
    this.#store = store;
    this.#swarm = swarm;
    this.verified = swarm !== undefined;
  }

  /** Of one server, over a store that nobody has used. `agents`: those that processes which run already will have to know. */
  static async of(server: string, store: string, agents: readonly string[] = []): Promise<Surroundings> {
    const { members } = proofOf(server);
    const made = new Surroundings(server, store, members && (await SecuredSwarm.secure({ store })));
    for (const agentId of [...(members ?? []), ...agents]) await made.env(agentId);
    return made;
  }

  /** What a server process of the agent is started with. In a secured swarm all are administrators, with the root key at hand. */
  async env(agentId: string): Promise<Record<string, string>> {
    if (!this.#swarm) return { SWARM_STORE: this.#store, SWARM_AGENT: agentId };
    if (!this.#members.has(agentId)) await this.#swarm.enroll(agentId, { roles: ["admin"], issuer: agentId === GATE });
    this.#members.add(agentId);
    return {
      SWARM_STORE: this.#store,
      SWARM_KEY_FILE: this.#swarm.keyFile(agentId),
      SWARM_ROOT_KEY_FILE: await this.#swarm.rootKeyFile(),
    };
  }

  /** A host of the agent with a server process of its own. */
  async host(agentId: string, { env, ...options }: Omit<HostOptions, "server" | "agent" | "store"> = {}): Promise<Host> {
    return await Host.start({ ...options, server: this.#server, agent: agentId, env: { ...(await this.env(agentId)), ...env } });
  }

  async raw(agentId: string, env: Record<string, string> = {}): Promise<RawHost> {
    return new RawHost(this.#server, { ...(await this.env(agentId)), ...env });
  }

  /** The server over HTTP. */
  async serve(): Promise<HttpServerProcess> {
    return await startServerHttp(this.#server, this.#swarm ? await this.env(GATE) : { SWARM_STORE: this.#store });
  }

  /** A host of the agent at what `serve` started. */
  async httpHost({ url }: HttpServerProcess, agentId: string, era: NonNullable<HostOptions["era"]>): Promise<Host> {
    const endpoint = `${url}/mcp`;
    if (!this.#swarm) return await Host.http(endpoint, { era, agent: agentId });
    await this.env(agentId);
    const keys = await readKeyFile(this.#swarm.keyFile(agentId));
    const { bundle } = await this.#swarm.admin.read();
    const { token } = await issueToken(keys, bundle, { agentId, audience: endpoint }, { now: Date.now() });
    return await Host.http(endpoint, { era, agent: agentId, token });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#swarm?.[Symbol.asyncDispose]();
  }
}
