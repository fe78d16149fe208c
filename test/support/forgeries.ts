/**
 * Forged texts, as data: what the forger does → the text that comes of it. `JWS_FORGERIES` are of anything signed, `FORGERIES` of access
 * tokens, those of anything signed among them. Each is refused wherever such texts are taken, while `control` on the same ground, or
 * `signJwsOf`, is accepted.
 */
import { createHmac, sign as signBytes } from "node:crypto";
import {
  type AgentKeys,
  generateKeyPair,
  issueToken,
  type KeyPair,
  kidOf,
  TOKEN_LIFETIME_MS_MAX,
} from "@mcp-swarm/identity/trust";

/** What is true where the forgeries are tried, and the keys that a forger is supposed to have got hold of. */
export interface ForgeryGround {
  /** Of the server that takes the tokens. */
  readonly audience: string;
  /** Ms since the epoch. */
  readonly now: number;
  readonly epoch: number;
  /** A member that may sign for anyone, and two that may not. */
  readonly issuer: AgentKeys;
  readonly agent: AgentKeys;
  readonly other: AgentKeys;
  readonly revoked: AgentKeys;
  readonly quarantined: AgentKeys;
  /** A key that `agent` had once. */
  readonly former: KeyPair;
  /** The id of a token that was revoked. */
  readonly revokedJti: string;
}

export interface Forgery {
  readonly name: string;
  make(ground: ForgeryGround): string | Promise<string>;
  /** Absent for what an HTTP header cannot carry, or would carry as another text. */
  readonly inHeader: boolean;
}

/** A text that somebody has signed, and what a forger may do about it. */
export interface JwsGround {
  readonly type: string;
  /** Of something else that is signed in a swarm. */
  readonly otherType: string;
  /** The key it is signed with, and one that somebody else holds. */
  readonly key: KeyPair;
  readonly otherKey: KeyPair;
  readonly payload: Members;
}

type Members = Readonly<Record<string, unknown>>;

const base64url = (value: string | Buffer): string => Buffer.from(value).toString("base64url");
const jsonPart = (value: unknown): string => base64url(JSON.stringify(value));

/** A token that is good on this ground. */
export async function control({ issuer, agent, audience, now, epoch }: ForgeryGround): Promise<string> {
  return (await issueToken(issuer, { epoch }, { agentId: agent.agentId, audience }, { now })).token;
}

function goodClaims({ issuer, agent, audience, now, epoch }: ForgeryGround): Members {
  const iat = Math.floor(now / 1000);
  const exp = iat + 600;
  return { iss: issuer.agentId, sub: agent.agentId, aud: audience, jti: "token-forged", iat, nbf: iat, exp, epoch };
}

/** A token as a signed text like any other. */
const asJws = (ground: ForgeryGround): JwsGround => ({
  type: "at+jwt",
  otherType: "mcp-swarm-bundle+jws",
  key: ground.issuer.sign,
  otherKey: ground.other.sign,
  payload: goodClaims(ground),
});

const headerOf = ({ type, key }: JwsGround): Members => ({ alg: "EdDSA", typ: type, kid: key.kid });

/** Signs any two texts as header and payload; what is no JSON is signed as it is. */
function signParts(header: string, payload: string, key: KeyPair): string {
  const input = `${header}.${payload}`;
  return `${input}.${signBytes(null, Buffer.from(input), key.privateKey).toString("base64url")}`;
}

/** A well signed text but for what is changed; a member that is changed to undefined is left out. */
export function signJwsOf(jws: JwsGround, change: { header?: Members; payload?: Members } = {}): string {
  return signParts(jsonPart({ ...headerOf(jws), ...change.header }), jsonPart({ ...jws.payload, ...change.payload }), jws.key);
}

/** The same of a token, by whom it may be. */
function signed(
  ground: ForgeryGround,
  change: { header?: Members; claims?: Members; by?: Pick<AgentKeys, "agentId" | "sign"> } = {},
): string {
  const { by = ground.issuer, header = {}, claims = {} } = change;
  return signJwsOf({ ...asJws(ground), key: by.sign }, { header, payload: { iss: by.agentId, ...claims } });
}

