import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync, readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import fc from "fast-check";
import { afterAll, afterEach, beforeAll, describe, expect, it } from "vitest";
import { verifies } from "../../../test/requirements.ts";
import type { Driver } from "../src/sandbox/driver.ts";
import { openQuickJs } from "../src/sandbox/quickjs/driver.ts";
import { statusOf } from "./support/processes.ts";
import { type Ran, type Run, runCode } from "./support/runs.ts";

const CHILD = "sandbox/quickjs/child.ts";

let driver: Driver;
beforeAll(() => {
  driver = open(1);
});
afterAll(async () => {
  await driver.close();
  expect(children(), "no process is left").toEqual([]);
});

function open(slots: number): Driver {
  return openQuickJs({
    slots,
    onError: (error) => {
      throw error;
    },
  });
}
const js = (code: string, run?: Run): Promise<Ran> => runCode(driver, "javascript", code, run);
const ts = (code: string, run?: Run): Promise<Ran> => runCode(driver, "typescript", code, run);
const ok = { kind: "exit", code: 0 } as const;
const limited = (limit: string) => ({ kind: "limit", limit });

/** Pids of children of QuickJS that this process, or the one of that number, has and that run. */
function children(parent: number = process.pid): number[] {
  return readdirSync("/proc")
    .filter((name) => /^\d+$/.test(name))
    .map(Number)
    .filter((pid) => new RegExp(`^PPid:\\s+${parent}$`, "m").test(statusOf(pid)))
    .filter((pid) => !/^State:\s+[ZX]/m.test(statusOf(pid)) && commandOf(pid).includes(CHILD));
}
function commandOf(pid: number): string {
  try {
    return readFileSync(`/proc/${pid}/cmdline`, "latin1");
  } catch {
    return ""; // it has ended
  }
}

