/** What somebody writes of an environment, made whole and held against a ceiling. */
import { SwarmError } from "@mcp-swarm/core";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { z } from "zod";
import { verifies } from "../../../test/requirements.ts";
import { BUILTIN_ENVIRONMENTS } from "../src/builtin-environments.ts";
import type { Ceiling } from "../src/environment.ts";
import {
  beyond,
  CEILING_DEFAULT,
  LIMITS_DEFAULT,
  type ManifestInput,
  manifestFields,
  wholeCeiling,
  wholeManifest,
} from "../src/manifest.ts";
import { DRIVERS, LIMIT_NAMES } from "../src/sandbox/driver.ts";

const schema = z.strictObject(manifestFields());
const SMALL: ManifestInput = { name: "small", runtime: "python" };
/** Lets everything through. */
const WIDE: Ceiling = {
  limits: {
    ...{ wallMs: 1e9, cpuMs: 1e9, memoryMiB: 1e6, processes: 1e4, outputBytes: 1e9, fileBytes: 1e10, diskBytes: 1e12 },
    files: 1e3,
  },
  drivers: DRIVERS,
  network: { mode: "all" },
  mounts: [{ below: "/", readOnly: false }],
  images: ["*", "*/*", "*/*/*"],
  packages: true,
};

const refused = (input: ManifestInput) => {
  try {
    wholeManifest(input);
  } catch (error) {
    if (error instanceof SwarmError && error.code === "invalid_argument") return error.message;
    throw error;
  }
  return "accepted";
};
const fieldBeyond = (input: ManifestInput, ceiling: Ceiling = CEILING_DEFAULT) => beyond(wholeManifest(input), ceiling)?.field;

describe("a manifest", () => {
  test("needs a name and a runtime, and gets the rest", () => {
    verifies("EXEC-03");
    expect(wholeManifest(SMALL)).toEqual({
      ...{ name: "small", runtime: "python", drivers: ["pyodide"], limits: LIMITS_DEFAULT, network: { mode: "none" } },
      ...{ mounts: [], packages: [], env: {}, session: "state", requires: {}, options: {} },
    });
    expect(wholeManifest({ name: "shell", runtime: "bash" })).toMatchObject({
      drivers: ["bwrap", "sandbox-runtime"],
      session: "files",
    });
    expect(wholeManifest({ name: "r", runtime: "r", image: "r-base:4" })).toMatchObject({
      drivers: ["docker"],
      options: { image: "r-base:4" },
      session: "none",
    });
  });

  test("whose time is short has no more of the processor than of the clock", () => {
    expect(wholeManifest({ ...SMALL, limits: { wallMs: 1_000 } }).limits).toMatchObject({ wallMs: 1_000, cpuMs: 1_000 });
    expect(wholeManifest({ ...SMALL, limits: { wallMs: 1_000, cpuMs: 4_000 } }).limits.cpuMs).toBe(4_000);
  });

  test("mounts what it does not say otherwise of to be read alone, and below one folder", () => {
    const mounts = [{ from: "/data", to: "/mnt/data" }];
    expect(wholeManifest({ ...SMALL, mounts }).mounts).toEqual([{ from: "/data", to: "/mnt/data", readOnly: true }]);
    for (const to of ["/usr/bin", "/", "/mnt", "/proc", "/mntx/a"]) {
      expect(refused({ ...SMALL, mounts: [{ from: "/data", to }] })).toContain("mounts[0].to");
    }
    for (const path of ["data", "/a/../b", "/a//b", "/a/.", "/a\nb", "/a/", ""]) {
      expect(schema.safeParse({ ...SMALL, mounts: [{ from: path, to: "/mnt/a" }] }).success, path).toBe(false);
      expect(schema.safeParse({ ...SMALL, mounts: [{ from: "/a", to: path }] }).success, path).toBe(false);
    }
  });

  test("that contradicts itself is refused with the field", () => {
    verifies("EXEC-03");
    expect(refused({ ...SMALL, runtime: "cobol" })).toContain('"runtime"');
    expect(refused({ ...SMALL, drivers: ["mcp"] })).toContain('"drivers"');
    expect(refused({ ...SMALL, drivers: ["docker"] })).toContain('"image"');
    expect(refused({ ...SMALL, drivers: ["bwrap", "docker"], image: "a" })).toContain('"image"');
    expect(refused({ ...SMALL, network: { mode: "hosts" } })).toContain('"network.hosts"');
    expect(refused({ ...SMALL, network: { mode: "all", hosts: ["a.example"] } })).toContain('"network.hosts"');
    expect(refused(SMALL)).toBe("accepted");
  });
});

test("a limit that no environment could have is refused with its bounds", () => {
  verifies("EXEC-03");
  expect(refused({ ...SMALL, limits: { memoryMiB: 15 } })).toBe('"limits.memoryMiB" is out of bounds: it may be 16 to 1048576.');
  for (const limit of LIMIT_NAMES.filter((one) => one !== "files"))
    expect(refused({ ...SMALL, limits: { [limit]: 0 } })).toContain(limit);
  expect(refused({ ...SMALL, limits: { files: 1_001 } })).toContain('"limits.files"');
  expect(schema.safeParse({ ...SMALL, limits: { memory: 64 } }).success).toBe(false);
});