type MakeJws = (jws: JwsGround) => string;

const withHeader =
  (header: Members): MakeJws =>
  (jws) =>
    signJwsOf(jws, { header });
const withClaims = (claims: Members | ((ground: ForgeryGround) => Members)) => (ground: ForgeryGround) =>
  signed(ground, { claims: typeof claims === "function" ? claims(ground) : claims });

/** No signature, or one that is none, under another algorithm's name. */
function unsigned(alg: string, signature: string): MakeJws {
  return (jws) => `${jsonPart({ ...headerOf(jws), alg })}.${jsonPart(jws.payload)}.${signature}`;
}

/** The classic: the public key, which everybody knows, as the secret of an HMAC. */
function hmac(alg: "HS256" | "HS512", secretOf: (publicKey: string) => string | Buffer): MakeJws {
  return (jws) => {
    const input = `${jsonPart({ ...headerOf(jws), alg })}.${jsonPart(jws.payload)}`;
    const hash = alg === "HS256" ? "sha256" : "sha512";
    return `${input}.${createHmac(hash, secretOf(jws.key.publicKey)).update(input).digest("base64url")}`;
  };
}

/** Signed by a stranger's key; the header says what it wants to. */
function foreign(header: (stranger: KeyPair, jws: JwsGround) => Members): MakeJws {
  return (jws) => {
    const stranger = generateKeyPair("Ed25519");
    return signParts(jsonPart(header(stranger, jws)), jsonPart(jws.payload), stranger);
  };
}

const strangers = (stranger: KeyPair, jws: JwsGround): Members => headerOf({ ...jws, key: stranger });
const jwkOf = (key: KeyPair) => ({ kty: "OKP", crv: "Ed25519", x: key.publicKey });

/** Changes a good text. */
function rewritten(change: (head: string, body: string, signature: string) => string): MakeJws {
  return (jws) => {
    const [head = "", body = "", signature = ""] = signJwsOf(jws).split(".");
    return change(head, body, signature);
  };
}

/** Signs header and payload written by hand. */
function written(
  make: (header: string, payload: string, jws: JwsGround) => { header?: string | Buffer; payload?: string | Buffer },
): MakeJws {
  return (jws) => {
    const [goodHeader, goodPayload] = [JSON.stringify(headerOf(jws)), JSON.stringify(jws.payload)];
    const { header = goodHeader, payload = goodPayload } = make(goodHeader, goodPayload, jws);
    return signParts(base64url(header), base64url(payload), jws.key);
  };
}

/** The order of Ed25519's group: s + L signs whatever s signs, for whoever forgets to check that s < L (RFC 8032, section 5.1.7). */
const GROUP_ORDER = 2n ** 252n + 27742317777372353535851937790883648493n;

function withHighS(signature: string): string {
  const bytes = Buffer.from(signature, "base64url");
  let s = 0n;
  for (let i = 63; i >= 32; i--) s = (s << 8n) | BigInt(bytes[i] ?? 0);
  s += GROUP_ORDER;
  for (let i = 32; i < 64; i++, s >>= 8n) bytes[i] = Number(s & 0xffn);
  return bytes.toString("base64url");
}

/** The last character with an unused bit set: other text, same bytes. Undefined when no bit is unused. */
function nonCanonical(part: string): string | undefined {
  const alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
  if (part.length % 4 === 0) return undefined;
  const last = alphabet.indexOf(part.at(-1) ?? "");
  return part.slice(0, -1) + alphabet[last ^ 1];
}

const seconds = ({ now }: ForgeryGround, offset: number) => Math.floor(now / 1000) + offset;
const replaced = (key: keyof ReturnType<typeof goodClaims>, value: unknown) => withClaims({ [key]: value });