describe("JavaScript in QuickJS", () => {
  verifies("EXEC-04");

  it("has the value of its last expression", async () => {
    expect(await js("const half = 21; half * 2")).toMatchObject({ ending: ok, value: 42, stdout: "", stderr: "" });
    expect((await js("({ list: [1, 'two', null, true], of: { more: 1.5 } })")).value).toEqual({
      list: [1, "two", null, true],
      of: { more: 1.5 },
    });
    expect(await js("let nothing = 1;")).not.toHaveProperty("value");
  });

  it("waits for what it awaits, for a promise as its last value, for jobs and for timers", async () => {
    expect((await js("const one = await Promise.resolve(1); one + 1")).value).toBe(2);
    expect((await js("async function main() { await null; return 'done'; } main()")).value).toBe("done");
    const ran = await js(`
      setTimeout(() => console.log("third"), 20);
      const never = setTimeout(() => console.log("never"), 5);
      clearTimeout(never);
      queueMicrotask(() => console.log("second"));
      console.log("first");
      let times = 0;
      const every = setInterval(() => { if (++times === 3) clearInterval(every); console.log("again", times); }, 30);`);
    expect(ran).toMatchObject({ ending: ok, stdout: "first\nsecond\nthird\nagain 1\nagain 2\nagain 3\n" });
  });

  it("ends with 13, as Node does, when nothing can end what it awaits", async () => {
    expect(await js("await new Promise(() => {})")).toMatchObject({ ending: { kind: "exit", code: 13 } });
    expect(await js("({ then() {} })")).toMatchObject({ ending: { kind: "exit", code: 13 } });
  });

  it("gets arguments, standard input, environment and files", async () => {
    const ran = await js(
      `[args, stdin, env.GREETING, readFile("data/in.txt"), [...readBytes("./data/in.txt")].length, listFiles()]`,
      { args: ["a", "b c"], stdin: "line\n", env: { GREETING: "hé" }, files: { "data/in.txt": "höhe" } },
    );
    expect(ran.value).toEqual([["a", "b c"], "line\n", "hé", "höhe", 5, ["data/in.txt"]]);
  });

  it("gives back what it writes below out, and nothing else", async () => {
    const ran = await js(
      `
      writeFile("out/report.txt", "fine");
      writeFile("out/deep/bytes.bin", new Uint8Array([104, 105]).subarray(0, 2));
      writeFile("notes.txt", "kept");
      writeFile("given.txt", readFile("given.txt") + "!");
      readFile("notes.txt") + readFile("given.txt")`,
      { files: { "given.txt": "given" } },
    );
    expect(ran).toMatchObject({ ending: ok, value: "keptgiven!" });
    expect(ran.files).toEqual({ "report.txt": "fine", "deep/bytes.bin": "hi" });
  });

  it("keeps every character of a text on its way in and out, NUL too", async () => {
    const text = "a\0b\n\u00e9\ud83d\ude00\0";
    const ran = await js(
      `const given = readFile("in.txt"); console.log(given); writeFile("out/copy.txt", given); [given, args[0] === given, stdin === given]`,
      { files: { "in.txt": text }, args: [text], stdin: text },
    );
    expect(ran).toMatchObject({ value: [text, true, true], stdout: `${text}\n`, files: { "copy.txt": text } });
    const long = "\ud83d\ude00".repeat(100_000);
    expect((await js("console.log('x' + '\\ud83d\\ude00'.repeat(100_000))", { limits: { outputBytes: 1_000_000 } })).stdout).toBe(
      `x${long}\n`,
    );
  });

  it("refuses paths that lead elsewhere", async () => {
    for (const path of ["../up.txt", "/etc/passwd", "out/../../x", "a\\b", "out/", "", "out/\u0000", "out/a\u0000b", "C:x"]) {
      expect(await js(`writeFile(${JSON.stringify(path)}, "x")`), path).toMatchObject({
        ending: { kind: "exit", code: 1 },
        files: {},
      });
    }
    expect((await js("readFile('missing.txt')")).stderr).toContain("There is no file missing.txt");
  });

  it("ends with the code it asks for, at once", async () => {
    expect(await js("try { exit(7) } finally { console.log('not this') }")).toMatchObject({
      ending: { kind: "exit", code: 7 },
      stdout: "",
    });
    expect(await js("setTimeout(() => exit(), 5); for await (const _ of []) {} ; 'value'")).toMatchObject({ ending: ok });
  });

  it("tells what was thrown with the lines of the code, and ends with 1", async () => {
    const ran = await js(`function inner() {\n  null.x;\n}\n\ninner();`);
    expect(ran.ending).toEqual({ kind: "exit", code: 1 });
    expect(ran.stderr).toMatch(/^Uncaught TypeError: .+\n {4}at inner \(task\.js:2:\d+\)\n {4}at <eval> \(task\.js:5:\d+\)\n$/);
    expect((await js("let x = 1;\nlet y = ;")).stderr).toMatch(/^Uncaught SyntaxError: .+\n {4}at task\.js:2:\d+\n$/);
    expect((await js("throw new Error('outer', { cause: new RangeError('inner') })")).stderr).toMatch(
      /Uncaught Error: outer[\s\S]*Caused by: RangeError: inner/,
    );
    expect((await js("await Promise.any([Promise.reject(new Error('e1'))])")).stderr).toMatch(
      /AggregateError[\s\S]*\[0\] Error: e1/,
    );
    expect((await js("throw { some: 'object' }")).stderr).toBe('Uncaught { some: "object" }\n');
    expect((await js("setTimeout(() => { throw new Error('late') }, 1)")).stderr).toContain("Uncaught Error: late");
  });

  it("prints what people expect of a console", async () => {
    const ran = await js(`
      console.log("text", 1, true, null, undefined, 10n, -0, Symbol("s"));
      console.log({ a: [1, , 3], f() {}, nested: { deep: { deeper: { deepest: { x: 1 } } } } });
      console.log(new Map([["k", { v: 1 }]]), new Set([1]), new Date(0), /re/g, new Uint8Array(2));
      const self = {}; self.self = self; console.log(self);
      console.log("%s is %d%%, %j", "half", 50, { j: 1 });
      class Point { x = 1 } console.info(new Point(), Point);
      console.group("group"); console.log("inside"); console.groupEnd(); console.debug("outside");
      console.log([new Error("shown")].length, { get secret() { throw 1 } });
      console.warn("careful"); console.error(new Error("bad").message); console.assert(1 === 2, "off");`);
    expect(ran.ending).toEqual(ok);
    expect(ran.stdout).toBe(`text 1 true null undefined 10n -0 Symbol(s)
{
  a: [ 1, <empty>, 3 ],
  f: [Function: f],
  nested: { deep: { deeper: { deepest: [Object] } } }
}
Map(1) { "k" => { v: 1 } } Set(1) { 1 } 1970-01-01T00:00:00.000Z /re/g Uint8Array(2) [ 0, 0 ]
{ self: [Circular] }
half is 50%, {"j":1}
Point { x: 1 } [class Point]
group
  inside
outside
1 { secret: [Getter] }
`);
    expect(ran.stderr).toBe("careful\nbad\nAssertion failed: off\n");
  });

  it("has bytes, texts, base64, copies and chance without any I/O", async () => {
    const ran = await js(`
      const text = "h\\u00e9 \\ud83d\\ude00";
      const copy = structuredClone({ d: new Date(5), m: new Map([[1, new Set([2])]]), u: new Uint8Array([1, 2]) });
      let refused; try { structuredClone(() => 1) } catch (error) { refused = error.name }
      const random = [Math.random(), Math.random()];
      [
        new TextDecoder().decode(new TextEncoder().encode(text)) === text,
        [...new TextEncoder().encode("\\u00e9\\ud83d\\ude00\\ud800")],
        new TextDecoder().decode(new Uint8Array([0xef, 0xbb, 0xbf, 0x61, 0xff, 0xe2, 0x82, 0xc3, 0xa9])),
        atob(btoa("h\\u00e9llo")), btoa("a"), btoa("ab"),
        copy.d.getTime(), copy.m.get(1).has(2), [...copy.u], refused,
        /^[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/.test(crypto.randomUUID()),
        random.every((one) => one >= 0 && one < 1) && random[0] !== random[1],
        crypto.getRandomValues(new Uint32Array(4)).length,
      ]`);
    expect(ran.value).toEqual([
      true,
      [0xc3, 0xa9, 0xf0, 0x9f, 0x98, 0x80, 0xef, 0xbf, 0xbd],
      "a\ufffd\ufffdé",
      "héllo",
      "YQ==",
      "YWI=",
      5,
      true,
      [1, 2],
      "DataCloneError",
      true,
      true,
      4,
    ]);
  });

  it("decodes any bytes as Node does, and encodes any text", async () => {
    const samples = fc.sample(fc.uint8Array({ maxLength: 24 }), { numRuns: 300, seed: 20 });
    const texts = fc.sample(fc.string({ unit: "binary", maxLength: 12 }), { numRuns: 300, seed: 21 });
    const ran = await js(
      `const { samples, texts } = JSON.parse(stdin);
       [samples.map((bytes) => new TextDecoder().decode(new Uint8Array(bytes))), texts.map((text) => [...new TextEncoder().encode(text)])]`,
      { stdin: JSON.stringify({ samples: samples.map((bytes) => [...bytes]), texts }) },
    );
    expect(ran.value).toEqual([
      samples.map((bytes) => new TextDecoder().decode(bytes)),
      texts.map((text) => [...new TextEncoder().encode(text)]),
    ]);
  });

  it("draws other numbers in each task", async () => {
    const drawn = await Promise.all([1, 2, 3].map(() => js("Math.random()")));
    expect(new Set(drawn.map(({ value }) => value)).size).toBe(3);
  });

  it("takes modules: the default export is the value, and there is nothing to import", async () => {
    expect((await js("export const other = 1;\nexport default { answer: await Promise.resolve(42) };")).value).toEqual({
      answer: 42,
    });
    for (const code of ["import fs from 'node:fs'", "await import('node:fs')", "import('./x.js')"]) {
      expect((await js(code)).stderr, code).toContain("There are no modules to import here");
    }
    expect((await js("const text = `\nexport const no = 1`; text.length")).value).toBe(20);
  });

  it("has no way to anything of the machine", async () => {
    const names = [
      "process",
      "require",
      "module",
      "fetch",
      "WebAssembly",
      "Deno",
      "Worker",
      "std",
      "os",
      "scriptArgs",
      "navigator",
    ];
    expect((await js(`[${names.map((name) => `typeof ${name}`).join()}]`)).value).toEqual(names.map(() => "undefined"));
  });

  it("has a module of its own: nothing of one task is there in the next", async () => {
    await js(
      "globalThis.left = 'here'; Object.prototype.polluted = 1; Array.prototype.map = null; JSON.stringify = null; writeFile('out/a', 'x')",
    );
    const pids = children();
    expect((await js("[typeof left, {}.polluted ?? null, typeof [].map, typeof JSON.stringify, listFiles()]")).value).toEqual([
      "undefined",
      null,
      "function",
      "function",
      [],
    ]);
    expect(children(), "in the same process").toEqual(pids);
  });

  it("finds no trace of an earlier task's memory", async () => {
    const secret = "s3cr3t".repeat(1_000);
    await js(`globalThis.kept = ${JSON.stringify(secret)}.split("").reverse(); 1`);
    const ran = await js(`
      let found = 0;
      for (let n = 0; n < 40; n++) {
        const bytes = new Uint8Array(100_000);
        for (let i = 0; i < bytes.length; i++) if (bytes[i] !== 0) found++;
      }
      found`);
    expect(ran.value).toBe(0);
  });
});

