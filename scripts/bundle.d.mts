/** Bundles a server as the published ones are. `engines` is said when the Node is too old. */
export function bundle(options: { entry: string; dist: string; engines: string }): Promise<void>;
