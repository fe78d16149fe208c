/** Values by their keys as sources of a context. */
import { SwarmError } from "@mcp-swarm/core";
import type { Call } from "@mcp-swarm/identity";
import type { Source, Sources } from "./context-source.ts";
import type { PlaceInput } from "./state-record.ts";
import type { Values } from "./values.ts";

const VALUE_WEIGHT = 4;
/** Bytes of values that one context reads; the first is read whatever its size. */
const VALUE_BYTES_READ_MAX = 2_000_000;

/** In the order asked. A key without a value is there too, and says so. @throws SwarmError invalid_argument */
export async function valueSources(
  values: Pick<Values, "get">,
  call: Pick<Call, "store" | "caller">,
  places: readonly PlaceInput[],
): Promise<Sources> {
  const sources: Source[] = [];
  let bytes = 0;
  for (const [at, place] of places.entries()) {
    if (bytes >= VALUE_BYTES_READ_MAX) {
      const rest = places.slice(at);
      const readOn = `get_context ${JSON.stringify({ keys: rest })}`;
      return { sources, unread: [{ what: `${rest.length} more values`, why: "one context reads a bounded amount", readOn }] };
    }
    const source = await valueSource(values, call, place);
    sources.push(source);
    bytes += Number(source.facts.size ?? 0);
  }
  return { sources, unread: [] };
}

async function valueSource(
  values: Pick<Values, "get">,
  call: Pick<Call, "store" | "caller">,
  input: PlaceInput,
): Promise<Source> {
  const { key } = input;
  const space = {
    ...(input.scope === undefined ? {} : { scope: input.scope }),
    ...(input.scopeId === undefined ? {} : { scopeId: input.scopeId }),
  };
  const named = {
    kind: "state",
    id: key,
    reading: `get_state ${JSON.stringify({ key: "<id>", ...space })}`,
    weight: VALUE_WEIGHT,
  } as const;
  try {
    const { entry, value } = await values.get(call, input);
    const { rev, by, at, size } = entry;
    const readOn = (offset: number) => `get_state ${JSON.stringify({ key, ...space, atRev: rev, offset })}`;
    return { ...named, facts: { ...space, rev, by, at, size }, parts: [{ name: "value", value, readOn }] };
  } catch (error) {
    if (!(error instanceof SwarmError) || error.code !== "not_found") throw error;
    return { ...named, facts: { ...space, missing: true }, parts: [] };
  }
}