describe("TypeScript in QuickJS", () => {
  verifies("EXEC-04");

  it("runs with its types taken off", async () => {
    expect(
      await ts(`interface Item { readonly price: number }
        const items: Item[] = [{ price: 2 }, { price: 3 }];
        const total = <T extends Item>(all: readonly T[]): number => all.reduce((sum, { price }) => sum + price, 0);
        total(items satisfies Item[]) as number`),
    ).toMatchObject({ ending: ok, value: 5 });
  });

  it("keeps the lines of the source in what it says went wrong", async () => {
    expect((await ts("type A = {\n  a: number;\n};\nconst a: A | null = null;\na!.a;")).stderr).toMatch(
      /at <eval> \(task\.ts:5:\d+\)/,
    );
    expect((await ts("const a = 1;\nlet x: = 5;")).stderr).toMatch(/^Uncaught SyntaxError: [\s\S]+at task\.ts:2\n$/);
  });

  it("takes enums and namespaces, with the lines of the source too", async () => {
    const code = "enum Colour {\n  Red = 'red',\n  Blue = 'blue',\n}\nnamespace Of { export const x = Colour.Blue }\n";
    expect((await ts(`${code}Of.x`)).value).toBe("blue");
    expect((await ts(`${code}\nfunction late(): never {\n  throw new Error(Of.x);\n}\nlate();`)).stderr).toMatch(
      /^Uncaught Error: blue\n {4}at late \(task\.ts:8:\d+\)\n {4}at <eval> \(task\.ts:10:\d+\)\n$/,
    );
  });

  it("is an error of the code when its source is made to break what reads it", async () => {
    const pids = children();
    expect(await ts(`let x = ${"(".repeat(200_000)}`)).toMatchObject({ ending: { kind: "exit", code: 1 } });
    expect((await ts("1 as number")).value).toBe(1);
    expect(children(), "in another process").not.toEqual(pids);
  });
});