/** What the forger's own hand makes when nothing is changed; it is good, so what is changed is what a forgery is refused for. */
export const handmade: readonly ((ground: ForgeryGround) => string)[] = [
  (ground) => signed(ground),
  (ground) => signed(ground, { by: ground.agent, claims: { sub: `${ground.agent.agentId}/reviewer` } }),
  (ground) => written(() => ({}))(asJws(ground)),
];

const ofAnyJws: Readonly<Record<string, MakeJws>> = {
  // no signature at all
  "algorithm none, no signature": unsigned("none", ""),
  "algorithm None, no signature": unsigned("None", ""),
  "algorithm NONE, no signature": unsigned("NONE", ""),
  "algorithm nOnE, no signature": unsigned("nOnE", ""),
  "algorithm none, a signature of zeros": unsigned("none", base64url(Buffer.alloc(64))),
  "algorithm empty": unsigned("", base64url(Buffer.alloc(64))),
  "algorithm none over a good signature": withHeader({ alg: "none" }),
  "EdDSA with the signature stripped": rewritten((head, body) => `${head}.${body}.`),
  "two parts": rewritten((head, body) => `${head}.${body}`),
  "one part": rewritten((head) => head),
  // other algorithms
  "HS256 with the public key's bytes": hmac("HS256", (key) => Buffer.from(key, "base64url")),
  "HS256 with the public key's text": hmac("HS256", (key) => key),
  "HS256 with the public key's JWK": hmac("HS256", (x) => JSON.stringify({ kty: "OKP", crv: "Ed25519", x })),
  "HS256 with an empty secret": hmac("HS256", () => ""),
  "HS512 with the public key's bytes": hmac("HS512", (key) => Buffer.from(key, "base64url")),
  "algorithm ES256 over an Ed25519 signature": withHeader({ alg: "ES256" }),
  "algorithm RS256 over an Ed25519 signature": withHeader({ alg: "RS256" }),
  "algorithm Ed448 over an Ed25519 signature": withHeader({ alg: "Ed448" }),
  "algorithm eddsa in lower case": withHeader({ alg: "eddsa" }),
  "algorithm missing": withHeader({ alg: undefined }),
  "algorithm in a list": withHeader({ alg: ["EdDSA"] }),
  "algorithm null": withHeader({ alg: null }),
  // signatures of something else
  "signature of another text": (jws) => {
    const [head, body] = signJwsOf(jws).split(".");
    return `${head}.${body}.${signJwsOf(jws, { payload: { more: true } }).split(".")[2]}`;
  },
  "payload of another text": (jws) => {
    const [head, , signature] = signJwsOf(jws).split(".");
    return `${head}.${jsonPart({ ...jws.payload, issuedAt: 0, iat: 0 })}.${signature}`;
  },
  "a signature of zeros": rewritten((head, body) => `${head}.${body}.${base64url(Buffer.alloc(64))}`),
  "signature cut by a byte": rewritten(
    (head, body, signature) => `${head}.${body}.${base64url(Buffer.from(signature, "base64url").subarray(0, 63))}`,
  ),
  "signature with a byte more": rewritten(
    (head, body, signature) =>
      `${head}.${body}.${base64url(Buffer.concat([Buffer.from(signature, "base64url"), Buffer.alloc(1)]))}`,
  ),
  "signature with s + L": rewritten((head, body, signature) => `${head}.${body}.${withHighS(signature)}`),
  "signature with R and s swapped": rewritten((head, body, signature) => {
    const bytes = Buffer.from(signature, "base64url");
    return `${head}.${body}.${base64url(Buffer.concat([bytes.subarray(32), bytes.subarray(0, 32)]))}`;
  }),
  // other keys, and keys that the text brings along
  "a foreign key under its own id": foreign(strangers),
  "a foreign key under the signer's id": foreign((_, jws) => headerOf(jws)),
  "a foreign key in the header (jwk)": foreign((key, jws) => ({ ...strangers(key, jws), jwk: jwkOf(key) })),
  "a foreign key in the header (jwk), under the signer's id": foreign((key, jws) => ({
    ...headerOf(jws),
    jwk: jwkOf(key),
  })),
  "a foreign key in the header (jwk), without a key id": foreign((key, { type }) => ({
    alg: "EdDSA",
    typ: type,
    jwk: jwkOf(key),
  })),
  "a foreign key as the key id": foreign((key, jws) => ({ ...headerOf(jws), kid: key.publicKey })),
  "a key somewhere else (jku)": foreign((key, jws) => ({ ...strangers(key, jws), jku: "https://keys.example/jwks.json" })),
  "a certificate somewhere else (x5u)": foreign((key, jws) => ({ ...strangers(key, jws), x5u: "https://keys.example/cert.pem" })),
  "a certificate in the header (x5c)": foreign((key, jws) => ({ ...strangers(key, jws), x5c: [base64url("certificate")] })),
  "the thumbprint of a certificate (x5t#S256)": withHeader({ "x5t#S256": "A".repeat(43) }),
  "the signer's own key in the header (jwk)": (jws) => signJwsOf(jws, { header: { jwk: jwkOf(jws.key) } }),
  "key id a path": withHeader({ kid: "../../../../dev/null" }),
  "key id SQL": withHeader({ kid: "' UNION SELECT 'x' --" }),
  "key id missing": withHeader({ kid: undefined }),
  "key id empty": withHeader({ kid: "" }),
  "key id a number": withHeader({ kid: 7 }),
  "key id in a list": (jws) => signJwsOf(jws, { header: { kid: [jws.key.kid] } }),
  "key id of another": (jws) => signJwsOf(jws, { header: { kid: jws.otherKey.kid } }),
  "key id with a character more": (jws) => signJwsOf(jws, { header: { kid: `${jws.key.kid}A` } }),
  "key id of nobody": withHeader({ kid: kidOf(generateKeyPair("Ed25519").publicKey) }),
  // extensions
  "critical extension (crit)": withHeader({ crit: ["exp"], exp: 1 }),
  "critical extension, empty list": withHeader({ crit: [] }),
  "payload not encoded (b64 false)": withHeader({ b64: false, crit: ["b64"] }),
  "compressed (zip)": withHeader({ zip: "DEF" }),
  "content type (cty)": withHeader({ cty: "JWT" }),
  "an unknown member in the header": withHeader({ trusted: true }),
  // other types of text
  "type missing": withHeader({ typ: undefined }),
  "type JWT": withHeader({ typ: "JWT" }),
  "type in upper case": (jws) => signJwsOf(jws, { header: { typ: jws.type.toUpperCase() } }),
  "type with a prefix": (jws) => signJwsOf(jws, { header: { typ: `application/${jws.type}` } }),
  "type of something else that is signed": (jws) => signJwsOf(jws, { header: { typ: jws.otherType } }),
  "type in a list": (jws) => signJwsOf(jws, { header: { typ: [jws.type] } }),
  // writing
  "four parts": rewritten((head, body, signature) => `${head}.${body}.${signature}.${signature}`),
  "five parts, as of a JWE": rewritten((head, body, signature) => `${head}..${body}..${signature}`),
  "an empty part before": rewritten((head, body, signature) => `.${head}.${body}.${signature}`),
  "a dot behind": rewritten((head, body, signature) => `${head}.${body}.${signature}.`),
  "padding behind": rewritten((head, body, signature) => `${head}.${body}.${signature}==`),
  "padding in the header": rewritten((head, body, signature) => `${head}=.${body}.${signature}`),
  "signature with an unused bit set": rewritten((head, body, signature) => `${head}.${body}.${nonCanonical(signature)}`),
  "signature in base64 instead of base64url": rewritten((head, body, signature) => {
    const base64 = Buffer.from(signature, "base64url").toString("base64").replace(/=+$/, "");
    return `${head}.${body}.${/[+/]/.test(base64) ? base64 : `+${base64.slice(1)}`}`;
  }),
  "signature in hexadecimal": rewritten(
    (head, body, signature) => `${head}.${body}.${Buffer.from(signature, "base64url").toString("hex")}`,
  ),
  "a tab inside": rewritten((head, body, signature) => `${head}.${body.slice(0, 5)}\t${body.slice(5)}.${signature}`),
  "a space inside": rewritten((head, body, signature) => `${head}.${body} .${signature}`),
  "percent-encoded": rewritten((head, body, signature) => `${head}%2E${body}%2E${signature}`),
  "in JSON, flattened": rewritten((head, payload, signature) => JSON.stringify({ protected: head, payload, signature })),
  "in JSON, general": rewritten((head, payload, signature) =>
    JSON.stringify({ payload, signatures: [{ protected: head, signature }] }),
  ),
  "in quotation marks": rewritten((head, body, signature) => `"${head}.${body}.${signature}"`),
  "two texts": (jws) => `${signJwsOf(jws)},${signJwsOf(jws)}`,
  "a scheme before it": (jws) => `Bearer ${signJwsOf(jws)}`,
  // JSON that readers disagree about
  "algorithm twice in the header": written((header) => ({ header: header.replace("{", '{"alg":"none",') })),
  "key id twice in the header": written((header, _, { otherKey }) => ({
    header: header.replace("{", `{"kid":"${otherKey.kid}",`),
  })),
  "a claim twice, once escaped": written((_, payload) => ({
    payload: payload.replace(/^\{"(.)/, (found, first: string) => {
      const escaped = `\\u${first.charCodeAt(0).toString(16).padStart(4, "0")}`;
      return `{"${escaped}${payload.slice(found.length, payload.indexOf('"', found.length))}":null,"${first}`;
    }),
  })),
  "a prototype among the claims": written((_, payload) => ({ payload: payload.replace("{", '{"__proto__":{"admin":true},') })),
  "a byte order mark before the claims": written((_, payload) => ({ payload: `\ufeff${payload}` })),
  "claims not in UTF-8": written((_, payload) => ({ payload: Buffer.concat([Buffer.from(payload), Buffer.from([0x20, 0xff])]) })),
  "claims with something behind them": written((_, payload) => ({ payload: `${payload}{}` })),
  "claims with a comment": written((_, payload) => ({ payload: `/* good */${payload}` })),
  "claims in a list": written((_, payload) => ({ payload: `[${payload}]` })),
  "claims a text": written((_, payload) => ({ payload: JSON.stringify(payload) })),
  "claims null": written(() => ({ payload: "null" })),
  "claims empty": written(() => ({ payload: "{}" })),
  "claims nested very deep": written((_, payload) => ({
    payload: payload.replace("{", `{"deep":${"[".repeat(500)}${"]".repeat(500)},`),
  })),
  "no claims": rewritten((head, _, signature) => `${head}..${signature}`),
  "no header": rewritten((_, body, signature) => `.${body}.${signature}`),
  "header in a list": written((header) => ({ header: `[${header}]` })),
  "header null": written(() => ({ header: "null" })),
};

