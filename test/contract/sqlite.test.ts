import { execFile, spawn } from "node:child_process";
import { once } from "node:events";
import {
  closeSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  openSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { DatabaseSync } from "node:sqlite";
import { promisify } from "node:util";
import { KeyvSqlite } from "@keyv/sqlite";
import { SwarmError, systemClock } from "@mcp-swarm/core";
import { openStore, ordered, prefixRange, type Store, searchable } from "@mcp-swarm/store";
import { Keyv } from "keyv";
import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import { backup, check, copy, copyStore, restore, sweep, where } from "../../shared/store/src/commands.ts";
import { networkFileSystem } from "../../shared/store/src/local-disk.ts";
import { MemoryStore } from "../../shared/store/src/memory.ts";
import { openSqlite, SqliteStore } from "../../shared/store/src/sqlite.ts";
import { openFile, refuseUnsafeSqlite } from "../../shared/store/src/sqlite-file.ts";
import { verifies } from "../requirements.ts";
import { contractSuite, type Place } from "./suite.ts";
import { startWorkers } from "./workers.ts";

const MAIN = join(import.meta.dirname, "../../shared/store/src/main.ts");
const ALL = prefixRange("t/", 1_000);

async function makePlace(): Promise<Place> {
  const folder = mkdtempSync(join(tmpdir(), "swarm-store-"));
  const url = `sqlite:${join(folder, "data", "swarm.db")}`;
  const opened: Store[] = [];
  return {
    url,
    async open() {
      const store = await openStore(url);
      opened.push(store);
      return store;
    },
    async dispose() {
      for (const store of opened) await store.close();
      rmSync(folder, { recursive: true, force: true });
    },
  };
}

contractSuite("SQLite", makePlace, { processes: true });

describe("a store in a SQLite file", () => {
  let folder: string;
  let path: string;
  let url: string;
  const opened: Store[] = [];
  const open = async (options: Parameters<typeof openSqlite>[1] = {}): Promise<SqliteStore> => {
    const store = await openSqlite(path, options);
    opened.push(store);
    return store;
  };
  /** Writes `count` entries, alike in size, and closes. */
  const fill = async (count: number) => {
    const store = await openStore(url);
    await store.transact((tx) => {
      for (let i = 0; i < count; i++) tx.put(`t/${String(i).padStart(4, "0")}`, { i, text: "lorem ipsum ".repeat(4) });
    });
    await store.close();
  };
  /** Changes text in a file, everywhere: pages keep old copies of rows in their free space. */
  const damage = (file: string, text: string, changed: string) => {
    expect(changed).toHaveLength(text.length);
    const bytes = readFileSync(file);
    let found = 0;
    for (let at = bytes.indexOf(text); at >= 0; at = bytes.indexOf(text, at + 1)) found += bytes.write(changed, at);
    expect(found).toBeGreaterThan(0);
    writeFileSync(file, bytes);
  };
  const damageRow = (i: number) => damage(path, `{"value":{"i":${i},"text":"lorem`, `{"value":{"i":${i},"text":"LOREM`);

  beforeEach(() => {
    folder = mkdtempSync(join(tmpdir(), "swarm-store-"));
    path = join(folder, "data", "swarm.db");
    url = `sqlite:${path}`;
  });
  afterEach(async () => {
    for (const store of opened.splice(0)) await store.close();
    rmSync(folder, { recursive: true, force: true });
  });

  describe("opening", () => {
    it("makes its folder and every file for its user alone, and tightens files that are not", async () => {
      await fill(1);
      const store = await open();
      await store.transact((tx) => tx.put("t/a", 1));
      expect(statSync(dirname(path)).mode & 0o777).toBe(0o700);
      const files = readdirSync(dirname(path)).toSorted();
      expect(files).toEqual(["swarm.db", "swarm.db-lock", "swarm.db-shm", "swarm.db-wake", "swarm.db-wal"]);
      for (const file of files) expect([file, statSync(join(dirname(path), file)).mode & 0o777]).toEqual([file, 0o600]);
    });

    it("keeps its files in pages of 4 KB, in WAL mode, at the durability asked for", async () => {
      for (const [durability, level] of [
        ["full", 2],
        ["normal", 1],
      ] as const) {
        const { db, presence } = await openFile(path, { durability });
        expect(db.prepare("PRAGMA synchronous").get()).toEqual({ synchronous: level });
        expect(db.prepare("PRAGMA journal_mode").get()).toEqual({ journal_mode: "wal" });
        expect(db.prepare("PRAGMA page_size").get()).toEqual({ page_size: 4096 });
        db.close();
        presence.leave();
      }
    });

    it.each(["nfs4", "nfs", "cifs", "smb3", "9p", "fuse.sshfs"])("refuses a folder on %s and names PostgreSQL", async (type) => {
      verifies("CORE-13");
      mkdirSync(dirname(path));
      const lines = [
        "22 1 254:0 / / rw,relatime shared:1 - ext4 /dev/vda rw",
        `40 22 0:50 / ${folder.replaceAll(" ", "\\040")} rw,relatime shared:9 - ${type} server:/export rw`,
      ];
      const refused = open({ mounts: { mountinfo: () => lines.join("\n"), magic: () => 0 } });
      await expect(refused).rejects.toMatchObject({
        code: "failed_precondition",
        message: expect.stringContaining(type),
        hint: expect.stringContaining("PostgreSQL"),
      });
      expect(readdirSync(dirname(path))).toEqual([]);
    });

    it("tells a local disk from a network drive by the deepest mount, the last on a point, or the file system's number", () => {
      const at = (mountinfo: string | undefined, magic = 0) =>
        networkFileSystem(tmpdir(), { mountinfo: () => mountinfo, magic: () => magic });
      const root = "1 0 0:1 / / rw - nfs server:/ rw";
      const local = `2 1 0:2 / ${tmpdir()} rw - ext4 /dev/a rw`;
      expect(at(root)).toBe("nfs");
      expect(at(`${local}\n${root}`)).toBeUndefined();
      expect(at(`${root}\n${local}\n3 2 0:3 / ${tmpdir()} rw - cifs //a/b rw`)).toBe("cifs");
      expect(at(`${root}\n${local}\n3 2 0:3 / ${tmpdir()}-other rw - cifs //a/b rw`)).toBeUndefined();
      expect(at(undefined, 0x6969)).toBe("nfs");
      expect(at(undefined, 0xff534d42 | 0)).toBe("cifs");
      expect(at(undefined, 0xef53)).toBeUndefined();
    });

    it("refuses a SQLite that can corrupt a database which several processes write", () => {
      verifies("CORE-13");
      for (const version of ["3.51.2", "3.50.9", "3.7.0", "2.8.17"]) {
        expect(() => refuseUnsafeSqlite(version)).toThrow(
          expect.objectContaining({ code: "failed_precondition", hint: expect.stringContaining("Node.js") }),
        );
      }
      for (const version of ["3.51.3", "3.52.0", "3.60.1", "4.0.0"]) expect(() => refuseUnsafeSqlite(version)).not.toThrow();
    });

    it.each([
      ["", "sqlite:"],
      ["mysql://host/db", "sqlite:"],
      ["sqlite:", "<path>"],
      ["sqlite::memory:", "memory:"],
      ["/some/path", "SWARM_STORE"],
    ])("refuses the URL %j in one line and says what to write", async (bad, hint) => {
      verifies("CORE-13");
      const refusal = await openStore(bad).catch((error: unknown) => error);
      expect(refusal).toBeInstanceOf(SwarmError);
      expect(refusal).toMatchObject({ code: "invalid_argument", hint: expect.stringContaining(hint) });
      expect((refusal as Error).message).not.toContain("\n");
    });

    it("refuses a file that is no database, and one with another program's table, and leaves both as they are", async () => {
      mkdirSync(dirname(path));
      const text = "this is no database, whatever its name says. ".repeat(100);
      writeFileSync(path, text);
      await expect(open()).rejects.toMatchObject({ code: "internal", hint: expect.stringContaining("check") });
      expect(readFileSync(path, "utf8")).toBe(text);
      rmSync(path);
      const plain = new Keyv({ store: new KeyvSqlite({ uri: `sqlite://${path}`, driver: "node:sqlite" }) });
      await plain.set("a", 1);
      await plain.disconnect();
      await expect(open()).rejects.toMatchObject({ code: "failed_precondition" });
    });

    it("goes on where a process was killed in the middle of setting it up", async () => {
      mkdirSync(dirname(path));
      for (const name of [path, `${path}-lock`]) closeSync(openSync(name, "w"));
      const script = `const { DatabaseSync } = require("node:sqlite");
        const lock = new DatabaseSync(${JSON.stringify(`${path}-lock`)}); lock.exec("BEGIN IMMEDIATE");
        const db = new DatabaseSync(${JSON.stringify(path)}); db.exec("PRAGMA journal_mode=WAL; BEGIN IMMEDIATE; CREATE TABLE half(a)");
        console.log("held"); setInterval(() => {}, 1000);`;
      const holder = spawn(process.execPath, ["-e", script], { stdio: ["ignore", "pipe", "inherit"] });
      await once(holder.stdout, "data");
      const opening = open();
      holder.kill("SIGKILL");
      const store = await opening;
      await store.transact((tx) => tx.put("t/a", 1));
      expect((await store.get("t/a"))?.value).toBe(1);
    });
  });

  describe("format", () => {
    const setFormat = (reader: number, writer: number) => {
      const db = new DatabaseSync(path);
      db.prepare("UPDATE keyv SET value = ? WHERE namespace = 'meta' AND key = 'format'").run(
        JSON.stringify({ value: { reader, writer } }),
      );
      db.close();
    };

    it("refuses to open what only newer programs may read", async () => {
      verifies("CORE-13");
      await fill(1);
      setFormat(2, 2);
      await expect(open()).rejects.toMatchObject({
        code: "failed_precondition",
        message: "The store has data format 2; this program knows up to 1.",
        hint: expect.stringContaining("Update"),
      });
    });

    it("stops writing the moment another process moves the store on, and goes on reading", async () => {
      verifies("CORE-13");
      const store = await open();
      await store.transact((tx) => tx.put("t/a", "old"));
      setFormat(1, 2);
      await expect(store.transact((tx) => tx.put("t/a", "new"))).rejects.toMatchObject({ code: "failed_precondition" });
      expect((await store.get("t/a"))?.value).toBe("old");
      setFormat(1, 1);
      await store.transact((tx) => tx.put("t/a", "new"));
    });
  });

  describe("plain Keyv on the same file", () => {
    const plain = () =>
      new Keyv({ store: new KeyvSqlite({ uri: `sqlite://${path}`, driver: "node:sqlite", busyTimeout: 5_000 }), namespace: "t" });

    it("reads our rows, and we its; its writes move the revision and void the checksum, and stay readable", async () => {
      const store = await open();
      await store.transact((tx) => {
        tx.put("t/a", { text: ":tagged" });
        tx.put("t/gone", 1, { ttlMs: 0 });
      });
      const keyv = plain();
      expect(await keyv.get("a")).toEqual({ text: ":tagged" });
      expect(await keyv.get("gone")).toBeUndefined();
      const before = (await store.get("t/a"))?.rev;
      await keyv.set("a", { text: "changed" });
      await keyv.set("b", "new");
      const after = await store.get("t/a");
      expect(after?.value).toEqual({ text: "changed" });
      expect(after?.rev).not.toBe(before);
      expect((await store.get("t/b"))?.value).toBe("new");
      expect((await check(url)).unsigned).toBe(2);
      await store.transact((tx) => {
        for (const key of ["t/a", "t/b"]) tx.put(key, "ours");
      });
      expect(await keyv.getMany(["a", "b"])).toEqual(["ours", "ours"]);
      expect((await check(url)).unsigned).toBe(0);
      await keyv.disconnect();
    });

    it("moves the revision with every one of its writes, also when it writes the same", async () => {
      const store = await open();
      const keyv = plain();
      const revs = new Set<string | undefined>();
      for (let i = 0; i < 30; i++) {
        await keyv.set("a", "same");
        revs.add((await store.get("t/a"))?.rev);
      }
      expect(revs.size).toBe(30);
      await keyv.disconnect();
    });
  });

  describe("the index of words", () => {
    const text = (name: string, words: string) => [`text/${ordered(1_000)}-${name}`, searchable(words, ["all"])] as const;
    const find = async (store: Store, words: string) =>
      (await store.search({ text: words, scopes: ["all"], limit: 100 })).map(({ key }) => key.split("-")[1]);

    it("comes to a file of a version that had none, with what is in it, without a new format", async () => {
      const store = await open();
      await store.transact((tx) => {
        tx.put(...text("a", "from before"));
        tx.put("t/other", 1);
      });
      await store.close();
      const db = new DatabaseSync(path);
      db.exec("DROP TABLE keyv_words; DROP TABLE keyv_text");
      db.close();
      const mended = await open();
      expect(await find(mended, "before")).toEqual(["a"]);
      expect(await check(url)).toMatchObject({ problemCount: 0, outOfStep: 0 });
    });

    it("never shows what another program changed past it, says so in a check, and is in step after a sweep", async () => {
      const store = await open();
      await store.transact((tx) => {
        for (const name of ["kept", "changed", "gone"]) tx.put(...text(name, "ours"));
      });
      const plain = new Keyv({
        store: new KeyvSqlite({ uri: `sqlite://${path}`, driver: "node:sqlite", busyTimeout: 5_000 }),
        namespace: "text",
      });
      const [, theirs] = text("new", "theirs");
      await plain.set(`${ordered(1_000)}-changed`, theirs);
      await plain.set(`${ordered(1_000)}-new`, theirs);
      await plain.set("junk", "neither");
      await plain.delete(`${ordered(1_000)}-gone`);
      await plain.disconnect();
      expect(await find(store, "ours")).toEqual(["kept"]);
      expect(await find(store, "theirs")).toEqual([]);
      expect(await check(url)).toMatchObject({ problemCount: 0, outOfStep: 3 });
      expect((await sweep(url)).reindexed).toBeGreaterThanOrEqual(3);
      expect(await find(store, "ours")).toEqual(["kept"]);
      expect(await find(store, "theirs")).toEqual(["new", "changed"]);
      expect(await check(url)).toMatchObject({ problemCount: 0, outOfStep: 0 });
    });

    it("is in a backup and comes back with it, and a copy to another file makes it anew", async () => {
      verifies("CORE-16", "CORE-14");
      const store = await open();
      await store.transact((tx) => {
        for (let i = 0; i < 300; i++) tx.put(...text(`${i}`, `number ${i}`));
      });
      await backup(url, join(folder, "backup.db"));
      await store.transact((tx) => {
        for (let i = 0; i < 300; i++) tx.delete(`text/${ordered(1_000)}-${i}`);
      });
      await store.close();
      await restore(join(folder, "backup.db"), url);
      await copy(url, `sqlite:${join(folder, "copy.db")}`);
      for (const place of [url, `sqlite:${join(folder, "copy.db")}`]) {
        const opened = await openStore(place);
        expect(await find(opened, "number")).toHaveLength(100);
        expect(await find(opened, '"123"')).toEqual(["123"]);
        await opened.close();
        expect(await check(place)).toMatchObject({ problemCount: 0, outOfStep: 0 });
      }
    });

    it("is part of the check: a damaged index is a problem", async () => {
      verifies("CORE-16");
      const store = await open();
      await store.transact((tx) => {
        for (let i = 0; i < 300; i++) tx.put(...text(`${i}`, `number ${i}`));
      });
      await store.close();
      const db = new DatabaseSync(path, { defensive: false });
      db.exec("UPDATE keyv_words_data SET block = zeroblob(length(block)) WHERE id > 100");
      db.close();
      expect((await check(url)).problemCount).toBeGreaterThan(0);
    });

    it("is whole after processes that wrote texts were killed", async () => {
      verifies("CORE-09");
      await (await open()).close();
      const workers = await startWorkers(url, "texts", 4, 0);
      await vi.waitFor(
        () => {
          for (const { lines } of workers) expect(lines.length).toBeGreaterThan(50);
        },
        { timeout: 30_000, interval: 10 },
      );
      for (const { process } of workers) process.kill("SIGKILL");
      await Promise.allSettled(workers.map(({ answer }) => answer));
      expect(await check(url)).toMatchObject({ problems: [], outOfStep: 0 });
    });
  });

  describe("when something fails", () => {
    it("finds a changed byte by its checksum, in every way of reading, and reads the other rows", async () => {
      await fill(50);
      damageRow(7);
      const store = await open();
      const failure = { code: "internal", hint: expect.stringContaining("check") };
      await expect(store.get("t/0007")).rejects.toMatchObject(failure);
      await expect(store.getMany(["t/0007"])).rejects.toMatchObject(failure);
      await expect(store.scan(ALL)).rejects.toMatchObject(failure);
      await expect(store.transact((tx) => tx.get("t/0007"))).rejects.toMatchObject(failure);
      expect((await store.get("t/0008"))?.value).toMatchObject({ i: 8 });
      await store.transact((tx) => tx.put("t/0007", "written anew"));
      expect((await store.get("t/0007"))?.value).toBe("written anew");
    });

    // what files a process has open is listed in /proc alone
    it.skipIf(process.platform !== "linux")(
      "throws when the file cannot be read or written, and never says that an entry is missing",
      async () => {
        await fill(2_000);
        // a process whose files were taken from under it: every read and write of the engine fails with EBADF
        const script = `import { openStore } from ${JSON.stringify(join(import.meta.dirname, "../../shared/store/src/index.ts"))};
        import { closeSync, readdirSync, readlinkSync } from "node:fs";
        const store = await openStore(process.argv[1]);
        for (const fd of readdirSync("/proc/self/fd")) {
          let target = "";
          try { target = readlinkSync("/proc/self/fd/" + fd); } catch {}
          if (/swarm\\.db(-wal)?$/.test(target)) closeSync(Number(fd));
        }
        const told = (work) => work.then((value) => "answered " + JSON.stringify(value), (error) => error.code);
        console.log(JSON.stringify([
          await told(store.get("t/1500")), await told(store.getMany(["t/1500"])), await told(store.scan({ from: "t/", before: "t0", limit: 5 })),
          await told(store.keyv("t").get("1500").catch(() => { throw { code: "thrown" } })), await told(store.transact((tx) => tx.put("t/a", 1))),
        ]));
        process.exit(0);`;
        const { stdout } = await promisify(execFile)(process.execPath, ["--input-type=module", "-e", script, url]);
        for (const told of JSON.parse(stdout) as string[]) expect(["unavailable", "internal", "thrown"]).toContain(told);
        expect((await check(url)).problems).toEqual([]);
      },
    );

    it("says in words that the disk is full, commits nothing of the batch, and goes on when there is room", async () => {
      verifies("CORE-13");
      const file = await openFile(path, { durability: "full" });
      const store = new SqliteStore(path, file, systemClock);
      opened.push(store);
      await store.transact((tx) => tx.put("t/small", 1));
      file.db.exec("PRAGMA max_page_count=60"); // the engine's own way to a full disk
      const outcomes = await Promise.allSettled([
        store.transact((tx) => tx.put("t/before", 1)),
        store.transact((tx) => tx.put("t/large", "x".repeat(500_000))),
        store.transact((tx) => tx.put("t/after", 1)),
      ]);
      const refused = outcomes.filter((outcome) => outcome.status === "rejected");
      expect(refused.length).toBeGreaterThan(0);
      for (const { reason } of refused) {
        expect(reason).toMatchObject({
          code: "limit_exceeded",
          message: expect.stringContaining("full"),
          hint: expect.stringContaining("space"),
        });
      }
      // what was acknowledged is there, what was refused is not
      for (const [i, key] of ["t/before", "t/large", "t/after"].entries()) {
        expect([key, (await store.get(key)) !== undefined]).toEqual([key, outcomes[i]?.status === "fulfilled"]);
      }
      expect(await store.get("t/large")).toBeUndefined();
      file.db.exec("PRAGMA max_page_count=1000000");
      await store.transact((tx) => tx.put("t/large", "x".repeat(500_000)));
      expect((await check(url)).problems).toEqual([]);
    });

    it("keeps its log short while many write and read, and copies it seldom", async () => {
      const stores = [
        await open({ durability: "normal" }),
        await open({ durability: "normal" }),
        await open({ durability: "normal" }),
      ];
      const text = "x".repeat(3_000);
      const written = 9_000; // one page each and more: nine times what is copied at once
      let copies = 0;
      let before = statSync(path).mtimeMs;
      for (let i = 0; i < written; i += stores.length) {
        const writes = stores.map((store, at) => store.transact((tx) => tx.put(`t/${(i + at) % 500}`, text)));
        await Promise.all([...writes, ...stores.map((store) => store.get("t/0"))]);
        const now = statSync(path).mtimeMs;
        if (now !== before) copies += 1;
        before = now;
      }
      expect(statSync(`${path}-wal`).size).toBeLessThan(5_000 * 4_120);
      expect(copies).toBeGreaterThan(0);
      expect(copies).toBeLessThan(written / 100);
    });

    it("refuses a transaction that is used after its plan has ended", async () => {
      const store = await open();
      let kept: { put(key: string, value: number): void } | undefined;
      await store.transact((tx) => {
        kept = tx;
      });
      expect(() => kept?.put("t/late", 1)).toThrow(expect.objectContaining({ code: "internal" }));
      expect(await store.get("t/late")).toBeUndefined();
    });

    it("never lets time go back when the clock does", async () => {
      let wall = 1_000_000;
      const store = await open({ clock: { ...systemClock, now: () => wall } });
      expect(await store.now()).toBe(1_000_000);
      wall = 900_000;
      expect(await store.transact((tx) => tx.now)).toBe(1_000_000);
      await store.transact((tx) => tx.put("t/a", 1, { ttlMs: 10 }));
      wall = 1_000_011;
      expect(await store.get("t/a")).toBeUndefined();
    });

    it("finishes what waits before it closes", async () => {
      const store = await open();
      const writes = Promise.all(Array.from({ length: 50 }, (_, i) => store.transact((tx) => tx.put(`t/${i}`, i))));
      await store.close();
      await writes;
      expect(await (await open()).scan(ALL)).toHaveLength(50);
    });
  });

  describe("the commands", () => {
    /** The bin as a process: exit status and both outputs. */
    const run = async (...args: string[]) => {
      const child = spawn(process.execPath, [MAIN, ...args], {
        env: { ...process.env, SWARM_STORE: url },
        stdio: ["ignore", "pipe", "pipe"],
      });
      let [out, err] = ["", ""];
      child.stdout.setEncoding("utf8").on("data", (text: string) => {
        out += text;
      });
      child.stderr.setEncoding("utf8").on("data", (text: string) => {
        err += text;
      });
      const [status] = await once(child, "close");
      return { status: status as number, out, err };
    };

    it("back up while eight processes write: the copy verifies and holds whole transactions only", async () => {
      verifies("CORE-16");
      await fill(200);
      const workers = await startWorkers(url, "pairs", 8, 0);
      const file = join(folder, "backup.db");
      const { status, out, err } = await run("--json", "backup", file);
      for (const { process } of workers) process.kill("SIGKILL");
      await Promise.allSettled(workers.map(({ answer }) => answer));
      expect({ status, err }).toEqual({ status: 0, err: "" });
      expect(JSON.parse(out)).toMatchObject({ file });
      expect(statSync(file).mode & 0o777).toBe(0o600);
      const copied = await openStore(`sqlite:${file}`);
      opened.push(copied);
      for (let index = 0; index < 8; index++) {
        const [left, right] = await Promise.all(
          ["left", "right"].map((side) => copied.scan(prefixRange(`${side}/${index}/`, 1_000))),
        );
        expect(left?.map(({ value }) => value)).toEqual(right?.map(({ value }) => value));
      }
    });

    it("restore a backup: refused while anything has the store open, verified, and what was there is kept", async () => {
      verifies("CORE-16");
      await fill(20);
      const file = join(folder, "backup.db");
      await backup(url, file);
      const store = await open();
      await store.transact((tx) => tx.put("t/since", 1));
      const refused = await run("restore", file);
      expect(refused).toMatchObject({ status: 1, out: "", err: expect.stringContaining("in use by another process") });
      await store.close();

      const other = new DatabaseSync(path); // any other program
      other.prepare("SELECT count(*) FROM keyv").get();
      await expect(restore(file, url)).rejects.toMatchObject({ code: "failed_precondition" });
      other.close();

      const done = await run("restore", file);
      expect(done).toMatchObject({ status: 0, out: expect.stringContaining("Restored and verified 21 rows") });
      const after = await open();
      expect(await after.get("t/since")).toBeUndefined();
      expect(await after.scan(ALL)).toHaveLength(20);
      await after.transact((tx) => tx.put("t/again", 1));
      const kept = await openStore(`sqlite:${path}.bak`);
      opened.push(kept);
      expect(await kept.get("t/since")).toBeDefined();
    });

    it("restore over a store that is damaged beyond opening, and refuse a damaged backup", async () => {
      verifies("CORE-16");
      await fill(20);
      const file = join(folder, "backup.db");
      await backup(url, file);
      damage(path, "SQLite format 3", "SQLite mormat 3");
      await expect(open()).rejects.toMatchObject({ code: "internal" });
      expect((await restore(file, url)).rows).toBe(21);
      expect((await check(url)).problems).toEqual([]);
      damage(file, "lorem", "LOREM");
      await expect(restore(file, url)).rejects.toMatchObject({
        code: "failed_precondition",
        message: expect.stringContaining("left as it is"),
      });
      expect((await check(url)).rows).toBe(21);
    });

    it("check every record's checksum, and say which fails", async () => {
      verifies("CORE-16");
      await fill(50);
      expect(await run("check")).toMatchObject({ status: 0, out: expect.stringContaining("sound. 51 rows") });
      damageRow(7);
      const found = await run("check");
      expect(found.status).toBe(1);
      expect(found.out).toContain("t/0007: fails its checksum");
      expect(found.out).toContain("restore");
      const db = new DatabaseSync(path);
      db.exec("UPDATE keyv SET rev = 1, expires = 5, sum = sum WHERE namespace = 't' AND key = '0009'");
      db.close();
      expect((await check(url)).problems).toContain("t/0009: has a changed time of expiry");
    });

    it("copy to another engine and back, with every value and time of expiry, into an empty store only", async () => {
      verifies("CORE-14");
      const store = await open();
      await store.transact((tx) => {
        for (let i = 0; i < 1_203; i++) tx.put(`t/${i}`, { i, odd: ["\0", ":x", "😀", "\ud800"] });
        tx.put("u/later", 1, { ttlMs: 600_000 });
        tx.put("u/past", 1, { ttlMs: 0 });
      });
      const memory = new MemoryStore();
      expect(await copyStore(store, memory)).toMatchObject({ rows: 1_204, leftOut: [] });
      const target = join(folder, "second.db");
      const second = await openSqlite(target);
      opened.push(second);
      expect(await copyStore(memory, second)).toMatchObject({ rows: 1_204 });
      const content = async (from: Store) => {
        const keys = [...Array.from({ length: 1_203 }, (_, i) => `t/${i}`), "u/later", "u/past"];
        return (await from.getMany(keys)).map((entry) => entry && [entry.key, entry.value, entry.expiresAt]);
      };
      expect(await content(second)).toEqual(await content(store));
      await expect(copy(url, `sqlite:${target}`)).rejects.toMatchObject({
        code: "failed_precondition",
        message: expect.stringContaining("not empty"),
      });
      await expect(copy(url, url)).rejects.toMatchObject({ code: "invalid_argument" });
      await expect(copy(`sqlite:${join(folder, "none.db")}`, "memory:")).rejects.toMatchObject({ code: "not_found" });
      expect(existsSync(join(folder, "none.db"))).toBe(false);
    });

    it("sweep expired rows and what the servers register", async () => {
      verifies("CORE-16");
      const store = await open();
      await store.transact((tx) => {
        for (let i = 0; i < 30; i++) tx.put(`t/${i}`, i, { ttlMs: 0 });
        tx.put("t/stays", 1);
      });
      const report = await sweep(url, [{ name: "tasks", sweep: async (held) => (await held.scan(ALL)).length }]);
      expect(report).toEqual({ expired: 30, reindexed: 0, retained: { tasks: 1 } });
      expect(await run("sweep")).toMatchObject({ status: 0, out: "Removed 0 expired rows.\n" });
    });

    it("say where the store is without making it and without its password", async () => {
      expect(await run("where")).toMatchObject({ status: 0, out: expect.stringContaining(`sqlite:${path} (not made yet`) });
      expect(existsSync(path)).toBe(false);
      expect(where("postgres://me:secret@db.example/swarm?password=secret").location).not.toContain("secret");
      expect(JSON.parse((await run("--json", "where")).out)).toMatchObject({ engine: "sqlite", exists: false });
    });

    it("fail with a status, one reason and a next step, also in JSON", async () => {
      for (const args of [["check"], ["backup", join(folder, "b.db")], ["restore", join(folder, "none.db")], ["sweep"]]) {
        const failed = await run(...args);
        expect([args[0], failed.status, failed.out]).toEqual([args[0], 1, ""]);
        expect(failed.err.trim().split("\n")).toHaveLength(2);
        const inJson = await run("--json", ...args);
        expect(JSON.parse(inJson.err)).toMatchObject({ error: { code: "not_found", hint: expect.any(String) } });
      }
      expect(existsSync(path)).toBe(false);
    });
  });
});
