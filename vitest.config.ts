import { defineConfig } from "vitest/config";

export default defineConfig({
  test: {
    include: ["shared/*/test/**/*.test.ts", "servers/*/test/**/*.test.ts", "test/**/*.test.ts"],
    globalSetup: ["test/support/global-setup.ts"],
    pool: "forks",
    maxWorkers: 2,
    testTimeout: 60_000,
    hookTimeout: 60_000,
  },
});