describe("the ceiling", () => {
  test("without an operator permits what every environment from the start asks for, and neither network, mounts, images nor packages", () => {
    verifies("EXEC-03");
    for (const environment of BUILTIN_ENVIRONMENTS) expect(beyond(environment, CEILING_DEFAULT)).toBeUndefined();
    expect(fieldBeyond(SMALL)).toBeUndefined();
    expect(fieldBeyond({ ...SMALL, network: { mode: "all" } })).toBe("network.mode");
    expect(fieldBeyond({ ...SMALL, network: { mode: "hosts", hosts: ["a.example"] } })).toBe("network.mode");
    expect(fieldBeyond({ ...SMALL, mounts: [{ from: "/data", to: "/mnt/data" }] })).toBe("mounts[0].from");
    expect(fieldBeyond({ ...SMALL, packages: ["numpy"] })).toBe("packages");
    expect(fieldBeyond({ ...SMALL, image: "alpine" })).toBe("drivers");
    expect(fieldBeyond({ ...SMALL, drivers: ["kubernetes"], image: "alpine" })).toBe("drivers");
  });

  test.each(LIMIT_NAMES)("stops %s where it is passed by one, and says what there is to have", (limit) => {
    verifies("EXEC-03");
    const ceiling = wholeCeiling({ limits: { wallMs: 60_000 } });
    const most = ceiling.limits[limit];
    const asked = (amount: number) => wholeManifest({ ...SMALL, limits: { cpuMs: 1_000, wallMs: 1_000, [limit]: amount } });
    expect(beyond(asked(most), ceiling)).toBeUndefined();
    expect(beyond(asked(most + 1), ceiling)).toEqual({
      field: `limits.${limit}`,
      because: `is ${most + 1}, and the ceiling is ${most}`,
    });
  });

  test("opens hosts by name and by pattern, and nothing beside them", () => {
    const ceiling = wholeCeiling({ network: { mode: "hosts", hosts: ["pypi.org", "*.example.org"] } });
    const asked = (...hosts: string[]) => fieldBeyond({ ...SMALL, network: { mode: "hosts", hosts } }, ceiling);
    expect(asked("pypi.org")).toBeUndefined();
    expect(asked("a.example.org", "b.a.example.org", "*.example.org", "*.a.example.org")).toBeUndefined();
    for (const host of ["example.org", "notexample.org", "*.org", "pypi.org.evil.example", "*.pypi.org", "a.example.org.evil"]) {
      expect(asked("pypi.org", host), host).toBe("network.hosts");
    }
    expect(fieldBeyond({ ...SMALL, network: { mode: "all" } }, ceiling)).toBe("network.mode");
  });

  test("lets folders be mounted that lie below those it names, and written only where it says so", () => {
    const ceiling = wholeCeiling({
      mounts: [{ below: "/data" }, { below: "/scratch", readOnly: false }],
    });
    const asked = (from: string, readOnly: boolean) =>
      fieldBeyond({ ...SMALL, mounts: [{ from, to: "/mnt/a", readOnly }] }, ceiling);
    expect(asked("/data", true)).toBeUndefined();
    expect(asked("/data/a/b", true)).toBeUndefined();
    expect(asked("/scratch/a", false)).toBeUndefined();
    expect(asked("/data/a", false)).toBe("mounts[0].readOnly");
    for (const from of ["/", "/dat", "/database", "/etc"]) expect(asked(from, true), from).toBe("mounts[0].from");
  });

  test("names images by glob, in which a star does not reach over a slash", () => {
    const ceiling = wholeCeiling({ drivers: ["docker"], images: ["registry.example/team/*", "alpine:3.?"] });
    const asked = (image: string) => fieldBeyond({ name: "a", runtime: "sh", image }, ceiling);
    expect(asked("registry.example/team/tool:1")).toBeUndefined();
    for (const image of ["registry.example/team/a/b", "xregistry.example/team/a", "alpine:3.1", "alpine"]) {
      expect(asked(image), image).toBe("image");
    }
  });

  test("holds whatever is asked: what it lets through is nowhere more than it", () => {
    const limits = fc.record(
      Object.fromEntries(LIMIT_NAMES.map((limit) => [limit, fc.integer({ min: 1, max: 2 * CEILING_DEFAULT.limits[limit] })])),
      { requiredKeys: [] },
    );
    const asked = fc.record(
      {
        limits,
        drivers: fc.uniqueArray(fc.constantFrom(...DRIVERS.filter((driver) => driver !== "mcp")), { minLength: 1 }),
        network: fc.constantFrom<NonNullable<ManifestInput["network"]>>(
          { mode: "none" },
          { mode: "all" },
          { mode: "hosts", hosts: ["a.example"] },
        ),
        packages: fc.array(fc.constant("numpy"), { maxLength: 1 }),
        image: fc.constant("alpine"),
      },
      { requiredKeys: [] },
    );
    fc.assert(
      fc.property(asked, (more) => {
        const input = { ...SMALL, ...more } as ManifestInput;
        if (refused(input) !== "accepted") return;
        const manifest = wholeManifest(input);
        expect(beyond(manifest, WIDE)).toBeUndefined();
        if (beyond(manifest, CEILING_DEFAULT)) return;
        for (const limit of LIMIT_NAMES) expect(manifest.limits[limit]).toBeLessThanOrEqual(CEILING_DEFAULT.limits[limit]);
        for (const driver of manifest.drivers) expect(CEILING_DEFAULT.drivers).toContain(driver);
        expect(manifest).toMatchObject({ network: { mode: "none" }, packages: [], options: {} });
      }),
    );
  });
});
