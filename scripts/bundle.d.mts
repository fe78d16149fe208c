/** What a server's package.json names under "bundle", beside its own code. */
export interface Beside {
  /** Programs that the server starts as processes of their own: name of the file without ".js" → source. */
  programs?: Record<string, string>;
  /** Files of dependencies: the name they get → specifier. */
  assets?: Record<string, string>;
}

/** Bundles a server as the published ones are. `engines` is said when the Node is too old; `folder` is where sources and specifiers are found from. */
export function bundle(options: { entry: string; dist: string; engines: string; folder?: string } & Beside): Promise<void>;
