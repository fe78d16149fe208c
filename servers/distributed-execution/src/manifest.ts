/**
 * Manifests: environments as somebody writes them, in an operator's file or by `create_environment`, made whole and held against a
 * ceiling. Everything that is wrong is said with the field that it is about.
 */
import { SwarmError } from "@mcp-swarm/core";
import * as z from "zod";
import type { Ceiling, Manifest } from "./environment.ts";
import { LABELS_MAX, RUN_MS_MAX, RUN_MS_MIN } from "./execution-record.ts";
import { DRIVERS, type DriverName, LIMIT_NAMES, type LimitName, type Limits, type NetworkAccess } from "./sandbox/driver.ts";

export const DESCRIPTION_CHARS_MAX = 200;
export const HOSTS_MAX = 50;
export const MOUNTS_MAX = 10;
export const PACKAGES_MAX = 50;
export const ENV_MAX = 32;
export const ENV_VALUE_CHARS_MAX = 4_096;
const PATH_CHARS_MAX = 1_024;
const IMAGE_CHARS_MAX = 255;
const HOST_CHARS_MAX = 253;
const PACKAGE_CHARS_MAX = 128;
const ENV_NAME_CHARS_MAX = 64;
const ARCH_CHARS_MAX = 16;
const RUNTIME_CHARS_MAX = 32;
/** Where mounts appear: nothing of the sandbox's own lies there. */
export const MOUNTS_BELOW = "/mnt/";

export const ENVIRONMENT_NAME = /^[a-z0-9][a-z0-9._-]{0,47}$/;
const RUNTIME_NAME = /^[a-z0-9][a-z0-9._-]*$/;
const LABEL = /^[A-Za-z0-9][A-Za-z0-9._:/-]{0,63}$/;
const ARCH = /^[a-z0-9_]+$/;
const HOST = /^(\*\.)?[a-z0-9]([a-z0-9-]{0,62})(\.[a-z0-9]([a-z0-9-]{0,62})){0,9}$/;
const ENV_NAME = /^[A-Za-z_][A-Za-z0-9_]*$/;
const PACKAGE = /^[A-Za-z0-9@][A-Za-z0-9@._/=<>~^-]*$/;
const IMAGE = /^[a-z0-9][A-Za-z0-9._/:@-]*$/;

const MIB = 1024 * 1024;

/** What a limit may be at all, whoever asks for it. */
const LIMIT_BOUNDS: Readonly<Record<LimitName, readonly [min: number, max: number]>> = {
  wallMs: [RUN_MS_MIN, RUN_MS_MAX],
  cpuMs: [RUN_MS_MIN, 64 * RUN_MS_MAX],
  memoryMiB: [16, 1024 * 1024],
  processes: [1, 10_000],
  outputBytes: [1_024, 64 * MIB],
  fileBytes: [1_024, 1024 * MIB],
  diskBytes: [1_024, 64 * 1024 * MIB],
  files: [0, 1_000],
};

/** The largest of them. */
const LIMIT_MAX = 64 * 1024 * MIB;

/** Of an environment that does not say its own. */
export const LIMITS_DEFAULT: Limits = {
  wallMs: 600_000,
  cpuMs: 300_000,
  memoryMiB: 256,
  processes: 64,
  outputBytes: MIB,
  fileBytes: 8 * MIB,
  diskBytes: 64 * MIB,
  files: 32,
};

/** Where no operator has said anything: no network, no mounts, no packages, and limits that a small machine bears. */
export const CEILING_DEFAULT: Ceiling = {
  limits: {
    wallMs: RUN_MS_MAX,
    cpuMs: RUN_MS_MAX,
    memoryMiB: 1_024,
    processes: 256,
    outputBytes: 8 * MIB,
    fileBytes: 16 * MIB,
    diskBytes: 256 * MIB,
    files: 100,
  },
  drivers: ["quickjs", "pyodide", "bwrap", "sandbox-runtime"],
  network: { mode: "none" },
  mounts: [],
  images: [],
  packages: false,
};

/** What runs a runtime when the manifest names no drivers, in order of preference. */
const DRIVERS_OF: Readonly<Record<string, readonly DriverName[]>> = {
  javascript: ["quickjs"],
  typescript: ["quickjs"],
  python: ["pyodide"],
  bash: ["bwrap", "sandbox-runtime"],
  node: ["bwrap", "sandbox-runtime"],
  python3: ["bwrap", "sandbox-runtime"],
};
const driversOf = (runtime: string) => (Object.hasOwn(DRIVERS_OF, runtime) ? DRIVERS_OF[runtime] : undefined);
const IMAGE_DRIVERS: ReadonlySet<DriverName> = new Set(["docker", "kubernetes"]);

