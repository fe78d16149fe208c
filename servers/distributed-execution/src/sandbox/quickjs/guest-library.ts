/**
 * What code in QuickJS finds besides the language, and what the child asks of it, when it is more than the plainest: how things are shown,
 * bytes and texts, copies, values as JSON. Evaluated inside the sandbox when it is first needed; it refers to nothing outside itself.
 */
import type { GuestHost, GuestLibrary, GuestOptions, Primordials } from "./guest.ts";

export function guestLibrary(
  host: GuestHost,
  options: GuestOptions,
  kept: Primordials,
  print: (stream: 1 | 2, text: string) => void,
): GuestLibrary {
  const RANDOM_BYTES_MAX = 65_536;
  const SHOWN_DEPTH = 3;
  const SHOWN_ITEMS = 100;
  const SHOWN_NODES = 5_000;
  const LINE_CHARS = 76;
  const CAUSES_MAX = 5;
  const STACK_LINES = 20;
  const NOTES_MAX = 10;

  const { call } = kept;
  const { getPrototypeOf, getOwnPropertyDescriptor, ownKeys, defineProperty } = kept.reflect;
  const { stringify } = kept.json;
  const { isArray } = Array;
  const { isFinite: isNumber, isInteger } = Number;
  const { min } = Math;
  const { fromCharCode, fromCodePoint } = String;
  const { slice, charCodeAt, codePointAt, replace, split, repeat, padStart, includes } = kept.string;
  const { functionText, tagOf, isEnumerable, push, numberText, dateText, dateTime, regexpText } = kept.prototypes;
  const { typedBuffer, bufferSlice } = kept.prototypes;
  const { forEach: mapEach, set: mapSet, get: mapGet, has: mapHas } = kept.prototypes.map;
  const { forEach: setEach, add: setAdd } = kept.prototypes.set;
  const isView = ArrayBuffer.isView;
  const offers = { __proto__: null } as unknown as Record<string, unknown>;
  function offer(name: string, value: unknown): void {
    offers[name] = value;
  }
  function isObject(value: unknown): value is object {
    return (typeof value === "object" && value !== null) || typeof value === "function";
  }
  function isError(value: unknown): value is Error {
    return value instanceof Error || (isObject(value) && call(tagOf, value) === "[object Error]");
  }
  /** What it is by its built-in class, whatever it says of itself. */
  function kindOf(value: object): "date" | "map" | "set" | "regexp" | "typed" | "buffer" | "view" | "promise" | undefined {
    if (value instanceof Date) return "date";
    if (value instanceof Map) return "map";
    if (value instanceof Set) return "set";
    if (value instanceof RegExp) return "regexp";
    if (value instanceof Promise) return "promise";
    if (isView(value)) return value instanceof DataView ? "view" : "typed";
    return value instanceof ArrayBuffer || value instanceof SharedArrayBuffer ? "buffer" : undefined;
  }

  // ---- how things are shown -----------------------------------------------------------------------------------------------------

  let shownNodes = 0;
  function show(value: unknown, depth: number, above: readonly unknown[]): string {
    if (typeof value === "string") return depth === 0 ? value : call<string>(stringify, undefined, value);
    if (typeof value === "bigint") return `${value}n`;
    if (typeof value === "number") return value === 0 && 1 / value < 0 ? "-0" : `${value}`;
    if (!isObject(value)) return String(value);
    shownNodes++;
    if (shownNodes > SHOWN_NODES) return "…";
    for (let i = 0; i < above.length; i++) if (above[i] === value) return "[Circular]";
    try {
      return showObject(value, depth, [...above, value]);
    } catch (error) {
      return `[could not be shown: ${isError(error) ? plainText(error.message) : "its own code threw"}]`;
    }
  }
  function showObject(value: object, depth: number, above: readonly unknown[]): string {
    if (typeof value === "function") {
      const isClass = call(slice, call<string>(functionText, value), 0, 5) === "class";
      const name = plainText(value.name);
      return isClass ? `[class ${name}]` : `[Function${name === "" ? " (anonymous)" : `: ${name}`}]`;
    }
    if (isError(value)) return depth === 0 ? describe(value) : `[${headOf(value)}]`;
    const kind = kindOf(value);
    if (kind === "date") return isNumber(call<number>(dateTime, value)) ? call<string>(dateText, value) : "Invalid Date";
    if (kind === "regexp") return call<string>(regexpText, value);
    const list = isArray(value) || kind === "typed";
    const name = nameOf(value);
    if (kind === "buffer") return `${name} { byteLength: ${(value as ArrayBuffer).byteLength} }`;
    if (depth > SHOWN_DEPTH) return list ? `[${name}]` : `[${name || "Object"}]`;
    const parts: string[] = [];
    let left = 0;
    function add(part: () => string): void {
      if (parts.length < SHOWN_ITEMS) parts[parts.length] = part();
      else left++;
    }
    let head = name === "Object" ? "" : name;
    if (list) {
      const items = value as readonly unknown[];
      if (kind === "typed" || name !== "Array") head = `${name}(${items.length})`;
      else head = "";
      const shown = min(items.length, SHOWN_ITEMS);
      for (let i = 0; i < shown; i++) add(() => (i in items ? show(items[i], depth + 1, above) : "<empty>"));
      left += items.length - shown;
    }
    if (kind === "map") {
      head = `${name}(${(value as Map<unknown, unknown>).size})`;
      call(mapEach, value, (item: unknown, key: unknown) => {
        add(() => `${show(key, depth + 1, above)} => ${show(item, depth + 1, above)}`);
      });
    }
    if (kind === "set") {
      head = `${name}(${(value as Set<unknown>).size})`;
      call(setEach, value, (item: unknown) => add(() => show(item, depth + 1, above)));
    }
    if (kind !== "typed") {
      const keys = ownKeys(value);
      for (let i = 0; i < keys.length; i++) {
        const key = keys[i] as string | symbol;
        if (list && typeof key === "string" && isIndex(key)) continue;
        if (!call(isEnumerable, value, key)) continue;
        const found = getOwnPropertyDescriptor(value, key);
        add(() => {
          const shown = found && "value" in found ? show(found.value, depth + 1, above) : "[Getter]";
          return `${showKey(key)}: ${shown}`;
        });
      }
    }
    if (left > 0) parts[parts.length] = `… ${left} more`;
    const open = list ? "[" : "{";
    const close = list ? "]" : "}";
    const lead = head === "" ? "" : `${head} `;
    if (parts.length === 0) return `${lead}${open}${close}`;
    let width = lead.length;
    let line = "";
    let block = "";
    const indent = call<string>(repeat, "  ", depth + 1);
    for (let i = 0; i < parts.length; i++) {
      const part = parts[i] as string;
      width += part.length + 2;
      if (call<boolean>(includes, part, "\n")) width += LINE_CHARS;
      line += `${i > 0 ? ", " : ""}${part}`;
      block += `${i > 0 ? ",\n" : ""}${indent}${part}`;
    }
    if (width <= LINE_CHARS) return `${lead}${open} ${line} ${close}`;
    return `${lead}${open}\n${block}\n${call<string>(repeat, "  ", depth)}${close}`;
  }
  function isIndex(key: string): boolean {
    const number = +key;
    return isInteger(number) && number >= 0 && `${number}` === key;
  }
  function showKey(key: string | symbol): string {
    if (typeof key === "symbol") return `[${String(key)}]`;
    return /^[A-Za-z_$][\w$]*$/.test(key) ? key : call<string>(stringify, undefined, key);
  }
  function nameOf(value: object): string {
    const prototype = getPrototypeOf(value);
    if (prototype === null) return "[Object: null prototype]";
    const made = (prototype as { constructor?: unknown }).constructor;
    return typeof made === "function" ? plainText(made.name) : "";
  }
  function plainText(value: unknown): string {
    return typeof value === "string" ? value : "";
  }
  function format(given: readonly unknown[]): string {
    shownNodes = 0;
    let first = 0;
    let text = "";
    const pattern = given[0];
    if (typeof pattern === "string" && given.length > 1 && call<boolean>(includes, pattern, "%")) {
      first = 1;
      text = call<string>(replace, pattern, /%[sdifjoOc%]/g, (found: string) => {
        if (found === "%%") return "%";
        if (first >= given.length) return found;
        const value = given[first++];
        if (found === "%c") return "";
        if (found === "%s") return typeof value === "string" ? value : show(value, 1, []);
        if (found === "%d") return `${typeof value === "object" ? Number.NaN : Number(value)}`;
        if (found === "%i") return `${Number.parseInt(String(value), 10)}`;
        if (found === "%f") return `${Number.parseFloat(String(value))}`;
        return found === "%j" ? String(call<unknown>(stringify, undefined, value)) : show(value, 1, []);
      });
    }
    for (let i = first; i < given.length; i++) text += `${i > 0 ? " " : ""}${show(given[i], 0, [])}`;
    return text;
  }

  // ---- what was thrown ----------------------------------------------------------------------------------------------------------

  /** Its lines without ours. */
  function stackOf(error: Error): string {
    const stack = plainText(error.stack);
    const lines = call<string[]>(split, stack, "\n");
    let kept = "";
    let count = 0;
    for (let i = 0; i < lines.length; i++) {
      const line = lines[i] as string;
      if (line === "" || call<boolean>(includes, line, "(guest.js")) continue;
      if (count < STACK_LINES) kept += `${kept === "" ? "" : "\n"}${line}`;
      count++;
    }
    return count > STACK_LINES ? `${kept}\n    … ${count - STACK_LINES} more` : kept;
  }
  function headOf(error: Error): string {
    const name = plainText(error.name) || "Error";
    const message = plainText(error.message);
    return message === "" ? name : `${name}: ${message}`;
  }
  function describe(thrown: unknown, depth = 0): string {
    try {
      if (!isError(thrown)) return show(thrown, 1, []);
      const stack = stackOf(thrown);
      let text = `${headOf(thrown)}${stack === "" ? "" : `\n${stack}`}`;
      if (depth >= CAUSES_MAX) return text;
      if ("cause" in thrown && thrown.cause !== undefined) text += `\nCaused by: ${describe(thrown.cause, depth + 1)}`;
      if (thrown instanceof AggregateError && isArray(thrown.errors)) {
        const all = min(thrown.errors.length, CAUSES_MAX);
        for (let i = 0; i < all; i++) text += `\n  [${i}] ${describe(thrown.errors[i], depth + 1)}`;
      }
      return text;
    } catch {
      return "what was thrown could not be shown: its own code threw";
    }
  }

  // ---- bytes and texts ----------------------------------------------------------------------------------------------------------

  function utf8(text: string): Uint8Array<ArrayBuffer> {
    let bytes = new Uint8Array(text.length * 3);
    let at = 0;
    for (let i = 0; i < text.length; i++) {
      let code = call<number | undefined>(codePointAt, text, i) ?? 0;
      if (code > 0xffff) i++;
      if (code >= 0xd800 && code <= 0xdfff) code = 0xfffd;
      if (code < 0x80) bytes[at++] = code;
      else {
        if (code < 0x800) bytes[at++] = 0xc0 | (code >> 6);
        else {
          if (code < 0x10000) bytes[at++] = 0xe0 | (code >> 12);
          else {
            bytes[at++] = 0xf0 | (code >> 18);
            bytes[at++] = 0x80 | ((code >> 12) & 0x3f);
          }
          bytes[at++] = 0x80 | ((code >> 6) & 0x3f);
        }
        bytes[at++] = 0x80 | (code & 0x3f);
      }
    }
    bytes = new Uint8Array(call<ArrayBuffer>(bufferSlice, bytes.buffer, 0, at));
    return bytes;
  }
  /** As the Encoding Standard's decoder of UTF-8 does. */
  function text(bytes: Uint8Array, fatal: boolean): string {
    let whole = "";
    let at = 0;
    while (at < bytes.length) {
      const first = bytes[at++] as number;
      if (first < 0x80) {
        whole += fromCharCode(first);
        continue;
      }
      const more =
        first >= 0xc2 && first <= 0xdf ? 1 : first >= 0xe0 && first <= 0xef ? 2 : first >= 0xf0 && first <= 0xf4 ? 3 : 0;
      let code = more === 1 ? first & 0x1f : more === 2 ? first & 0xf : first & 0x7;
      let lower = first === 0xe0 ? 0xa0 : first === 0xf0 ? 0x90 : 0x80;
      let upper = first === 0xed ? 0x9f : first === 0xf4 ? 0x8f : 0xbf;
      let taken = 0;
      while (taken < more) {
        const next = bytes[at];
        if (next === undefined || next < lower || next > upper) break;
        code = (code << 6) | (next & 0x3f);
        lower = 0x80;
        upper = 0xbf;
        at++;
        taken++;
      }
      if (more > 0 && taken === more) whole += fromCodePoint(code);
      else if (fatal) throw new TypeError("These bytes are not UTF-8");
      else whole += "\ufffd";
    }
    return whole;
  }
  function bytesOf(given: unknown): Uint8Array<ArrayBuffer> {
    if (given instanceof ArrayBuffer) return new Uint8Array(given);
    if (isView(given)) {
      const { byteOffset, byteLength } = given;
      const buffer = given instanceof DataView ? given.buffer : call<ArrayBuffer>(typedBuffer, given);
      if (buffer instanceof ArrayBuffer) return new Uint8Array(buffer, byteOffset, byteLength);
    }
    throw new TypeError("Bytes are wanted: a Uint8Array or an ArrayBuffer");
  }
  class TextEncoder {
    get encoding(): string {
      return "utf-8";
    }
    encode(given: unknown = ""): Uint8Array {
      return utf8(`${given as string}`);
    }
  }
  class TextDecoder {
    readonly fatal: boolean;
    readonly ignoreBOM: boolean;
    constructor(label: unknown = "utf-8", { fatal = false, ignoreBOM = false }: { fatal?: boolean; ignoreBOM?: boolean } = {}) {
      if (!/^\s*(utf-?8|unicode-1-1-utf-8)\s*$/i.test(`${label as string}`)) throw new RangeError("Only utf-8 is decoded here");
      this.fatal = !!fatal;
      this.ignoreBOM = !!ignoreBOM;
    }
    get encoding(): string {
      return "utf-8";
    }
    decode(given?: unknown): string {
      if (given === undefined) return "";
      const whole = text(bytesOf(given), this.fatal);
      return !this.ignoreBOM && call<number>(charCodeAt, whole, 0) === 0xfeff ? call<string>(slice, whole, 1) : whole;
    }
  }
  offer("TextEncoder", TextEncoder);
  offer("TextDecoder", TextDecoder);

  const BASE64 = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  const SIXES: number[] = [];
  for (let i = 0; i < 64; i++) SIXES[BASE64.charCodeAt(i)] = i;
  offer("btoa", (given: unknown) => {
    const latin = `${given as string}`;
    let encoded = "";
    for (let i = 0; i < latin.length; i += 3) {
      let three = 0;
      for (let n = 0; n < 3; n++) {
        const code = i + n < latin.length ? call<number>(charCodeAt, latin, i + n) : 0;
        if (code > 255) throw new RangeError("btoa takes characters up to U+00FF; encode others with TextEncoder first");
        three = (three << 8) | code;
      }
      for (let n = 0; n < 4; n++) encoded += i + n > latin.length ? "=" : BASE64[(three >> (18 - 6 * n)) & 63];
    }
    return encoded;
  });
  offer("atob", (given: unknown) => {
    let encoded = call<string>(replace, `${given as string}`, /[\t\n\f\r ]/g, "");
    if (encoded.length % 4 === 0) encoded = call<string>(replace, encoded, /={1,2}$/, "");
    let latin = "";
    let bits = 0;
    let held = 0;
    for (let i = 0; i < encoded.length; i++) {
      const six = SIXES[call<number>(charCodeAt, encoded, i)];
      if (six === undefined || encoded.length % 4 === 1) throw new SyntaxError("atob was given what is not base64");
      held = ((held << 6) | six) & 0xffffff;
      bits += 6;
      if (bits >= 8) {
        bits -= 8;
        latin += fromCharCode((held >> bits) & 255);
      }
    }
    return latin;
  });

  // ---- copies -------------------------------------------------------------------------------------------------------------------

  function uncloneable(what: string): Error {
    const error = new TypeError(`structuredClone cannot copy ${what}`);
    error.name = "DataCloneError";
    return error;
  }
  function clone(value: unknown, made: Map<object, unknown>): unknown {
    if (typeof value === "symbol") throw uncloneable("a symbol");
    if (!isObject(value)) return value;
    if (typeof value === "function") throw uncloneable("a function");
    if (call<boolean>(mapHas, made, value)) return call<unknown>(mapGet, made, value);
    function keep<T>(copy: T): T {
      call(mapSet, made, value, copy);
      return copy;
    }
    const kind = kindOf(value);
    if (kind === "date") return keep(new Date(call<number>(dateTime, value)));
    if (kind === "regexp") return keep(new RegExp((value as RegExp).source, (value as RegExp).flags));
    if (kind === "promise" || value instanceof WeakMap || value instanceof WeakSet) throw uncloneable(`a ${nameOf(value)}`);
    if (kind === "buffer") return keep(call<ArrayBuffer>(bufferSlice, value, 0));
    if (kind === "view") {
      const { buffer, byteOffset, byteLength } = value as DataView<ArrayBuffer>;
      return keep(new DataView(clone(buffer, made) as ArrayBuffer, byteOffset, byteLength));
    }
    if (kind === "typed") {
      const { buffer, byteOffset, length } = value as Uint8Array<ArrayBuffer>;
      const type = (getPrototypeOf(value) as { constructor: Uint8ArrayConstructor }).constructor;
      return keep(new type(clone(buffer, made) as ArrayBuffer, byteOffset, length));
    }
    if (kind === "map") {
      const copy = keep(new Map());
      call(mapEach, value, (item: unknown, key: unknown) => void call(mapSet, copy, clone(key, made), clone(item, made)));
      return copy;
    }
    if (kind === "set") {
      const copy = keep(new Set());
      call(setEach, value, (item: unknown) => void call(setAdd, copy, clone(item, made)));
      return copy;
    }
    if (isError(value)) {
      const copy = keep(new Error(plainText(value.message)));
      copy.name = plainText(value.name);
      if (typeof value.stack === "string") copy.stack = value.stack;
      if ("cause" in value) copy.cause = clone(value.cause, made);
      return copy;
    }
    const copy = keep(isArray(value) ? new Array(value.length) : {});
    const keys = ownKeys(value);
    for (let i = 0; i < keys.length; i++) {
      const key = keys[i] as string | symbol;
      if (typeof key === "symbol" || !call(isEnumerable, value, key)) continue;
      const item = clone((value as Record<string, unknown>)[key], made);
      defineProperty(copy, key, { value: item, writable: true, enumerable: true, configurable: true });
    }
    return copy;
  }
  offer("structuredClone", (value: unknown) => clone(value, new Map()));

  // ---- chance -------------------------------------------------------------------------------------------------------------------

  function randomBytes(count: number): Uint8Array<ArrayBuffer> {
    return new Uint8Array(host.randomBytes(count));
  }
  offer("crypto", {
    getRandomValues: (into: unknown) => {
      const bytes = bytesOf(into);
      if (bytes.length > RANDOM_BYTES_MAX) throw new RangeError(`At most ${RANDOM_BYTES_MAX} random bytes at once`);
      const random = randomBytes(bytes.length);
      for (let i = 0; i < bytes.length; i++) bytes[i] = random[i] as number;
      return into;
    },
    randomUUID: () => {
      const bytes = randomBytes(16);
      bytes[6] = ((bytes[6] as number) & 0x0f) | 0x40;
      bytes[8] = ((bytes[8] as number) & 0x3f) | 0x80;
      let hex = "";
      for (let i = 0; i < 16; i++) {
        if (i === 4 || i === 6 || i === 8 || i === 10) hex += "-";
        hex += call<string>(padStart, call<string>(numberText, bytes[i], 16), 2, "0");
      }
      return hex;
    },
  });
  // ---- the value ----------------------------------------------------------------------------------------------------------------

  /** More bytes than may be: thrown through all that is being written. */
  const tooLong = { bytes: 0 };
  let notes: string[] = [];
  function note(what: string): void {
    for (let i = 0; i < notes.length; i++) if (notes[i] === what) return;
    if (notes.length < NOTES_MAX) notes[notes.length] = what;
  }
  function jsonOf(whole: unknown): string {
    let json = "";
    let bytes = 0;
    function write(part: string): void {
      json += part;
      bytes += byteLength(part);
      if (bytes <= options.valueBytes) return;
      tooLong.bytes = bytes;
      throw tooLong;
    }
    function byteLength(part: string): number {
      let length = part.length;
      for (let i = 0; i < part.length; i++) {
        const code = call<number>(charCodeAt, part, i);
        if (code > 0x7ff && (code < 0xd800 || code > 0xdfff)) length += 2;
        else if (code > 0x7f) length++; // and so does each half of a pair
      }
      return length;
    }
    function quote(given: string): string {
      return call<string>(stringify, undefined, given);
    }
    /** What stands for it; undefined when JSON has nothing for it. */
    function plain(value: unknown, key: string): unknown {
      let given = value;
      if ((isObject(given) || typeof given === "bigint") && typeof (given as { toJSON?: unknown }).toJSON === "function") {
        given = (given as { toJSON(key: string): unknown }).toJSON(key);
      }
      if (typeof given === "bigint") {
        note("a BigInt became a text");
        return `${given}`;
      }
      if (typeof given === "function" || typeof given === "symbol") {
        note(`a ${typeof given} was left out`);
        return undefined;
      }
      if (typeof given === "number" && !isNumber(given)) {
        note(`${given} became null`);
        return null;
      }
      if (given instanceof Number || given instanceof String || given instanceof Boolean) return given.valueOf();
      return given;
    }
    function put(value: unknown, depth: number, above: readonly object[]): void {
      if (typeof value === "string") {
        write(quote(value));
        return;
      }
      if (value === undefined || value === null || typeof value !== "object") {
        write(value === undefined ? "null" : `${value as number}`);
        return;
      }
      for (let i = 0; i < above.length; i++) {
        if (above[i] !== value) continue;
        note("what contains itself became null there");
        write("null");
        return;
      }
      if (depth >= options.valueDepth) {
        note(`what is nested deeper than ${options.valueDepth} became null`);
        write("null");
        return;
      }
      const within = [...above, value];
      const kind = kindOf(value);
      if (kind === "regexp") {
        write(quote(call<string>(regexpText, value)));
        return;
      }
      if (isError(value)) {
        write(`{"name":${quote(plainText(value.name))},"message":${quote(plainText(value.message))}}`);
        note("an Error became its name and message");
        return;
      }
      let items: readonly unknown[] | undefined = isArray(value) ? value : undefined;
      if (kind === "typed" || kind === "buffer" || kind === "view") {
        items = (kind === "typed" ? value : bytesOf(value)) as unknown as readonly unknown[];
        note("bytes became an array of numbers");
      } else if (kind === "set") {
        const all: unknown[] = [];
        call(setEach, value, (item: unknown) => void call(push, all, item));
        items = all;
        note("a Set became an array");
      } else if (kind === "map") {
        const pairs: unknown[] = [];
        call(mapEach, value, (item: unknown, key: unknown) => void call(push, pairs, [key, item]));
        items = pairs;
        note("a Map became an array of its pairs");
      } else if (kind === "promise") note("a Promise inside it became {}");
      if (items) {
        write("[");
        for (let i = 0; i < items.length; i++) {
          if (i > 0) write(",");
          put(plain(items[i], `${i}`) ?? null, depth + 1, within);
        }
        write("]");
        return;
      }
      write("{");
      let first = true;
      const keys = ownKeys(value);
      for (let i = 0; i < keys.length; i++) {
        const key = keys[i] as string | symbol;
        if (typeof key === "symbol" || !call(isEnumerable, value, key)) continue;
        const item = plain((value as Record<string, unknown>)[key], key);
        if (item === undefined) continue;
        write(`${first ? "" : ","}${quote(key)}:`);
        first = false;
        put(item, depth + 1, within);
      }
      write("}");
    }
    const top = plain(whole, "");
    if (top === undefined) return "";
    put(top, 0, []);
    return json;
  }

  function json(result: unknown): string | number {
    notes = [];
    try {
      const written = jsonOf(result);
      for (let i = 0; i < notes.length; i++) print(2, `value: ${notes[i]}\n`);
      return written;
    } catch (error) {
      if (error === tooLong) {
        print(2, `value: more than ${options.valueBytes} bytes as JSON, so it is left out; write it to a file in out/ instead\n`);
        return tooLong.bytes;
      }
      print(2, `value: it could not be read: ${describe(error)}\n`);
      return "";
    }
  }

  return {
    format,
    describe: (given) => {
      shownNodes = 0;
      return describe(given);
    },
    json,
    bytesOf,
    utf8,
    text: (bytes) => text(bytes, false),
    stackOf,
    offers,
  };
}
