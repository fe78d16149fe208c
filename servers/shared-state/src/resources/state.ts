/** `state://{scope}/{+key}`: a value, or all keys that begin so, for hosts that watch resources. */
import { ANSWER_BYTES_MAX, fit, resourcesFor } from "@mcp-swarm/server";
import type { StateServer } from "../open.ts";
import { type PlaceInput, type SpaceInput, spaceInputOf } from "../state-record.ts";
import { listedView } from "../tools/state-schemas.ts";

/** Keys shown of a prefix, and bytes for them. */
const SHOWN = 50;
const ENTRIES_BYTES = 15_000;
/** Bytes of a value that is shown whole. */
const WHOLE_BYTES_MAX = ANSWER_BYTES_MAX - 3_000;

const defineResource = resourcesFor<StateServer>();

export const stateResource = defineResource({
  name: "state",
  title: "Values",
  description: "A value of global, session:<id>, agent:<id> or workflow:<id>; with * or / at the end all keys that begin so.",
  uriTemplate: "state://{scope}/{+key}",
  toolset: "values",
  operation: "state:read",
  resource: ({ scope, key }) => `state/${scope}/${key.endsWith("/") ? `${key}*` : key}`,
  untrusted: ["entry.value", "entries[].value", "entries[].preview"],
  list: (_) => ({
    resources: [{ params: { scope: "global", key: "*" }, title: "All values that everybody shares" }],
  }),
  async read({ values }, { scope, key }, { call }) {
    const space = spaceInputOf(scope);
    const prefix = prefixOf(key);
    if (prefix !== undefined) {
      const { entries, revision, nextCursor } = await values.list(call, { ...space, prefix, limit: SHOWN });
      const shown = fit(
        entries.map((one) => listedView(one)),
        ENTRIES_BYTES,
      );
      return { entries: shown, revision, ...(nextCursor === undefined && shown.length === entries.length ? {} : { more: true }) };
    }
    const { entry, value } = await values.get(call, { ...space, key });
    if (Buffer.byteLength(JSON.stringify(value)) <= WHOLE_BYTES_MAX) return { entry: { ...entry, value } };
    return { entry, readOn: `get_state ${JSON.stringify({ key, ...space })}` };
  },
  watch({ changes }, { scope, key }, { call }) {
    const { prefixes, version } = changes.versions(call, watchedOf(spaceInputOf(scope), key));
    return { prefixes, version: async () => ({ version: await version() }) };
  },
});

function prefixOf(key: string): string | undefined {
  if (key.endsWith("*")) return key.slice(0, -1);
  return key.endsWith("/") ? key : undefined;
}

function watchedOf(space: SpaceInput, key: string): SpaceInput & ({ prefix: string } | Pick<PlaceInput, "key">) {
  const prefix = prefixOf(key);
  return prefix === undefined ? { ...space, key } : { ...space, prefix };
}
