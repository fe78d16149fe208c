/**
 * A server of the same making as all others, small enough to prove of every server how resources, their updates, sampling and
 * channels work: notes that agents write for one another.
 */
import { SwarmError } from "@mcp-swarm/core";
import {
  type Domain,
  type Host,
  READS,
  type ResourceContext,
  resourcesFor,
  runServer,
  type ServerDefinition,
  toolsFor,
  WRITES,
} from "@mcp-swarm/server";
import { prefixRange, type Store, segment } from "@mcp-swarm/store";
import { z } from "zod";

/** What a note of this owner does when it is read: an accident that nobody foresaw. */
const BROKEN = "broken";
const SECRET_CAUSE = "the-cause-nobody-should-read";

interface NotesServer extends Domain {
  readonly store: Store;
  /** Watches of the store that somebody holds now. */
  watches(): number;
}

const PREFIX = "note/";
const ownerPrefix = (owner: string) => `${PREFIX}${segment(owner)}/`;
const keyOf = (owner: string, key: string) => `${ownerPrefix(owner)}${segment(key)}`;

type Note = { owner: string; key: string; text: string };

function permit(owner: string, { caller }: ResourceContext): void {
  if (!owner.startsWith("private-") || owner === `private-${caller.agentId}`) return;
  throw new SwarmError("permission_denied", "These notes are another agent's.", { hint: "Read your own." });
}

const defineTool = toolsFor<NotesServer>();
const defineResource = resourcesFor<NotesServer>();
const tool = { toolset: "notes", operation: "note:use", resource: () => "*" } as const;
const text = () => z.string().max(20_000);

const note = defineResource({
  name: "note",
  title: "A note",
  description: "What one agent noted.",
  uriTemplate: "note://{owner}/{+key}",
  toolset: "notes",
  operation: "note:read",
  resource: ({ owner, key }) => `note/${owner}/${key}`,
  untrusted: ["note.text"],
  async list({ store }, _, { limit, after }) {
    const range = prefixRange(PREFIX, limit, after === undefined ? {} : { after });
    const entries = await store.scan(range);
    const last = entries.at(-1)?.key;
    const resources = entries.map(({ value }) => ({ params: value as Note, title: `Note ${(value as Note).key}` }));
    return last !== undefined && entries.length === limit ? { resources, next: last } : { resources };
  },
  async read({ store }, { owner, key }, context) {
    permit(owner, context);
    if (owner === BROKEN) throw new Error(SECRET_CAUSE);
    const entry = await store.get(keyOf(owner, key));
    if (!entry) throw new SwarmError("not_found", "There is no such note.", { hint: "Write it first." });
    return { note: entry.value };
  },
  watch({ store }, { owner, key }, context) {
    permit(owner, context);
    return {
      prefixes: [ownerPrefix(owner)],
      version: async () => ({ version: (await store.get(keyOf(owner, key)))?.rev ?? "none" }),
    };
  },
});

const count = defineResource({
  name: "count",
  title: "How many notes",
  description: "The number of notes, up to a hundred.",
  uriTemplate: "notes://count",
  toolset: "counts",
  operation: "note:read",
  resource: () => "*",
  read: async ({ store }) => ({ notes: (await store.scan(prefixRange(PREFIX, 100))).length }),
  watch: ({ store }) => ({
    prefixes: [PREFIX],
    version: async () => ({ version: `${(await store.scan(prefixRange(PREFIX, 100))).length}` }),
  }),
});

const sampled = () => ({ offered: z.boolean(), answers: z.array(z.string().nullable()) });

const definition: ServerDefinition<NotesServer> = {
  name: "notes",
  title: "Notes",
  version: "1.0.0",
  instructions: "Notes that agents write for one another.",
  toolsets: { notes: "all", counts: "numbers" },
  resources: [note, count],
  tools: [
    defineTool({
      ...tool,
      name: "write_note",
      title: "Write a note",
      description: "Writes a note.",
      effects: WRITES,
      input: () => ({ owner: z.string().max(60), key: z.string().max(60), text: text() }),
      output: () => ({ written: z.boolean() }),
      async handle(_, { owner, key, text }, { call }) {
        await call.transact((tx) => {
          tx.put(keyOf(owner, key), { owner, key, text });
          return null;
        });
        return { written: true };
      },
    }),
    defineTool({
      ...tool,
      name: "count_watches",
      title: "Count watches",
      description: "How many watches of the store are held.",
      effects: READS,
      input: () => ({}),
      output: () => ({ watches: z.number() }),
      handle: async (notes) => ({ watches: notes.watches() }),
    }),
    defineTool({
      ...tool,
      name: "ask_in_turn",
      title: "Ask the model in turn",
      description: "Asks the model, and then about what it answered, as often as it is told.",
      effects: READS,
      input: () => ({ prompt: text(), times: z.int().min(1).max(20) }),
      output: sampled,
      async handle(_, { prompt, times }, { sample }) {
        const answers: (string | null)[] = [];
        let next = prompt;
        for (let asked = 0; sample && asked < times; asked++) {
          const answer = await sample({ system: "You shorten.", prompt: next, maxTokens: 100 });
          answers.push(answer ?? null);
          next = `${next}+${answer ?? "nothing"}`;
        }
        return { offered: sample !== undefined, answers };
      },
    }),
    defineTool({
      ...tool,
      name: "ask_at_once",
      title: "Ask the model at once",
      description: "Asks the model several things at once.",
      effects: READS,
      input: () => ({ prompts: z.array(text()).max(20) }),
      output: sampled,
      async handle(_, { prompts }, { sample }) {
        const asked = sample ? prompts.map((prompt) => sample({ prompt, maxTokens: 50 })) : [];
        const answers: (string | null)[] = [];
        for (const one of asked) answers.push((await one) ?? null);
        return { offered: sample !== undefined, answers };
      },
    }),
    defineTool({
      ...tool,
      name: "write_and_ask",
      title: "Write, and ask the model",
      description: "Says whether a tool that writes may ask the model.",
      effects: WRITES,
      input: () => ({}),
      output: sampled,
      handle: async (_, __, { sample }) => ({ offered: sample !== undefined, answers: [] }),
    }),
  ],
  channel: {
    instructions: "Notes written for you arrive as they are written, in <channel> marks.",
    operation: "note:read",
    resource: ({ agentId }) => `notes/${agentId}`,
    open({ store }, { agentId }, push) {
      const prefix = ownerPrefix(agentId);
      let last: string | undefined;
      let pushing = Promise.resolve();
      const look = async () => {
        for (;;) {
          const [entry] = await store.scan(prefixRange(prefix, 1, last === undefined ? {} : { after: last }));
          if (!entry) return;
          last = entry.key;
          const { key, text } = entry.value as Note;
          await push({ content: text, meta: { note_key: key } });
        }
      };
      const wake = () => {
        pushing = pushing.then(look);
      };
      wake();
      return store.watch(prefix, wake);
    },
  },
  open: async ({ store }: Host) => {
    let held = 0;
    const watch = store.watch.bind(store);
    store.watch = (prefix, wake) => {
      held += 1;
      const watching = watch(prefix, wake);
      let over = false;
      return {
        [Symbol.dispose]: () => {
          if (!over) held -= 1;
          over = true;
          watching[Symbol.dispose]();
        },
      };
    };
    return { store, watches: () => held, close: async () => {} };
  },
};

await runServer(definition);