describe("a value that is no JSON", () => {
  it.each([
    [
      "({ big: 5n, when: new Date(0), no: undefined, f() {} })",
      { big: "5", when: "1970-01-01T00:00:00.000Z" },
      /BigInt became a text[\s\S]*function was left out/,
    ],
    ["[NaN, Infinity, undefined, Symbol('s')]", [null, null, null, null], /NaN became null[\s\S]*symbol was left out/],
    ["new Map([['k', new Set([1])]])", [["k", [1]]], /Map became an array[\s\S]*Set became an array/],
    ["const a = { b: {} }; a.b.a = a; a", { b: { a: null } }, /contains itself/],
    ["new TypeError('wrong')", { name: "TypeError", message: "wrong" }, /Error became its name and message/],
    ["new Uint8Array([1, 2])", [1, 2], /bytes became/],
    ["[new String('s'), new Number(1), Object(true)]", ["s", 1, true], /^$/],
    ["({ toJSON: () => ({ other: 1 }) })", { other: 1 }, /^$/],
    ["({ toJSON() { return this } })", {}, /function was left out/],
    ['JSON.parse(\'{"__proto__": {"x": 1}}\')', JSON.parse('{"__proto__": {"x": 1}}'), /^$/],
    ["new Proxy([1, 2], {})", [1, 2], /^$/],
    ["'\\ud800'", "\ud800", /^$/],
  ])("is made one, and what was lost is said: %s", async (code, value, said) => {
    const ran = await js(code);
    expect(ran).toMatchObject({ ending: ok, value });
    expect(ran.stderr).toMatch(said);
  });

  it.each([
    ["({ get x() { throw new Error('mine') } })", "mine"],
    ["new Proxy({}, { ownKeys() { throw new Error('trap') } })", "trap"],
    ["({ toJSON() { throw 5 } })", "5"],
    ["({ toJSON() { return this.deep } , get deep() { return this.deep } })", "stack overflow"],
  ])("is left out when reading it fails: %s", async (code, said) => {
    const ran = await js(code);
    expect(ran.ending).toEqual(ok);
    expect(ran).not.toHaveProperty("value");
    expect(ran.stderr).toContain(said);
  });

  it("is cut off where it is nested too deeply, and left out where it is too long", async () => {
    const deep = await js("let d = []; for (let i = 0; i < 100; i++) d = [d]; d");
    expect(JSON.stringify(deep.value)).toBe(`${"[".repeat(32)}null${"]".repeat(32)}`);
    const long = await js("'x'.repeat(300_000)");
    expect(long.ending).toEqual(ok);
    expect(long).not.toHaveProperty("value");
    expect(long.cut.valueBytes).toBeGreaterThan(256 * 1024);
    expect((await js("'x'.repeat(200_000)")).value).toHaveLength(200_000);
    expect((await js("'\\u20ac'.repeat(100_000)")).cut.valueBytes, "counted in bytes").toBeGreaterThan(256 * 1024);
  });
});