const name = () => z.string().regex(ENVIRONMENT_NAME);
/** A text of a shape that is told in words: a model pays for each character of a pattern. */
const shaped = (max: number, pattern: RegExp, must: string) =>
  z
    .string()
    .max(max)
    .refine((text) => pattern.test(text), must);
const path = () =>
  z
    .string()
    .min(1)
    .max(PATH_CHARS_MAX)
    .refine(isPlainAbsolute, "must be an absolute path without . or .. in it and without a slash at its end");

/** One bound for all in what a model reads; each has its own in `wholeLimits`. */
const limitsSchema = () => z.partialRecord(z.enum(LIMIT_NAMES), z.int().min(0).max(LIMIT_MAX));

const networkSchema = () =>
  z.strictObject({
    mode: z.enum(["none", "hosts", "all"]),
    hosts: z
      .array(shaped(HOST_CHARS_MAX, HOST, "must be a host name in lower case, or one that begins with *."))
      .min(1)
      .max(HOSTS_MAX)
      .exactOptional(),
  });

/** The fields of a manifest, for the operator's file and for `create_environment` alike; made anew at each call. */
export const manifestFields = () => ({
  name: name(),
  runtime: shaped(RUNTIME_CHARS_MAX, RUNTIME_NAME, "must be a name in lower case such as python"),
  description: z.string().min(1).max(DESCRIPTION_CHARS_MAX).exactOptional(),
  drivers: z.array(z.enum(DRIVERS)).min(1).max(DRIVERS.length).exactOptional(),
  limits: limitsSchema().exactOptional(),
  network: networkSchema().exactOptional(),
  mounts: z
    .array(z.strictObject({ from: path(), to: path(), readOnly: z.boolean().exactOptional() }))
    .max(MOUNTS_MAX)
    .exactOptional(),
  packages: z
    .array(shaped(PACKAGE_CHARS_MAX, PACKAGE, "must be the name of a package, and may name its version"))
    .max(PACKAGES_MAX)
    .exactOptional(),
  env: z
    .record(z.string().max(ENV_NAME_CHARS_MAX), z.string().max(ENV_VALUE_CHARS_MAX))
    .refine((env) => Object.keys(env).every((name) => ENV_NAME.test(name)), "each name must be that of a variable, such as LANG")
    .refine((env) => Object.keys(env).length <= ENV_MAX, `at most ${ENV_MAX} variables`)
    .exactOptional(),
  session: z.enum(["none", "files", "state"]).exactOptional(),
  requires: z
    .strictObject({
      arch: shaped(ARCH_CHARS_MAX, ARCH, "must be an architecture such as x64 or arm64").exactOptional(),
      labels: z.array(z.string().regex(LABEL)).max(LABELS_MAX).exactOptional(),
    })
    .exactOptional(),
  image: shaped(IMAGE_CHARS_MAX, IMAGE, "must be the name of an image").exactOptional(),
});
export type ManifestInput = z.output<z.ZodObject<ReturnType<typeof manifestFields>>>;

/** The fields of a ceiling in an operator's file; made anew at each call. */
export const ceilingFields = () => ({
  limits: limitsSchema().exactOptional(),
  drivers: z.array(z.enum(DRIVERS)).max(DRIVERS.length).exactOptional(),
  network: networkSchema().exactOptional(),
  mounts: z
    .array(z.strictObject({ below: path(), readOnly: z.boolean().exactOptional() }))
    .max(MOUNTS_MAX)
    .exactOptional(),
  images: z.array(z.string().min(1).max(IMAGE_CHARS_MAX)).max(PACKAGES_MAX).exactOptional(),
  packages: z.boolean().exactOptional(),
});
export type CeilingInput = z.output<z.ZodObject<ReturnType<typeof ceilingFields>>>;

/**
 * A manifest with all that it leaves to us.
 * @throws SwarmError invalid_argument naming the field that does not go with the others
 */
