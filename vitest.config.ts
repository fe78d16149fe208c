import { defineConfig } from "vitest/config";

export default defineConfig({
  test: {
    include: ["shared/*/test/**/*.test.ts", "servers/*/test/**/*.test.ts", "test/**/*.test.ts"],
    globalSetup: ["test/support/global-setup.ts"],
    pool: "forks",
    deps: { interopDefault: false }, // CommonJS packages are imported as Node imports them
    maxWorkers: 2,
    testTimeout: 60_000,
    hookTimeout: 60_000,
    // where CI reads how many tests passed
    reporters: process.env.SWARM_TEST_REPORT ? ["default", ["json", { outputFile: process.env.SWARM_TEST_REPORT }]] : ["default"],
  },
});
