import { MemoryStore } from "@mcp-swarm/store/memory";
import { contractSuite } from "./suite.ts";

contractSuite(
  "memory",
  async () => {
    const store = new MemoryStore();
    return { open: async () => store, dispose: () => store.close() };
  },
  { processes: false },
);