describe("a limit of QuickJS", () => {
  verifies("EXEC-07");

  it.each([
    ["wallMs", "for (;;);", { wallMs: 200 }],
    ["wallMs", "await new Promise((done) => setTimeout(done, 60_000))", { wallMs: 200 }],
    ["wallMs", "(function again() { Promise.resolve().then(again) })(); await new Promise(() => {})", { wallMs: 200 }],
    ["wallMs", "for (;;) { try { for (;;); } catch {} finally { continue } }", { wallMs: 200 }],
    ["wallMs", "/(a+)+$/.test('a'.repeat(40) + 'b')", { wallMs: 300 }],
    ["wallMs", "const twice = () => { try { twice() } catch { twice() } }; twice()", { wallMs: 300 }],
    ["cpuMs", "for (;;);", { wallMs: 20_000, cpuMs: 200 }],
    ["memoryMiB", "const all = []; for (;;) all.push(new Uint8Array(1_000_000))", { memoryMiB: 32 }],
    ["memoryMiB", "const all = []; for (;;) all.push({ all })", { memoryMiB: 32 }],
    [
      "memoryMiB",
      "const all = []; for (;;) try { all.push('x'.repeat(1e6) + all.length) } catch { all.length }",
      { memoryMiB: 32 },
    ],
    ["memoryMiB", "new ArrayBuffer(1_000_000_000)", { memoryMiB: 64 }],
    ["memoryMiB", "const m = new Map(); for (let i = 0;; i++) m.set(i, [i])", { memoryMiB: 24 }],
    ["outputBytes", "for (;;) console.log('x'.repeat(100))", { outputBytes: 5_000 }],
    ["outputBytes", "console.error('y'.repeat(1_000_000))", { outputBytes: 5_000 }],
    ["fileBytes", "writeFile('out/big', 'x'.repeat(2_000)); console.log('no')", { fileBytes: 1_000 }],
    ["fileBytes", "writeFile('out/big', new Uint8Array(2_000)); console.log('no')", { fileBytes: 1_000 }],
    ["diskBytes", "for (let i = 0;; i++) writeFile('f' + i, 'x'.repeat(900))", { fileBytes: 1_000, diskBytes: 5_000 }],
  ] as const)("%s ends %s", async (limit, code, limits) => {
    const ran = await js(code, { limits });
    expect(ran.ending).toEqual(limited(limit));
    expect(ran.stdout.length + ran.stderr.length).toBeLessThanOrEqual(limits && "outputBytes" in limits ? limits.outputBytes : 0);
    expect(children(), "its process is gone").toEqual([]);
    expect((await js("1 + 1")).value, "and the next task runs").toBe(2);
  });

  it("says how much output was cut, and keeps what came before", async () => {
    const ran = await js("console.log('head'); console.log('z'.repeat(10_000))", { limits: { outputBytes: 1_000 } });
    expect(ran.stdout).toBe(`head\n${"z".repeat(995)}`);
    expect(ran.cut.stdoutBytes).toBeGreaterThan(0);
  });

  it("gives back the files that were written before it was passed", async () => {
    const ran = await js("writeFile('out/partly.txt', 'so far'); for (;;);", { limits: { wallMs: 300 } });
    expect(ran).toMatchObject({ ending: limited("wallMs"), files: { "partly.txt": "so far" } });
  });

  it("takes the first files when there are too many, and says which it left", async () => {
    const ran = await js("for (let i = 0; i < 5; i++) writeFile('out/' + i + '.txt', String(i))", { limits: { files: 3 } });
    expect(ran).toMatchObject({ ending: ok, files: { "0.txt": "0", "1.txt": "1", "2.txt": "2" } });
    expect(ran.cut.files).toEqual([
      { path: "out/3.txt", because: "more than 3 files" },
      { path: "out/4.txt", because: "more than 3 files" },
    ]);
  });

  it("tells what was used", async () => {
    const { usage } = await js(
      "const all = new Uint8Array(40_000_000).fill(1); let n = 0; for (let i = 0; i < 300_000; i++) n += i; n",
    );
    expect(usage.peakMemoryMiB).toBeGreaterThan(40);
    expect(usage.cpuMs).toBeGreaterThan(0);
    expect(usage.wallMs).toBeGreaterThan(0);
  });

  it("is refused where the engine cannot be held to it", async () => {
    await expect(js("1", { limits: { memoryMiB: 8 } })).rejects.toMatchObject({ code: "failed_precondition" });
    await expect(runCode(driver, "bash", "1")).rejects.toMatchObject({ code: "failed_precondition" });
  });
});

