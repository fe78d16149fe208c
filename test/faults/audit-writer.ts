/**
 * A process that writes operations and their audit entries until it is killed or told to stop. Started by audit.test.ts with one JSON
 * argument; says the name of each operation once it was acknowledged, and `closed` when it ended in good order.
 */
import { createPrivateKey, type JsonWebKey, sign } from "node:crypto";
import { once } from "node:events";
import { systemClock, systemRandom } from "@mcp-swarm/core";
import { AuditLog } from "@mcp-swarm/identity/audit";
import { openStore } from "@mcp-swarm/store";

export interface WriterTask {
  readonly url: string;
  readonly agent: string;
  /** Tells its operations from those of its other lives. */
  readonly life: string;
  /** A private Ed25519 key. */
  readonly key: JsonWebKey;
  readonly origin: string;
  readonly copyTo: string;
}

/** Calls at once. */
const CALLERS = 6;

const task = JSON.parse(process.argv[2] ?? "") as WriterTask;
const key = createPrivateKey({ key: task.key, format: "jwk" });
const store = await openStore(task.url);
const log = new AuditLog({
  store,
  clock: systemClock,
  random: systemRandom,
  processId: task.life,
  origin: task.origin,
  copyTo: task.copyTo,
  signer: () => ({ name: task.agent, publicKey: String(task.key.x), sign: (bytes) => sign(null, bytes, key) }),
  onError: (error) => process.stderr.write(`${String(error)}\n`),
});
const told = { stop: false };
process.stdin.once("data", () => {
  told.stop = true;
});

async function callAll(caller: number): Promise<void> {
  for (let n = 0; !told.stop; n++) {
    const name = `${task.life}.${caller}.${n}`;
    const about = { agentId: task.agent, verified: true, operation: "test:write", resource: name, reason: "permitted" };
    await log.transact(
      (plan) => store.transact(plan),
      (tx, append) => {
        tx.put(`operation/${name}`, n);
        append({ ...about, outcome: "permit" });
      },
    );
    if (!process.stdout.write(`${name}\n`)) await once(process.stdout, "drain");
    await log.note({ ...about, resource: "flood", outcome: "deny" });
  }
}

await Promise.all(Array.from({ length: CALLERS }, (_, caller) => callAll(caller)));
await log.close();
await store.close();
process.stdout.write("closed\n");
process.stdin.destroy();
