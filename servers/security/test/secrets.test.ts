import { describe, expect, test } from "vitest";
import { verifies } from "../../../test/requirements.ts";
import { SECRET_BYTES_MAX } from "../src/secrets.ts";
import { processOf, swarmOf } from "./support/process.ts";

const ADMINS = { ada: ["admin"], ben: ["admin"], wes: ["worker"] };

describe("Secrets", () => {
  test("are sealed to every member who may read them and to nobody else", async () => {
    verifies("SEC-11");
    const swarm = await swarmOf(ADMINS);
    const [ada, ben, wes] = [await processOf(swarm, "ada"), await processOf(swarm, "ben"), await processOf(swarm, "wes")];
    await ada.secured.secrets.put(ada.call, { name: "key", value: "correct horse" });
    expect(await ben.secured.secrets.get(ben.call, "key")).toMatchObject({ value: "correct horse", putBy: "ada", readers: 2 });
    // the guard would refuse it before; without one it is not sealed to it all the same
    await expect(wes.secured.secrets.get(wes.call, "key")).rejects.toMatchObject({ code: "failed_precondition" });
    expect((await wes.secured.secrets.list(wes.call, { limit: 10 })).secrets).toMatchObject([{ name: "key", readable: false }]);
  });

  test("put by several at once get one version after the other, and none is lost", async () => {
    verifies("SEC-11");
    const swarm = await swarmOf(ADMINS);
    const [ada, ben] = [await processOf(swarm, "ada"), await processOf(swarm, "ben")];
    const puts = [1, 2, 3].flatMap((n) => [
      ada.secured.secrets.put(ada.call, { name: "key", value: `a${n}` }),
      ben.secured.secrets.put(ben.call, { name: "key", value: `b${n}` }),
    ]);
    const versions = (await Promise.all(puts)).map(({ version }) => version);
    expect(versions.toSorted()).toEqual([1, 2, 3, 4, 5, 6]);
    const { version, value } = await ada.secured.secrets.get(ada.call, "key");
    const last = versions.indexOf(6);
    expect({ version, value }).toEqual({ version: 6, value: `${last % 2 === 0 ? "a" : "b"}${Math.floor(last / 2) + 1}` });
  });

  test("of more readers than one envelope takes need their readers named", async () => {
    verifies("SEC-11");
    const many = Object.fromEntries(Array.from({ length: 101 }, (_, n) => [`agent-${n}`, ["admin"]]));
    const swarm = await swarmOf(many);
    const one = await processOf(swarm, "agent-0");
    await expect(one.secured.secrets.put(one.call, { name: "key", value: "x" })).rejects.toMatchObject({
      code: "limit_exceeded",
    });
    const named = { name: "key", value: "x", readers: ["agent-1", "agent-1", "agent-2"] };
    await one.secured.secrets.put(one.call, named);
    expect((await one.secured.secrets.list(one.call, { limit: 10 })).secrets).toMatchObject([{ readers: 2, readable: false }]);
  });

  test("are refused above their bound, whatever their characters take, and read back whole below it", async () => {
    verifies("SEC-11");
    const swarm = await swarmOf(ADMINS);
    const ada = await processOf(swarm, "ada");
    const put = (value: string) => ada.secured.secrets.put(ada.call, { name: "key", value });
    await expect(put("ß".repeat(SECRET_BYTES_MAX / 2))).rejects.toMatchObject({ code: "limit_exceeded" });
    const value = "ß".repeat(SECRET_BYTES_MAX / 2 - 1);
    await put(value);
    expect((await ada.secured.secrets.get(ada.call, "key")).value).toBe(value);
  });

  test("page in order of their names, each once", async () => {
    verifies("SEC-11", "CORE-11");
    const swarm = await swarmOf(ADMINS);
    const ada = await processOf(swarm, "ada");
    const names = ["a", "b/c", "B", "z.1", "q-2"];
    for (const name of names) await ada.secured.secrets.put(ada.call, { name, value: name });
    const seen: string[] = [];
    let cursor: string | undefined;
    for (let page = 0; page < 4; page++) {
      const { secrets, cursorAt } = await ada.secured.secrets.list(ada.call, { limit: 2, cursor });
      seen.push(...secrets.map(({ name }) => name));
      cursor = cursorAt(secrets.length);
      if (cursor === undefined) break;
    }
    expect(seen.toSorted()).toEqual(names.toSorted());
    expect(cursor).toBeUndefined();
  });
});