const ofTokens: Readonly<Record<string, Forgery["make"]>> = {
  // times
  expired: withClaims((ground) => ({ iat: seconds(ground, -700), nbf: seconds(ground, -700), exp: seconds(ground, -100) })),
  "expired just over the allowed skew": withClaims((ground) => ({
    iat: seconds(ground, -600),
    nbf: seconds(ground, -600),
    exp: seconds(ground, -6),
  })),
  "expired, with times in milliseconds": withClaims(({ now }) => ({ iat: now - 2, nbf: now - 2, exp: now - 1 })),
  "not yet (nbf)": withClaims((ground) => ({ nbf: seconds(ground, 100) })),
  "not yet (iat)": withClaims((ground) => ({ iat: seconds(ground, 100) })),
  "no end": replaced("exp", undefined),
  "end a text": withClaims((ground) => ({ exp: String(seconds(ground, 600)) })),
  "end null": replaced("exp", null),
  "end at a fraction": withClaims((ground) => ({ exp: seconds(ground, 600) + 0.5 })),
  "end never": replaced("exp", 1e300),
  "end negative": replaced("exp", -1),
  "end before the beginning": withClaims((ground) => ({
    iat: seconds(ground, 3),
    nbf: seconds(ground, 3),
    exp: seconds(ground, 2),
  })),
  "no beginning (iat)": replaced("iat", undefined),
  "no beginning (nbf)": replaced("nbf", undefined),
  "lives a second longer than a token may": withClaims((ground) => ({
    iat: seconds(ground, 0),
    exp: seconds(ground, TOKEN_LIFETIME_MS_MAX / 1000 + 1),
  })),
  // audience
  "for another server": replaced("aud", "https://elsewhere.example/mcp"),
  "for no server": replaced("aud", undefined),
  "for several servers": withClaims(({ audience }) => ({ aud: [audience, "https://elsewhere.example/mcp"] })),
  "for this server, in a list": withClaims(({ audience }) => ({ aud: [audience] })),
  "for the server one level up": withClaims(({ audience }) => ({ aud: new URL(".", audience).href })),
  "for this server with a slash more": withClaims(({ audience }) => ({ aud: `${audience}/` })),
  "for this server in upper case": withClaims(({ audience }) => ({ aud: audience.toUpperCase() })),
  "for an empty audience": replaced("aud", ""),
  // who says it of whom
  "issuer missing": replaced("iss", undefined),
  "issuer another member": withClaims(({ other }) => ({ iss: other.agentId })),
  "issuer a URL": replaced("iss", "https://issuer.example"),
  "subject missing": replaced("sub", undefined),
  "subject nobody": replaced("sub", "nobody-at-all"),
  "subject empty": replaced("sub", ""),
  "subject in a list": withClaims(({ agent }) => ({ sub: [agent.agentId] })),
  "subject a path": withClaims(({ agent, other }) => ({ sub: `${agent.agentId}/../${other.agentId}` })),
  "subject with a NUL": withClaims(({ agent }) => ({ sub: `${agent.agentId}\0` })),
  "subject with a space more": withClaims(({ agent }) => ({ sub: `${agent.agentId} ` })),
  "subject in another case": withClaims(({ agent }) => ({ sub: agent.agentId.toUpperCase() })),
  "subject a member of every object": replaced("sub", "constructor"),
  "a member signs for another": (ground) => signed(ground, { by: ground.other, claims: { sub: ground.agent.agentId } }),
  "a member signs for another's subagent": (ground) =>
    signed(ground, { by: ground.other, claims: { sub: `${ground.agent.agentId}/reviewer` } }),
  "a member signs for another, in the issuer's name": (ground) =>
    signed(ground, { by: ground.other, claims: { iss: ground.issuer.agentId } }),
  "a member signs for a name that begins like its own": (ground) =>
    signed(ground, { by: ground.other, claims: { sub: `${ground.other.agentId}-2` } }),
  "a revoked member signs for itself": (ground) =>
    signed(ground, { by: ground.revoked, claims: { sub: ground.revoked.agentId } }),
  "a revoked member as the subject": withClaims(({ revoked }) => ({ sub: revoked.agentId })),
  "a member in quarantine signs for itself": (ground) =>
    signed(ground, { by: ground.quarantined, claims: { sub: ground.quarantined.agentId } }),
  "a member in quarantine as the subject": withClaims(({ quarantined }) => ({ sub: quarantined.agentId })),
  "a subagent of a revoked member as the subject": withClaims(({ revoked }) => ({ sub: `${revoked.agentId}/child` })),
  "a key that was replaced": (ground) => signed(ground, { by: { agentId: ground.agent.agentId, sign: ground.former } }),
  "a key to encrypt with, as the signer's": (ground) =>
    signed(ground, { header: { kid: ground.agent.encrypt.kid }, by: { agentId: ground.agent.agentId, sign: ground.former } }),
  // taken back
  "a token that was revoked": withClaims(({ revokedJti }) => ({ jti: revokedJti })),
  "no id": replaced("jti", undefined),
  "an empty id": replaced("jti", ""),
  "an id that is a number": replaced("jti", 7),
  "an older epoch": withClaims(({ epoch }) => ({ epoch: epoch - 1 })),
  "a later epoch": withClaims(({ epoch }) => ({ epoch: epoch + 1 })),
  "no epoch": replaced("epoch", undefined),
  "epoch a text": withClaims(({ epoch }) => ({ epoch: String(epoch) })),
  // claims that are none
  "a claim that no token has": withClaims({ admin: true }),
  "roles of its own": withClaims({ roles: ["admin"] }),
  "longer than a token may be": withClaims({ scope: "x".repeat(8_000) }),
  "scope a list": withClaims({ scope: ["task:read"] }),
  "scope empty": withClaims({ scope: "" }),
  "scope with a quotation mark": withClaims({ scope: 'task:read "' }),
};

