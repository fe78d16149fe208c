import { type ManualClock, manualClock } from "@mcp-swarm/core";
import { describe, expect, test } from "vitest";
import { ResourceWatch } from "../src/resource-watch.ts";
import { SUBSCRIPTIONS_MAX, Subscriptions } from "../src/subscriptions.ts";

/** Something watched, with everything that happens to it counted. */
function watched(clock: ManualClock) {
  const wakes = new Set<() => void>();
  const state = {
    version: "1",
    againInMs: undefined as number | undefined,
    failing: false,
    looks: 0,
    looking: 0,
    lookingMost: 0,
    changes: 0,
    errors: 0,
    /** Resolves looks one by one when set. */
    gate: undefined as Promise<void> | undefined,
  };
  const open = () =>
    ResourceWatch.open({
      store: {
        watch(_, wake) {
          const own = () => wake();
          wakes.add(own);
          return { [Symbol.dispose]: () => void wakes.delete(own) };
        },
      },
      clock,
      watching: {
        prefixes: ["a/", "b/"],
        async version() {
          state.looks += 1;
          state.looking += 1;
          state.lookingMost = Math.max(state.lookingMost, state.looking);
          await state.gate;
          state.looking -= 1;
          if (state.failing) throw new Error("The store does not answer.");
          return { version: state.version, ...(state.againInMs === undefined ? {} : { againInMs: state.againInMs }) };
        },
      },
      onChange: () => {
        state.changes += 1;
      },
      onError: () => {
        state.errors += 1;
      },
    });
  /** One commit under the first prefix. */
  const wake = () => [...wakes][0]?.();
  return { state, open, wake, wakes };
}

describe("a watch of a resource", () => {
  test("says nothing until the version is another, and then once", async () => {
    const clock = manualClock();
    const { state, open, wake } = watched(clock);
    using _ = await open();
    await clock.advance(1_000);
    wake();
    await clock.advance(1_000);
    expect(state).toMatchObject({ looks: 2, changes: 0 });
    state.version = "2";
    wake();
    await clock.advance(1_000);
    expect(state).toMatchObject({ looks: 3, changes: 1 });
  });

  test("looks at once after a wake that comes in quiet times", async () => {
    const clock = manualClock();
    const { state, open, wake } = watched(clock);
    using _ = await open();
    await clock.advance(1_000);
    state.version = "2";
    wake();
    await clock.advance(0);
    expect(state.changes).toBe(1);
  });

  test("looks no more often than its gap, one look at a time, however many wakes come, and never misses the last", async () => {
    const clock = manualClock();
    const { state, open, wake } = watched(clock);
    using _ = await open();
    for (let at = 0; at < 1_000; at++) {
      state.version = `${at}`;
      wake();
      await clock.advance(1);
    }
    await clock.advance(100);
    expect(state.looks).toBeLessThanOrEqual(1_100 / 50 + 2);
    expect(state.lookingMost).toBe(1);
    const told = state.changes;
    await clock.advance(10_000);
    expect(state.changes).toBe(told); // the last version was told, and nothing after it
    wake();
    await clock.advance(100);
    expect(state.changes).toBe(told);
  });

  test("notices what changes while it looks for the first time", async () => {
    const clock = manualClock();
    const { state, open, wake } = watched(clock);
    let pass = () => {};
    state.gate = new Promise((resolve) => {
      pass = resolve;
    });
    const opening = open();
    wake();
    pass();
    using _ = await opening;
    state.version = "2";
    await clock.advance(100);
    expect(state.changes).toBe(1);
  });

  test("looks again when something falls due that nobody wakes for", async () => {
    const clock = manualClock();
    const { state, open } = watched(clock);
    state.againInMs = 2_000;
    using _ = await open();
    state.version = "2";
    state.againInMs = undefined;
    await clock.advance(1_900);
    expect(state.changes).toBe(0);
    await clock.advance(200);
    expect(state).toMatchObject({ changes: 1, looks: 2 });
  });

  test("tries again after a look that failed", async () => {
    const clock = manualClock();
    const { state, open, wake } = watched(clock);
    using _ = await open();
    state.failing = true;
    state.version = "2";
    await clock.advance(100);
    wake();
    await clock.advance(100);
    expect(state).toMatchObject({ errors: 1, changes: 0 });
    state.failing = false;
    await clock.advance(10_000);
    expect(state).toMatchObject({ errors: 1, changes: 1 });
  });

  test("costs nothing once it is disposed, or when it could not be opened", async () => {
    const clock = manualClock();
    const { state, open, wake, wakes } = watched(clock);
    const watch = await open();
    expect(wakes.size).toBe(2);
    state.version = "2";
    wake();
    watch[Symbol.dispose]();
    await clock.advance(10_000);
    expect({ changes: state.changes, wakes: wakes.size }).toEqual({ changes: 0, wakes: 0 });
    state.failing = true;
    await expect(open()).rejects.toThrow("The store does not answer.");
    expect(wakes.size).toBe(0);
  });
});

describe("the subscriptions of a connection", () => {
  function counted(refuse: (uri: string) => boolean = () => false) {
    const opened = new Map<string, number>();
    const subscriptions = new Subscriptions(
      async (uri) => {
        await Promise.resolve();
        if (refuse(uri)) throw new Error("The store does not answer.");
        opened.set(uri, (opened.get(uri) ?? 0) + 1);
        return {
          [Symbol.dispose]: () => {
            const left = (opened.get(uri) ?? 0) - 1;
            if (left === 0) opened.delete(uri);
            else opened.set(uri, left);
          },
        };
      },
      () => {},
    );
    return { subscriptions, opened };
  }

  test("share one watch of a resource, which ends with the last of them", async () => {
    const { subscriptions, opened } = counted();
    await Promise.all([subscriptions.add("a"), subscriptions.add("a"), subscriptions.add("b")]);
    expect(opened).toEqual(new Map(Object.entries({ a: 1, b: 1 })));
    subscriptions.remove("a");
    await Promise.resolve();
    expect(opened.has("a")).toBe(true);
    subscriptions.remove("a");
    subscriptions.remove("a");
    await Promise.resolve();
    expect(opened).toEqual(new Map([["b", 1]]));
  });

  test("end together, those that are just being opened too, and take no more", async () => {
    const { subscriptions, opened } = counted();
    await subscriptions.add("a");
    const opening = subscriptions.add("b");
    subscriptions.close();
    await opening;
    await Promise.resolve();
    expect(opened.size).toBe(0);
    await expect(subscriptions.add("c")).rejects.toThrow("The connection has ended.");
  });

  test("are all there or none when one of several cannot be watched", async () => {
    const { subscriptions, opened } = counted((uri) => uri === "bad");
    await expect(subscriptions.addPermitted(["a", "b", "bad", "c"])).rejects.toThrow("The store does not answer.");
    await Promise.resolve();
    expect(opened.size).toBe(0);
    expect(await subscriptions.addPermitted(["a", "a", "b"])).toEqual(["a", "b"]);
  });

  test("are bounded", async () => {
    const { subscriptions, opened } = counted();
    for (let at = 0; at < SUBSCRIPTIONS_MAX; at++) await subscriptions.add(`${at}`);
    await expect(subscriptions.add("one more")).rejects.toThrow(`at most ${SUBSCRIPTIONS_MAX}`);
    await subscriptions.add("0"); // watched already
    expect(opened.size).toBe(SUBSCRIPTIONS_MAX);
  });
});
