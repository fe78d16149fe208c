export { API_KEY_TTL_MS_DEFAULT, API_KEY_TTL_MS_MAX, ApiKeys, type ListedApiKey, type NewApiKey } from "./api-key.ts";
export { ASSERTION_LIFETIME_MS_MAX, type ProvenAssertion, useAssertion, verifyAssertion } from "./assertion.ts";
export {
  BUNDLE_KEY,
  type Bundle,
  MEMBERS_MAX,
  type Member,
  type PublicKeys,
  ROLES_MAX,
  signBundle,
  verifyBundle,
} from "./bundle.ts";
export { ENROLMENT_MS, parseEnrolmentToken, redeem } from "./enrolment.ts";
export { findKeys, readKeyFile, writeKeyFile } from "./key-file.ts";
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
export {
  Administrator,
  type AdministratorOptions,
  type Enrolment,
  type MemberTerms,
  rotateOwn,
  type Transact,
} from "./membership.ts";
export { readPrivateFile, writePrivateFile } from "./private-file.ts";
export {
  PASSPHRASE_MAX,
  PASSPHRASE_MIN,
  ROOT_SIGNER,
  readRootKeyFile,
  readRootPublicKey,
  writeRootKeyFile,
} from "./root-key.ts";
export {
  type Expected,
  type Opened,
  type OpenedSecret,
  type Opener,
  open,
  openSecret,
  RECIPIENTS_MAX,
  SEALED_AGE_MS_MAX,
  SEALED_LENGTH_MAX,
  type Sealed,
  type Sealer,
  seal,
  sealSecret,
  useSealed,
} from "./sealed.ts";
export {
  AUDIENCE_LENGTH_MAX,
  CLOCK_SKEW_MS,
  checkScope,
  type IssuedToken,
  issueToken,
  type Membership,
  type ProvenToken,
  SCOPE_LENGTH_MAX,
  type Signer,
  TOKEN_LENGTH_MAX,
  TOKEN_LIFETIME_MS_MAX,
  type TokenRequest,
  verifyToken,
} from "./token.ts";
export {
  LOOK_AGE_MS_MAX,
  type Principal,
  type SelfStatus,
  SIGNED_LENGTH_MAX,
  TRUST_AGE_MS_MAX,
  TRUST_ROUND_MS,
  Trust,
  type TrustOptions,
} from "./trust.ts";
export { fileVersionMemory, type VersionMemory } from "./version-memory.ts";
