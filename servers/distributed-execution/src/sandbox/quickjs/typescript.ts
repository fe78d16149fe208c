/** Takes the types off TypeScript, in the child: a source that is made to harm whoever reads it harms nobody else's task. */
import { SourceMap, stripTypeScriptTypes } from "node:module";

export type Stripped = {
  readonly code: string;
  /** Puts lines of a stack into the lines of the source; only where they differ. */
  readonly toSource?: (stack: string) => string;
};

/** The source is wrong, or asks for what this Node cannot translate; `message` is for whoever wrote it. */
export class TypeScriptError extends Error {
  /** Whether what reads the source may be relied on afterwards. */
  readonly broken: boolean;
  constructor(message: string, broken: boolean) {
    super(message);
    this.broken = broken;
  }
}

const FRAME = /task\.ts:(\d+)(?::(\d+))?/g;

/** @throws TypeScriptError */
export function stripTypes(source: string): Stripped {
  try {
    return { code: stripTypeScriptTypes(source) }; // every line and column stays where it is
  } catch (error) {
    if (codeOf(error) !== "ERR_UNSUPPORTED_TYPESCRIPT_SYNTAX") throw readable(error);
    return transform(source, error);
  }
}

/** What has to be rewritten and not just left out: enums, namespaces, parameter properties. */
function transform(source: string, unsupported: unknown): Stripped {
  let text: string;
  try {
    text = stripTypeScriptTypes(source, { mode: "transform", sourceMap: true, sourceUrl: "task.ts" });
  } catch (error) {
    throw codeOf(error) === "ERR_INVALID_ARG_VALUE" ? readable(unsupported) : readable(error);
  }
  const map = /\n\/\/# sourceMappingURL=data:application\/json;base64,([\w+/=]+)/.exec(text)?.[1];
  if (map === undefined) return { code: text };
  const lines = new SourceMap(JSON.parse(Buffer.from(map, "base64").toString("utf8")));
  const toSource = (stack: string) =>
    stack.replace(FRAME, (frame, line: string, column?: string) => {
      const found = lines.findEntry(Number(line) - 1, Number(column ?? 1) - 1);
      return "originalLine" in found ? `task.ts:${found.originalLine + 1}:${found.originalColumn + 1}` : frame;
    });
  return { code: text.replace(/\n\/\/# source(?:MappingURL|URL)=[^\n]*/g, ""), toSource };
}

function codeOf(error: unknown): unknown {
  return error instanceof Error && "code" in error ? error.code : undefined;
}

function readable(error: unknown): TypeScriptError {
  const known = codeOf(error);
  if (error instanceof Error && (known === "ERR_INVALID_TYPESCRIPT_SYNTAX" || known === "ERR_UNSUPPORTED_TYPESCRIPT_SYNTAX")) {
    const line = /^[^\n]*:(\d+)\n/.exec(error.stack ?? "")?.[1]; // Node puts place and source in front
    return new TypeScriptError(`SyntaxError: ${error.message}${line === undefined ? "" : `\n    at task.ts:${line}`}`, false);
  }
  return new TypeScriptError("SyntaxError: This TypeScript could not be read: it is nested too deeply, or too large.", true);
}
