/** What a package names under "bundle" in its package.json, to stand beside the server's own code. */
export interface Part {
  /** Where sources and specifiers are found from. */
  folder: string;
  /** Programs that the server starts as processes of their own: name of the file without ".js" → source. */
  programs?: Record<string, string>;
  /** Files of dependencies: the name they get → specifier. */
  assets?: Record<string, string>;
}

/** Bundles a server as the published ones are. `engines` is said when the Node is too old. */
export function bundle(options: { entry: string; dist: string; engines: string; parts?: readonly Part[] }): Promise<void>;
