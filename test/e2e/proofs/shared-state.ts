import { expect } from "vitest";
import type { ServerProof } from "./proof.ts";
import { hostileLocks, sharedStateLocks } from "./shared-state-locks.ts";
import { hostileValues, sharedStateValues } from "./shared-state-values.ts";

const PARTS = [sharedStateValues, sharedStateLocks];

export const sharedState: ServerProof = {
  setup: PARTS.flatMap(({ setup }) => setup),
  story: [
    ...PARTS.flatMap(({ story }) => story),
    ["set_state", { key: "to-know", value: { steps: ["one", "two"] } }],
    ["get_context", { keys: [{ key: "to-know" }, { key: "unknown", scope: "agent" }], maxTokens: 1_000 }],
  ],
  writes: Object.assign({}, ...PARTS.map(({ writes }) => writes)),
  hostile: (text, n) => [...hostileValues(text, n), ...hostileLocks(text, n)],
  roundTrip: async (writer, reader, mark) => {
    await writer.call("acquire_lock", { name: mark });
    const { locks } = await reader.call<{ locks: { name: string; holders: { agentId: string }[] }[] }>("list_locks", {
      prefix: mark,
    });
    expect(locks).toMatchObject([{ name: mark, holders: [{ agentId: writer.agent }] }]);
  },
};
