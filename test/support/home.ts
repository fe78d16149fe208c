/** Names the home folder of everything that a run of the tests starts: what servers keep there is not the developer's. */
export const TEST_HOME = "SWARM_TEST_HOME";

/** That folder; outside a run of the tests, as in benchmarks, the user's own. */
export function homeOfTests(): string {
  return process.env[TEST_HOME] ?? process.env.HOME ?? "";
}
