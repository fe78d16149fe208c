import fc from "fast-check";
import picomatch from "picomatch";
import { describe, expect, test } from "vitest";
import { globMatches, globsOverlap, normalizeGlobs, normalizePath, parsedOverlap, parseGlob } from "../src/index.ts";
import { GLOBS_MAX, PATH_LENGTH_MAX } from "../src/paths.ts";

const matches = (glob: string, path: string) => normalizeGlobs([glob]).some((one) => globMatches(parseGlob(one), path));

/** Every path of up to three segments over a small alphabet of names: an overlap that exists shows up here. */
const NAMES = ["a", "b", "ab", "ba", "aa", "a.b", ".a", "c"];
const UNIVERSE = NAMES.flatMap((x) => [x, ...NAMES.flatMap((y) => [`${x}/${y}`, ...NAMES.map((z) => `${x}/${y}/${z}`)])]);

const piece = fc.constantFrom("a", "b", "c", ".", "*", "?", "[ab]", "[!a]", "[a-c]", "{a,b}", "{a,b*}");
const segment = fc.oneof(
  { weight: 1, arbitrary: fc.constant("**") },
  { weight: 5, arbitrary: fc.string({ unit: piece, minLength: 1, maxLength: 3 }) },
);
const anyGlob = fc
  .array(segment, { minLength: 1, maxLength: 3 })
  .map((segments) => segments.join("/"))
  .filter((glob) => !/(^|\/)\.{1,2}(\/|$)/.test(glob) && 2 ** glob.split("{").length <= 2 * GLOBS_MAX);
const anyPath = fc.constantFrom(...UNIVERSE);

describe("paths in one form", () => {
  test.each([
    ["./src//a.ts", "src/a.ts"],
    ["src/x/../a.ts", "src/a.ts"],
    ["src\\a.ts", "src/a.ts"],
    ["src/", "src"],
    ["Src/A.ts", "Src/A.ts"],
    ["/home/me/repo/src/a.ts", "src/a.ts"],
    ["cafe\u0301.txt", "caf\u00e9.txt"],
  ])("%j is %j", (given, kept) => {
    expect(normalizePath(given, { root: "/home/me/repo" })).toBe(kept);
  });

  test("the same file has the same path in two worktrees", () => {
    const [one, two] = ["/w/one", "/w/two/"].map((root) => normalizePath(`${root}/src/a.ts`, { root }));
    expect(one).toBe(two);
    expect(normalizePath("C:\\w\\three\\src\\a.ts", { root: "C:\\w\\three" })).toBe(one);
  });

  test.each([
    "..",
    "../a",
    "a/../../b",
    "/etc/passwd",
    "/home/me/repository/a",
    "/home/me/repo/../other",
    "",
    ".",
    "a\0b",
    "a\nb",
    "\ud800",
    "x".repeat(PATH_LENGTH_MAX + 20),
    "x/".repeat(40),
  ])("%j is refused", (given) => {
    expect(() => normalizePath(given, { root: "/home/me/repo" })).toThrow(expect.objectContaining({ code: "invalid_argument" }));
  });

  test("a normalised path stays as it is", () => {
    fc.assert(
      fc.property(fc.string({ unit: "binary", minLength: 1, maxLength: 30 }), (text) => {
        let path: string;
        try {
          path = normalizePath(text);
        } catch (error) {
          expect(error).toMatchObject({ code: "invalid_argument" });
          return;
        }
        expect(normalizePath(path)).toBe(path);
      }),
    );
  });
});

describe("globs in one form", () => {
  test("braces are written out and repetitions dropped", () => {
    expect(normalizeGlobs(["src/{a,b}.ts", "./src/a.ts", "{src,test}/**", "v{1..3}"])).toEqual([
      "src/a.ts",
      "src/b.ts",
      "src/**",
      "test/**",
      "v1",
      "v2",
      "v3",
    ]);
  });

  test("the root means everything", () => {
    expect(normalizeGlobs([".", "/r/"], { root: "/r" })).toEqual(["**"]);
  });

  test.each(["!a", "!(a)", "+(a|b)", "**/../a", "*/../../a", "../a", "a[z-a]", "a[[:alpha:]]", "", "{..,a}/b"])(
    "%j is refused",
    (glob) => {
      expect(() => normalizeGlobs([glob])).toThrow(expect.objectContaining({ code: "invalid_argument" }));
    },
  );

  test.each([["{a,b}".repeat(7)], ["f{1..1000000}"], ["{a,b}{1..9999}{1..9999}{1..9999}"]])(
    "%j is too many globs, and says so without writing them all out",
    (glob) => {
      expect(() => normalizeGlobs([glob])).toThrow(expect.objectContaining({ code: "limit_exceeded" }));
    },
  );

  test("the bound counts the globs of a whole call", () => {
    const many = Array.from({ length: GLOBS_MAX }, (_, n) => `f${n}`);
    expect(normalizeGlobs(many)).toHaveLength(GLOBS_MAX);
    expect(() => normalizeGlobs([...many, "one-more"])).toThrow(expect.objectContaining({ code: "limit_exceeded" }));
  });
});

