/** The order of what one agent says, in whatever way it says it, and however many processes read. */
import { openStore } from "@mcp-swarm/store";
import { describe, expect, test } from "vitest";
import { verifies } from "../requirements.ts";
import type { Member } from "./crew.ts";
import { ENGINES, size } from "./engines.ts";
import { Post, postCensus } from "./post.ts";

const TURNS = size(150, 1_000);
const LEASE_MS = 600_000;
const VISIBILITY_MS = 300_000;
const WAIT_MS = 2_000;
/** The long form sends faster than a minute's messages allow. */
const env = { SWARM_MESSAGE_RATE: "1000000" };

describe.each(ENGINES)("$name", ({ meet }) => {
  test.each([1, 2])(
    "what an agent publishes, broadcasts and sends is read in the order it was said, by %i processes at once",
    {
      timeout: 600_000,
    },
    async (processes) => {
      verifies("COMM-05", "COMM-07");
      using meeting = await meet();
      const agents = ["sender", ...Array.from({ length: processes }, () => "reader")];
      await using post = await Post.start({ store: meeting.store, agents, leaseMs: LEASE_MS, skewMs: 500, seed: 1, env });
      const [sender, ...readers] = post.members as [Member, ...Member[]];
      for (const reader of readers) await reader.try("list_agents");
      await post.subscribe(readers[0] as Member, "news");
      let over = false;
      const reading = readers.map(async (reader) => {
        for (;;) {
          const last = over;
          const read = await post.read(reader, {
            acknowledge: true,
            limit: 3,
            waitMs: last ? 0 : WAIT_MS,
            visibilityMs: VISIBILITY_MS,
          });
          if (last && read.length === 0) return;
        }
      });
      for (let turn = 0; turn < TURNS; turn++) {
        await post.publish(sender, "news");
        await post.send(sender, "reader");
        if (turn % 10 === 0) await post.broadcast(sender);
      }
      over = true;
      await Promise.all(reading);
      const store = await openStore(meeting.store);
      const census = await postCensus(store);
      await store.close();
      expect(post.wrong(census)).toEqual([]);
      expect(post.received).toBe(census.deliveries.length);
      expect(post.received).toBeGreaterThan(2 * TURNS);
    },
  );
});