describe("code that attacks what runs it", () => {
  verifies("EXEC-08");

  it.each([
    "(function again() { again() })()",
    "(function again() { console.log(1); again() })()",
    "JSON.parse('['.repeat(100_000))",
    "let o = {}; let p = o; for (let i = 0; i < 50_000; i++) { p.a = {}; p = p.a } JSON.stringify(o)",
    "eval('('.repeat(100_000))",
    "eval('function a(){'.repeat(10_000))",
    "new RegExp('(?:'.repeat(100_000) + ')'.repeat(100_000))",
    "let b = []; for (let i = 0; i < 50_000; i++) b = [b]; b.flat(Infinity)",
    "let b = []; for (let i = 0; i < 50_000; i++) b = [b]; structuredClone(b)",
    "let q = {}; for (let i = 0; i < 10_000; i++) q = new Proxy(q, {}); q.x",
    "[1, 2].sort(function by() { return [1, 2].sort(by) })",
    "async function again() { await again() } await again()",
    "class A { constructor() { new A() } } new A()",
  ])("by recursion gets an error of its own: %s", async (code) => {
    const ran = await js(code);
    expect(ran.ending).toEqual({ kind: "exit", code: 1 });
    expect(ran.stderr).toMatch(/stack overflow/);
    expect((await js("1 + 1")).value).toBe(2);
  });

  it("can catch its own stack overflow", async () => {
    expect((await js("let e; try { (function f() { f() })() } catch (error) { e = error } e.message")).value).toBe(
      "stack overflow",
    );
  });

  it.each([
    "this.constructor.constructor('return typeof process')()",
    "Function('return typeof process')()",
    "console.log.constructor('return typeof process')()",
    "readFile.constructor.constructor('return typeof process')()",
    "Object.getPrototypeOf(async function () {}).constructor('return typeof process')()",
    "(0, eval)('typeof process')",
    "(() => { try { readFile('missing') } catch (error) { return error.constructor.constructor('return typeof process')() } })()",
    "(() => { try { readFile({ toString: () => 'x' }) } catch (error) { return error.constructor.constructor('return typeof process')() } })()",
    "(await import('x').catch((error) => error.constructor.constructor('return typeof process')))()",
  ])("finds only the engine's own world by constructors: %s", async (code) => {
    expect(await js(code)).toMatchObject({ ending: ok, value: "undefined" });
  });

  it.each([
    "for (const name of Reflect.ownKeys(Object.prototype)) if (name !== 'constructor') try { delete Object.prototype[name] } catch {} console.log({ a: 1 }); 1",
    "Object.prototype.toJSON = () => 'mine'; Array.prototype.push = () => { throw 1 }; Function.prototype.call = null; Function.prototype.apply = null; Promise.prototype.then = null; Reflect.apply = null; [1]",
    "Array.prototype[Symbol.iterator] = null; String.prototype.slice = null; console.log('still', 'here'); ({ a: [1] })",
    "Object.defineProperty(Object.prototype, 'value', { get() { throw new Error('pollution') }, set() {} }); 1",
    "globalThis.Promise = globalThis.JSON = globalThis.Map = globalThis.Error = undefined; setTimeout(() => {}, 1); 1",
    "class Own extends Error { get name() { throw 1 } get message() { throw 2 } get stack() { throw 3 } toString() { throw 4 } } throw new Own()",
    "throw new Proxy({}, { get() { throw 1 }, getPrototypeOf() { throw 2 }, ownKeys() { throw 3 } })",
    "throw { toString() { for (;;) {} } }",
    "console.log(new Proxy(function () {}, { get() { throw 1 } }))",
    "const e = new Error('x'); e.stack = 'y'.repeat(1e6); e.cause = e; throw e",
    "({ then(done) { done(this) } })",
    "setTimeout({ toString() { return 'exit(0)' } }, 1)",
    "for (let i = 0; i < 20_000; i++) setTimeout(() => {}, 1e6)",
  ])("changes nothing but its own run: %s", async (code) => {
    const ran = await js(code, { limits: { wallMs: 2_000, memoryMiB: 64 } });
    expect(["exit", "limit"]).toContain(ran.ending.kind);
    expect(await js("console.log('fine'); ({ a: [1] })")).toMatchObject({ ending: ok, value: { a: [1] }, stdout: "fine\n" });
  });

  it("cannot speak to the worker in the child's name", async () => {
    const ran = await js(
      "console.log('\\u0005\\u0000\\u0000\\u0000\\u0002{}'); console.log(String.fromCharCode(5, 0, 0, 0, 0, 0, 0, 0, 0)); 1",
    );
    expect(ran).toMatchObject({ ending: ok, value: 1 });
    expect(ran.stdout).toBe("\u0005\0\0\0\u0002{}\n\u0005\0\0\0\0\0\0\0\0\n");
  });

  it("has no clock finer than a millisecond, and cannot block on shared memory", async () => {
    expect((await js("[typeof Atomics, Number.isInteger(Date.now())]")).value).toEqual(["undefined", true]);
  });
});