describe("matching", () => {
  test.each([
    ["src/*.ts", "src/a.ts", true],
    ["src/*.ts", "src/x/a.ts", false],
    ["src/**/*.ts", "src/a.ts", true],
    ["src/**/*.ts", "src/x/y/a.ts", true],
    ["src", "src/x/a.ts", true],
    ["src/", "src/x/a.ts", true],
    ["packages/*/src", "packages/a/src/b.ts", true],
    ["src/*", "src/x/a.ts", false],
    ["srcs", "src/a.ts", false],
    [".github", ".github/ci.yml", true],
    ["v1.2", "v1.2/a", false],
    ["v1.2/", "v1.2/a", true],
    ["src/*/", "src/x/y/z", true],
    ["*", ".env", true],
    ["[a-c]?.ts", "bx.ts", true],
    ["[!a-c].ts", "b.ts", false],
    ["[^a-c].ts", "d.ts", true],
    ["[]a].ts", "].ts", true],
    ["app/[id]/page.tsx", "app/[id]/page.tsx", true],
    ["app/[id]/*.tsx", "app/[id]/page.tsx", true],
    ["app/[id]/page.tsx", "app/d/page.tsx", true],
    ["app/[id]/page.tsx", "app/x/page.tsx", false],
    ["app/(auth)/page.tsx", "app/(auth)/page.tsx", true],
    ["a.b", "axb", false],
    ["?", "\u{1f600}", true],
    ["A", "a", false],
  ])("%j on %j: %j", (glob, path, expected) => {
    expect(matches(glob, path)).toBe(expected);
  });

  test("it says what picomatch says, but for the rules of care", () => {
    fc.assert(
      fc.property(anyGlob, anyPath, (glob, path) => {
        for (const one of normalizeGlobs([glob])) {
          if (/[^/]\*\*|\*\*[^/]/.test(one)) continue; // two stars within a name: a plain star here, undefined there
          // picomatch is of two minds whether a closing "/**" may stand for nothing; here it always may
          const others = [one, one.replace(/(\/\*\*)+$/, "")];
          if (/^\.?[^.*?[]*$/.test(one.split("/").at(-1) ?? "")) others.push(`${one}/**`);
          const theirs = others.some((other) => picomatch.isMatch(path, other, { dot: true, posix: true }));
          expect(globMatches(parseGlob(one), path), `${one} on ${path}`).toBe(theirs);
        }
      }),
      { numRuns: 3_000 },
    );
  });
});

describe("overlap", () => {
  test.each([
    ["src/a.ts", "src/a.ts", true],
    ["src/a.ts", "src/b.ts", false],
    ["src/**", "src/a/b.ts", true],
    ["src/**", "test/**", false],
    ["src/*.ts", "src/*.js", false],
    ["**/*.ts", "src/**", true],
    ["**/*.ts", "src/*.js", false],
    ["src/a*", "src/*b", true],
    ["src/a*c", "src/b*c", false],
    ["src/[a-m]*", "src/[n-z]*", false],
    ["src/[a-m]*", "src/[!a-l]*", true],
    ["src/??", "src/?", false],
    ["{src,lib}/a", "{lib,test}/a", true],
    ["{src,lib}/a", "{test,doc}/a", false],
    ["a/**/*.z", "a/b/**/*.y", false],
    ["a/**/z", "a/b/**/y", true], // a/b/z/y, in the folder a/b/z
    ["a/**/z", "**/b/z", true],
    ["src", "src/deep/file.ts", true],
    ["src", "**/*.md", true],
    ["src/a.ts", "**/*.md", false],
    ["src/a.ts", "**/*.test.ts", false],
    ["app/[id]/page.tsx", "app/[slug]/page.tsx", false],
  ])("%j and %j: %j", (a, b, expected) => {
    expect(globsOverlap(a, b)).toBe(expected);
    expect(globsOverlap(b, a)).toBe(expected);
  });

  test("two globs that match one path overlap", () => {
    fc.assert(
      fc.property(anyGlob, anyGlob, (a, b) => {
        const [left, right] = [a, b].map((glob) => normalizeGlobs([glob]).map(parseGlob));
        const shared = UNIVERSE.find(
          (path) => left?.some((one) => globMatches(one, path)) && right?.some((one) => globMatches(one, path)),
        );
        fc.pre(shared !== undefined);
        expect(globsOverlap(a, b), `${a} and ${b} match ${shared}`).toBe(true);
        expect(globsOverlap(b, a)).toBe(true);
      }),
      { numRuns: 100, maxSkipsPerRun: 100 },
    );
  });

  test("two globs made from one path by putting wildcards into it overlap", () => {
    const realPath = fc
      .array(fc.stringMatching(/^[A-Za-z0-9_()@ .-]{1,8}$/), { minLength: 1, maxLength: 6 })
      .map((parts) => parts.join("/"));
    const loosen = fc.infiniteStream(fc.integer({ min: 0, max: 9 }));
    const loosened = (path: string, choices: Iterator<number>) => {
      const pick = () => Number(choices.next().value);
      const letters = (part: string) =>
        [...part].map((char) => ({ 0: "?", 1: "*", 2: `${char}*`, 3: `*${char}`, 4: `[${char}!]` })[pick()] ?? char).join("");
      return path
        .split("/")
        .map((part) => ({ 0: "**", 1: "*", 2: `**/${part}` })[pick()] ?? letters(part))
        .join("/");
    };
    fc.assert(
      fc.property(realPath, loosen, loosen, (given, one, two) => {
        fc.pre(!/[@?*+!]\(|(^|\/)\.{1,2}(\/|$)/.test(given) && given === normalizePath(given));
        const [a, b] = [loosened(given, one), loosened(given, two)];
        fc.pre(![a, b].some((glob) => /[@?*+!]\(/.test(glob)));
        expect(matches(a, given), `${a} on ${given}`).toBe(true);
        expect(matches(b, given), `${b} on ${given}`).toBe(true);
        expect(globsOverlap(a, b), `${a} and ${b} on ${given}`).toBe(true);
      }),
      { numRuns: 1_000 },
    );
  });

  test("globs said to overlap share a path: of a universe that holds one whenever there is one", () => {
    // two segments of two pieces: when two such globs share a path, they share one of three segments of two of these letters
    const part = fc.oneof(
      fc.constant("**"),
      fc.string({ unit: fc.constantFrom("a", "b", "*", "?"), minLength: 1, maxLength: 2 }),
    );
    const glob = fc.array(part, { minLength: 1, maxLength: 2 }).map((parts) => parts.join("/"));
    const letters = ["a", "b", "c"];
    const words = [...letters, ...letters.flatMap((x) => letters.map((y) => x + y))];
    const universe = words.flatMap((x) => [x, ...words.flatMap((y) => [`${x}/${y}`, ...words.map((z) => `${x}/${y}/${z}`)])]);
    fc.assert(
      fc.property(glob, glob, (a, b) => {
        const [one, two] = [parseGlob(a), parseGlob(b)];
        const shared = universe.some((path) => globMatches(one, path) && globMatches(two, path));
        expect(globsOverlap(a, b), `${a} and ${b}`).toBe(shared);
      }),
      { numRuns: 500 },
    );
  });

  test("hostile globs cost steps in proportion to the product of their lengths", () => {
    const stars = parseGlob("*a".repeat(Math.floor(PATH_LENGTH_MAX / 2)));
    const other = parseGlob(`${"*b".repeat(Math.floor(PATH_LENGTH_MAX / 2) - 1)}c`);
    // a regular expression would try 2^127 ways; this ends
    expect(parsedOverlap(stars, other)).toBe(false);
    expect(globMatches(stars, "b".repeat(PATH_LENGTH_MAX))).toBe(false);
  });
});
