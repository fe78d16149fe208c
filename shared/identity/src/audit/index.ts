export { AuditLog, type AuditLogOptions, auditOrigin, NOTE_KINDS_MAX, NOTE_WINDOW_MS } from "./audit-log.ts";
export { copiesIn } from "./copies.ts";
export { AUDIT_PREFIX, type AuditEntry, type AuditEvent, OUTCOMES, type Outcome, type Place } from "./entry.ts";
export { type Append, LANES_MAX, type Transact } from "./lanes.ts";
export { keyIdOf, type NoteSigner } from "./note.ts";
export { type AuditFilter, type AuditPage, EXAMINED_MAX, readAudit } from "./read.ts";
export { CHECKPOINT_MS, CHECKPOINT_ROWS, UNCOVERED_MAX } from "./sealer.ts";
export { type AuditReport, type BadRow, type Tampering, type VerifyOptions, verifyAuditLog } from "./verify.ts";
