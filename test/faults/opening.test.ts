/** Many hosts on one store: nobody is ever told of a lock, and every task is done once. */
import { describe, expect, test } from "vitest";
import { verifies } from "../requirements.ts";
import { Crew, LOCK_WORDS, type Member } from "./crew.ts";
import { census, ENGINES, size } from "./engines.ts";

const OPENING_HOSTS = 8;
const WORKING_HOSTS = 32;
const TASKS_EACH = size(5, 60);
const NEW_STORES = size(2, 20);

/** An error, or a word of locks in any answer, fails the test with the answer. */
function clean(answer: { isError: boolean; text: string }): void {
  expect(answer.isError, answer.text).toBe(false);
  expect(answer.text).not.toMatch(LOCK_WORDS);
}

/** Claims and finishes until there is nothing left; answers how many it did. */
async function drain(crew: Crew, member: Member): Promise<number> {
  for (let done = 0; ; done++) {
    const answer = await crew.claimNext(member);
    clean(answer);
    if (!answer.claimed) return done;
    clean(await crew.report(member, answer.claimed, "done"));
  }
}

describe.each(ENGINES)("$name", ({ meet }) => {
  test(`${OPENING_HOSTS} hosts open one new store at the same moment, and each adds tasks`, { timeout: 600_000 }, async () => {
    verifies("CORE-08");
    for (let round = 0; round < NEW_STORES; round++) {
      using meeting = await meet();
      await using crew = await Crew.start({ store: meeting.store, size: OPENING_HOSTS });
      const adding = crew.members.flatMap((member) => Array.from({ length: 3 }, () => crew.add(member)));
      for (const answer of await Promise.all(adding)) clean(answer);
      const { tasks, problems } = await census(meeting.store);
      expect(problems).toEqual([]);
      expect(tasks.size).toBe(3 * OPENING_HOSTS);
      expect(crew.stderr).toBe("");
    }
  });

  test(`${WORKING_HOSTS} hosts add, claim and finish at once; each task is done once`, { timeout: 600_000 }, async () => {
    verifies("CORE-08", "TASK-05");
    using meeting = await meet();
    await using crew = await Crew.start({ store: meeting.store, size: WORKING_HOSTS });
    const did = await Promise.all(
      crew.members.map(async (member) => {
        let done = 0;
        for (let i = 0; i < TASKS_EACH; i++) {
          clean(await crew.add(member));
          if (i % 5 === 2) done += await drain(crew, member);
        }
        return done;
      }),
    );
    const rest = await Promise.all(crew.members.map((member) => drain(crew, member)));
    const all = WORKING_HOSTS * TASKS_EACH;
    expect([...did, ...rest].reduce((sum, one) => sum + one, 0)).toBe(all);
    const found = await census(meeting.store);
    expect(found.problems).toEqual([]);
    expect(crew.ledger.missing(found)).toEqual([]);
    expect(found.tasks.size).toBe(all);
    for (const task of found.tasks.values()) expect(task).toMatchObject({ status: "done", attempt: 1, fencingToken: 1 });
    expect(crew.stderr).toBe("");
  });
});