export function wholeManifest(input: ManifestInput): Manifest {
  const { name, runtime, description, drivers, limits, network, mounts, packages, env, session, requires, image } = input;
  const chosen = drivers ?? (image === undefined ? driversOf(runtime) : (["docker"] as const));
  if (!chosen) {
    throw wrong("runtime", "names nothing that runs without an image", {
      hint: `Use one of ${Object.keys(DRIVERS_OF).join(", ")}, or name an image.`,
    });
  }
  if (chosen.includes("mcp")) {
    throw wrong("drivers", 'names "mcp", which is for the environment mcp alone', {
      hint: "Which servers and tools that one reaches stands in the operator's file, under mcpServers.",
    });
  }
  const forImages = chosen.filter((driver) => IMAGE_DRIVERS.has(driver));
  if (image === undefined && forImages.length > 0) throw wrong("image", `is missing: ${forImages.join(" and ")} runs images`);
  if (image !== undefined && forImages.length < chosen.length) {
    throw wrong("image", "is for docker and kubernetes alone, and other drivers are named too");
  }
  const bounds = wholeLimits(limits, LIMITS_DEFAULT);
  return {
    name,
    ...(description === undefined ? {} : { description }),
    drivers: [...new Set(chosen)],
    runtime,
    limits: { ...bounds, cpuMs: limits?.cpuMs ?? Math.min(bounds.cpuMs, bounds.wallMs) },
    network: wholeNetwork(network, "network"),
    mounts: wholeMounts(mounts ?? []),
    packages: packages ?? [],
    env: env ?? {},
    session: session ?? sessionOf(chosen),
    requires: {
      ...(requires?.arch === undefined ? {} : { arch: requires.arch }),
      ...(requires?.labels === undefined ? {} : { labels: [...new Set(requires.labels)].sort() }),
    },
    options: image === undefined ? {} : { image },
  };
}

/** What a session keeps where the manifest does not say: as much as all its drivers can. */
function sessionOf(drivers: readonly DriverName[]): Manifest["session"] {
  if (drivers.every((driver) => driver === "quickjs" || driver === "pyodide")) return "state";
  return drivers.every((driver) => driver === "bwrap" || driver === "sandbox-runtime") ? "files" : "none";
}

/**
 * Where mounts appear, each in a place of its own: in a folder that code may write, it decides what a path leads to.
 * @throws SwarmError invalid_argument
 */
function wholeMounts(mounts: NonNullable<ManifestInput["mounts"]>): Manifest["mounts"] {
  return mounts.map(({ from, to, readOnly = true }, index) => {
    if (!to.startsWith(MOUNTS_BELOW)) throw wrong(`mounts[${index}].to`, `must lie below ${MOUNTS_BELOW}`);
    const meets = mounts.some((other, at) => at !== index && `${to}/`.startsWith(`${other.to}/`));
    if (meets) throw wrong(`mounts[${index}].to`, "lies in another mount, or is the same");
    return { from, to, readOnly };
  });
}

/** @throws SwarmError invalid_argument naming the limit that nothing could have */
function wholeLimits(asked: ManifestInput["limits"], otherwise: Limits): Limits {
  for (const limit of LIMIT_NAMES) {
    const [min, max] = LIMIT_BOUNDS[limit];
    const amount = asked?.[limit] ?? min;
    if (amount < min || amount > max) throw wrong(`limits.${limit}`, `is out of bounds: it may be ${min} to ${max}`);
  }
  const given = Object.entries(asked ?? {}).filter(([, amount]) => amount !== undefined);
  return { ...otherwise, ...Object.fromEntries(given) };
}

/** @throws SwarmError invalid_argument */
export function wholeCeiling(input: CeilingInput): Ceiling {
  const { limits, drivers, network, mounts, images, packages } = input;
  return {
    limits: wholeLimits(limits, CEILING_DEFAULT.limits),
    drivers: drivers ?? CEILING_DEFAULT.drivers,
    network: wholeNetwork(network, "network"),
    mounts: (mounts ?? []).map(({ below, readOnly = true }) => ({ below, readOnly })),
    images: images ?? [],
    packages: packages ?? false,
  };
}

function wholeNetwork(input: ManifestInput["network"], field: string): NetworkAccess {
  const { mode = "none", hosts } = input ?? {};
  if (mode !== "hosts") {
    if (hosts !== undefined) throw wrong(`${field}.hosts`, 'goes with mode "hosts" alone');
    return { mode };
  }
  if (hosts === undefined) throw wrong(`${field}.hosts`, 'is missing: mode "hosts" opens those and no others');
  return { mode, hosts: [...new Set(hosts)] };
}