describe("a session of QuickJS", () => {
  verifies("EXEC-13");
  const given = {
    runId: "session",
    runtime: "javascript",
    env: {},
    network: { mode: "none" },
    mounts: [],
    packages: [],
    options: {},
  } as const;
  const limits = {
    wallMs: 20_000,
    cpuMs: 10_000,
    memoryMiB: 64,
    processes: 1,
    outputBytes: 65_536,
    fileBytes: 10_000,
    diskBytes: 20_000,
    files: 10,
  };
  const start = async () => {
    const session = await driver.openSession?.({ ...given, limits });
    if (!session) throw new Error("there are no sessions");
    return session;
  };
  afterEach(() => expect(children().length, "its process is gone").toBeLessThanOrEqual(1));

  it("keeps globals, functions and files between its tasks", async () => {
    const session = await start();
    await runCode(
      session,
      "javascript",
      "let count = 1; const add = (n) => { count += n; }; class Box {}; var old = 'var'; writeFile('out/a.txt', 'a')",
    );
    await runCode(session, "javascript", "add(41); await null; new Box()");
    const last = await runCode(
      session,
      "javascript",
      "writeFile('out/b.txt', 'b'); [count, typeof Box, old, readFile('out/a.txt')]",
    );
    expect(last).toMatchObject({ value: [42, "function", "var", "a"], files: { "b.txt": "b" } });
    expect(last.files, "what is new").not.toHaveProperty("a.txt");
    await session.close();
  });

  it("goes on after a task that threw, and after one that exited", async () => {
    const session = await start();
    expect((await runCode(session, "javascript", "var kept = 1; throw new Error('x')")).ending).toEqual({
      kind: "exit",
      code: 1,
    });
    expect((await runCode(session, "javascript", "kept = 2; exit(5)")).ending).toEqual({ kind: "exit", code: 5 });
    expect((await runCode(session, "javascript", "kept")).value).toBe(2);
    await session.close();
  });

  it("gives each of its tasks arguments and limits of its own", async () => {
    const session = await start();
    expect((await runCode(session, "javascript", "args[0]", { args: ["one"] })).value).toBe("one");
    expect((await runCode(session, "javascript", "args.length", { limits: { outputBytes: 3 } })).value).toBe(0);
    await session.close();
  });

  it("is over after a limit, and says so", async () => {
    const session = await start();
    expect((await runCode(session, "javascript", "for (;;);", { limits: { wallMs: 200 } })).ending).toEqual(limited("wallMs"));
    await expect(runCode(session, "javascript", "1")).rejects.toMatchObject({ code: "unavailable" });
    await session.close();
  });

  it("shares nothing with another, nor with tasks", async () => {
    const [one, two] = [await start(), await start()];
    await runCode(one, "javascript", "globalThis.secret = 1; writeFile('out/secret.txt', 's')");
    for (const other of [two, driver]) {
      expect((await runCode(other, "javascript", "[typeof secret, listFiles()]")).value).toEqual(["undefined", []]);
    }
    await Promise.all([one.close(), two.close()]);
  });
});

