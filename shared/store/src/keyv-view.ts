import { EventEmitter } from "node:events";
import { Keyv, type KeyvStorageAdapter, type KeyvStorageEntry, keyvStorageCapability } from "keyv";

/** Rows as Keyv sees them: text by namespace and key. What an engine offers so that Keyv can stand on it. */
export interface KeyvRows {
  /** Texts of live rows, in the order asked. */
  read(namespace: string, keys: readonly string[]): Promise<(string | undefined)[]>;
  write(namespace: string, rows: readonly { key: string; text: string; expiresAt: number | undefined }[]): Promise<void>;
  /** Which of the keys had a live row. */
  remove(namespace: string, keys: readonly string[]): Promise<boolean[]>;
  clear(namespace: string): Promise<void>;
  /** Live rows in key order behind `after`. */
  page(namespace: string, after: string | undefined, limit: number): Promise<{ key: string; text: string }[]>;
}

const PAGE = 100;

/** A Keyv storage adapter over the rows of an engine that has no adapter of Keyv's own. */
class RowsAdapter extends EventEmitter {
  namespace: string | undefined;
  readonly #rows: KeyvRows;

  constructor(rows: KeyvRows, namespace: string) {
    super();
    this.#rows = rows;
    this.namespace = namespace;
  }

  get capabilities() {
    return keyvStorageCapability(this);
  }

  get #space(): string {
    return this.namespace ?? "";
  }

  /** Keyv may hand over `<namespace>:<key>`. */
  #bare(key: string): string {
    return this.namespace && key.startsWith(`${this.namespace}:`) ? key.slice(this.namespace.length + 1) : key;
  }

  async get(key: string) {
    return (await this.#rows.read(this.#space, [this.#bare(key)]))[0];
  }

  async getMany(keys: string[]) {
    return await this.#rows.read(
      this.#space,
      keys.map((key) => this.#bare(key)),
    );
  }

  async set(key: string, value: unknown, expires?: number) {
    return (await this.setMany([{ key, value, expires } as KeyvStorageEntry<unknown>]))[0] === true;
  }

  async setMany(entries: KeyvStorageEntry<unknown>[]) {
    await this.#rows.write(
      this.#space,
      entries.map(({ key, value, expires }) => ({ key: this.#bare(key), text: String(value), expiresAt: expires })),
    );
    return entries.map(() => true);
  }

  async delete(key: string) {
    return (await this.deleteMany([key]))[0] === true;
  }

  async deleteMany(keys: string[]) {
    return await this.#rows.remove(
      this.#space,
      keys.map((key) => this.#bare(key)),
    );
  }

  async has(key: string) {
    return (await this.get(key)) !== undefined;
  }

  async hasMany(keys: string[]) {
    return (await this.getMany(keys)).map((text) => text !== undefined);
  }

  async clear() {
    await this.#rows.clear(this.#space);
  }

  async *iterator() {
    let after: string | undefined;
    for (;;) {
      const page = await this.#rows.page(this.#space, after, PAGE);
      for (const { key, text } of page) yield [key, text];
      if (page.length < PAGE) return;
      after = page.at(-1)?.key;
    }
  }

  /** The rows belong to the store, which outlives every view of it. */
  async disconnect() {}
}

/** The Keyv view of one namespace. An adapter instance each: one shared by two namespaces would read and clear across them. */
export function keyvOverRows(rows: KeyvRows, namespace: string): Keyv {
  return new Keyv({ store: new RowsAdapter(rows, namespace) as unknown as KeyvStorageAdapter, namespace });
}
