export {
  BUNDLE_KEY,
  type Bundle,
  MEMBERS_MAX,
  type Member,
  POLICIES_MAX,
  type PublicKeys,
  ROLES_MAX,
  signBundle,
  verifyBundle,
} from "./bundle.ts";
export {
  type AgentKeys,
  generateKeyPair,
  type KeyPair,
  keyPairFromSecret,
  kidOf,
  kidOfEncryption,
  publicKeysOf,
  secretOf,
  signJws,
} from "./keys.ts";