describe("the processes of QuickJS", () => {
  it("know nothing of the worker's environment", async () => {
    process.env.CANARY_OF_QUICKJS = "secret";
    await js("1");
    delete process.env.CANARY_OF_QUICKJS;
    const [pid] = children();
    expect(readFileSync(`/proc/${pid}/environ`, "latin1").replaceAll("\0", "")).toBe("TZ=UTC");
    expect(commandOf(pid ?? 0)).toContain("--permission");
  });

  it("are used again, one task at a time, and two at once when two run", async () => {
    const own = open(2);
    const before = children();
    const pair = await Promise.all(
      [1, 2].map((n) => runCode(own, "javascript", `await new Promise((done) => setTimeout(done, 200)); ${n}`)),
    );
    expect(pair.map(({ value }) => value)).toEqual([1, 2]);
    const warm = children();
    expect(warm).toHaveLength(before.length + 2);
    for (let n = 0; n < 5; n++) await runCode(own, "javascript", "1");
    expect(children()).toEqual(warm);
    await own.close();
    expect(children()).toEqual(before);
  });

  it("that die while nothing runs in them are replaced; one that dies in a run is that run's failure alone", async () => {
    await js("1");
    const idle = children();
    for (const pid of idle) process.kill(pid, "SIGKILL");
    await expect.poll(() => idle.filter((pid) => existsSync(`/proc/${pid}`)), { timeout: 10_000 }).toEqual([]); // it has been waited for
    expect((await js("2")).value).toBe(2);
    const dying = js("for (;;);");
    await expect.poll(() => children()).toHaveLength(1);
    for (const pid of children()) process.kill(pid, "SIGKILL");
    expect((await dying).ending).toMatchObject({ kind: "signal" });
    expect((await js("3")).value).toBe(3);
  });

  it("die when their run is stopped from outside, whatever it does", async () => {
    const stop = new AbortController();
    const ran = js("console.log('up'); for (;;) { try { for (;;); } catch {} }", {
      signal: stop.signal,
      onStdout: () => stop.abort(),
    });
    expect(await ran).toMatchObject({ ending: { kind: "killed" }, stdout: "up\n" });
    expect(children()).toEqual([]);
    expect((await js("1", { signal: AbortSignal.abort() })).ending).toEqual({ kind: "killed" });
  });

  it.each(["for (;;);", "for (;;) /(a+)+$/.test('a'.repeat(60) + 'b')", "setTimeout(() => {}, 50_000)"])(
    "die with a worker that is killed, though they run %s",
    async (code) => {
      const program = join(import.meta.dirname, "support", "run-on-quickjs.ts");
      const args = [program, `console.log("up"); setTimeout(() => { ${code} }, 100)`];
      const worker: ChildProcess = spawn(process.execPath, args, { stdio: ["ignore", "pipe", "inherit"] });
      if (!worker.stdout || worker.pid === undefined) throw new Error("the worker did not start");
      await once(worker.stdout, "data");
      const pids = children(worker.pid);
      expect(pids).toHaveLength(1);
      const gone = once(worker, "exit");
      worker.kill("SIGKILL");
      await gone;
      await expect.poll(() => pids.filter((pid) => commandOf(pid).includes(CHILD)), { timeout: 10_000 }).toEqual([]);
    },
  );

  it("show by running that they hold, and leave nothing behind", async () => {
    const before = children();
    expect(await driver.probe()).toMatchObject({
      available: true,
      capabilities: { session: "state", limits: { memoryMiB: "enforced" } },
    });
    expect(children()).toEqual(before);
  });
});