/** What only a caller in the same process, or one that writes bytes by hand, can try. */
const ofAnyJwsByHand: Readonly<Record<string, MakeJws>> = {
  "an empty text": () => "",
  "white space behind": (jws) => `${signJwsOf(jws)} `,
  "white space before": (jws) => ` ${signJwsOf(jws)}`,
  "a line break behind": (jws) => `${signJwsOf(jws)}\n`,
  "a NUL behind": (jws) => `${signJwsOf(jws)}\0`,
  "a letter of another script that looks the same": (jws) => signJwsOf(jws).replace("e", "\u0435"),
  "an invisible space": (jws) => `${signJwsOf(jws)}\u200b`,
};

/** Of whatever is signed: the bundle, certificates, tokens. */
export const JWS_FORGERIES: readonly { readonly name: string; make: MakeJws }[] = Object.entries({
  ...ofAnyJws,
  ...ofAnyJwsByHand,
}).map(([name, make]) => ({ name, make }));

const ofTokenText = (of: Readonly<Record<string, MakeJws>>, inHeader: boolean): Forgery[] =>
  Object.entries(of).map(([name, make]) => ({ name, make: (ground) => make(asJws(ground)), inHeader }));

export const FORGERIES: readonly Forgery[] = [
  ...ofTokenText(ofAnyJws, true),
  ...Object.entries(ofTokens).map(([name, make]) => ({ name, make, inHeader: true })),
  ...ofTokenText(ofAnyJwsByHand, false),
];