/** Where a manifest asks for more than a ceiling lets it: the field, and what there is to have. Undefined when it lies within. */
export function beyond(manifest: Manifest, ceiling: Ceiling): { field: string; because: string } | undefined {
  for (const limit of LIMIT_NAMES) {
    const [asked, most] = [manifest.limits[limit], ceiling.limits[limit]];
    if (asked > most) return { field: `limits.${limit}`, because: `is ${asked}, and the ceiling is ${most}` };
  }
  const driver = manifest.drivers.find((one) => !ceiling.drivers.includes(one) && one !== "mcp");
  if (driver !== undefined) {
    const permitted = ceiling.drivers.length === 0 ? "none" : ceiling.drivers.join(", ");
    return { field: "drivers", because: `names ${driver}, and the ceiling permits ${permitted}` };
  }
  return beyondNetwork(manifest.network, ceiling.network) ?? beyondMounts(manifest, ceiling) ?? beyondSources(manifest, ceiling);
}

const REACH: Readonly<Record<NetworkAccess["mode"], number>> = { none: 0, hosts: 1, all: 2 };

function beyondNetwork(asked: NetworkAccess, most: NetworkAccess): { field: string; because: string } | undefined {
  if (REACH[asked.mode] > REACH[most.mode]) {
    return { field: "network.mode", because: `is ${asked.mode}, and the ceiling is ${most.mode}` };
  }
  if (asked.mode !== "hosts" || most.mode !== "hosts") return undefined;
  const foreign = asked.hosts.find((host) => !most.hosts.some((permitted) => coversHost(permitted, host)));
  if (foreign === undefined) return undefined;
  return { field: "network.hosts", because: `names a host beyond the ceiling, which is ${most.hosts.join(", ")}` };
}

/** `*.example.org` covers every name below it, patterns too, and not `example.org` itself. */
function coversHost(permitted: string, host: string): boolean {
  return permitted === host || (permitted.startsWith("*.") && host.replace(/^\*/, "").endsWith(permitted.slice(1)));
}

function beyondMounts({ mounts }: Manifest, ceiling: Ceiling): { field: string; because: string } | undefined {
  for (const [index, { from, readOnly }] of mounts.entries()) {
    const permitted = ceiling.mounts.filter(({ below }) => from === below || from.startsWith(below === "/" ? "/" : `${below}/`));
    if (permitted.length === 0) {
      const most = ceiling.mounts.length === 0 ? "permits no mounts" : "permits mounts from other folders alone";
      return { field: `mounts[${index}].from`, because: `is refused: the ceiling ${most}` };
    }
    if (!readOnly && permitted.every((one) => one.readOnly)) {
      return { field: `mounts[${index}].readOnly`, because: "is false, and the ceiling lets that folder be read alone" };
    }
  }
  return undefined;
}

function beyondSources({ packages, options }: Manifest, ceiling: Ceiling): { field: string; because: string } | undefined {
  if (packages.length > 0 && !ceiling.packages) return { field: "packages", because: "are refused: the ceiling permits none" };
  const { image } = options;
  if (image !== undefined && !permitsImage(ceiling, image)) {
    const most = ceiling.images.length === 0 ? "none" : ceiling.images.join(", ");
    return { field: "image", because: `is refused: the ceiling permits ${most}` };
  }
  return undefined;
}

export function permitsImage(ceiling: Pick<Ceiling, "images">, image: string): boolean {
  return ceiling.images.some((glob) => matchesImage(glob, image));
}

/** A star stands for any text without a slash. */
function matchesImage(glob: string, image: string): boolean {
  const pattern = glob
    .split("*")
    .map((part) => part.replace(/[.*+?^${}()|[\]\\]/g, "\\$&"))
    .join("[^/]*");
  return new RegExp(`^${pattern}$`).test(image);
}

function isPlainAbsolute(text: string): boolean {
  if (!text.startsWith("/") || /[\x00-\x1f\x7f]/.test(text)) return false;
  return (
    text === "/" ||
    text
      .slice(1)
      .split("/")
      .every((part) => part !== "" && part !== "." && part !== "..")
  );
}

function wrong(field: string, what: string, options: { hint?: string } = {}): SwarmError {
  return new SwarmError("invalid_argument", `"${field}" ${what}.`, options);
}
