/** The one row of a secured swarm's bundle: {jws}. By itself, because open swarms look for it and load nothing else of this folder. */
export const BUNDLE_KEY = "trust/bundle";