/** Every text that differs from `token` in one bit of one character and is still a text of base64url and dots, or of ASCII at all. */
export function* bitFlips(token: string): Generator<{ at: string; text: string }> {
  const bytes = Buffer.from(token, "latin1");
  for (let i = 0; i < bytes.length; i++) {
    for (let bit = 0; bit < 8; bit++) {
      const flipped = Buffer.from(bytes);
      flipped[i] = (flipped[i] ?? 0) ^ (1 << bit);
      yield { at: `bit ${bit} of character ${i}`, text: flipped.toString("latin1") };
    }
  }
}

/** Every bit of the bytes that the three parts stand for, flipped one at a time. */
export function* decodedBitFlips(token: string): Generator<{ at: string; text: string }> {
  const parts = token.split(".");
  for (const [p, part] of parts.entries()) {
    const bytes = Buffer.from(part, "base64url");
    for (let i = 0; i < bytes.length * 8; i++) {
      const flipped = Buffer.from(bytes);
      flipped[i >> 3] = (flipped[i >> 3] ?? 0) ^ (1 << (i & 7));
      yield { at: `bit ${i} of part ${p}`, text: parts.with(p, flipped.toString("base64url")).join(".") };
    }
  }
}

/** Every text that has another character of base64url's alphabet in one place: what sets unused bits is among them. */
export function* characterSwaps(token: string): Generator<{ at: string; text: string }> {
  const alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
  for (let i = 0; i < token.length; i++) {
    if (token[i] === ".") continue;
    for (const other of alphabet) {
      if (other !== token[i]) yield { at: `${other} at ${i}`, text: token.slice(0, i) + other + token.slice(i + 1) };
    }
  }
}
