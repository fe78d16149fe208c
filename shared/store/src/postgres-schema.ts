import { TEXT_NAMESPACE, TIME_LIMIT } from "./search.ts";

/**
 * What this engine keeps in PostgreSQL: Keyv's table with two more columns, the words of its texts, one row per connection that writes,
 * and the stored functions. Functions carry a version in their name, so that programs of two releases can share one database.
 */

/** How many "/"-separated segments of a key writers lock as prefixes, the namespace included. A scan below that locks the last of them. */
export const PREFIX_DEPTH = 3;

/** How many `refs` of one entry a read follows, and of all entries of one read together. */
const REFS_PER_ENTRY = 16;
const REFS_PER_READ = 64;

/** A plan's time may be this old when it commits; an older one runs again with a fresh time. */
export const CLOCK_TOLERANCE_MS = 500;

/** A process that stops while it holds locks between two round trips loses them after this time. */
export const LOCKED_IDLE_MS_MAX = 1_000;

/** Sorts behind every key: 64 times the last code point has 256 bytes. */
const END = "repeat(U&'\\+10FFFF', 64)";

/** Milliseconds since the epoch by the server's clock. */
export const SERVER_MS = "(extract(epoch FROM clock_timestamp()) * 1000)::bigint";

/** An identifier in double quotes. */
export function quoted(name: string): string {
  return `"${name.replaceAll('"', '""')}"`;
}

/** A random revision: positive, and within what a double holds, so that every reader of the table can compare it. */
const RANDOM_REV = "(random() * 9007199254740990)::bigint + 1";

/**
 * Everything a new database needs, for one transaction. It may run again: also on a table that plain Keyv has made before,
 * which gets the missing columns. Constraint and index names differ from those that @keyv/postgres drops at each start.
 */
export function setupSql(schema: string): string {
  const s = quoted(schema);
  const row = "slot integer, namespace text, key text, value text, rev bigint, expires bigint, sum bigint";
  // Without these the planner may pick a sequential scan while the table is small, and keep that plan while it grows.
  const byIndex =
    "SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off SET plan_cache_mode = force_generic_plan SET jit = off";
  const range = (order: "ASC" | "DESC") => `
      FOR r IN SELECT t.namespace, t.key, t.value, t.rev, t.expires, t.sum FROM ${s}.keyv t
        WHERE t.namespace = r_namespace[i] AND t.key >= r_from[i] AND t.key < coalesce(r_before[i], ${END})
          AND (t.expires IS NULL OR t.expires > at_ms)
        ORDER BY t.key ${order} LIMIT r_limit[i] LOOP
        position := position + 1;
        slot := i - 1; namespace := r.namespace; key := r.key; value := r.value; rev := r.rev; expires := r.expires; sum := r.sum;
        RETURN NEXT;
        IF r_choice[i] IS NULL THEN
          IF strpos(value, '"refs":["') > 0 THEN linked := linked || ${refsOf("value")}; END IF;
        ELSE
          IF position = 1 AND r_choice[i] > 0 THEN
            group_prefix := coalesce(nullif(array_to_string(
              (string_to_array(key, '/'))[1:array_length(string_to_array(key, '/'), 1) - r_share[i]], '/'), '') || '/', '');
          END IF;
          IF position = 1 OR starts_with(key, group_prefix) THEN picks := picks || coalesce(value, ''); END IF;
        END IF;
      END LOOP;`;
  const digest = (order: "ASC" | "DESC") => `
        SELECT md5(coalesce(string_agg(q.key || ' ' || q.rev, ',' ORDER BY q.key ${order}), '')) INTO found FROM (
          SELECT t.key, t.rev FROM ${s}.keyv t
          WHERE t.namespace = s_namespace[i] AND t.key >= s_from[i] AND t.key < coalesce(s_before[i], ${END})
            AND (t.expires IS NULL OR t.expires > at_ms)
          ORDER BY t.key ${order} LIMIT s_limit[i]) q;`;
  return `
CREATE TABLE IF NOT EXISTS ${s}.keyv (
  key VARCHAR(255) COLLATE "C" NOT NULL,
  value TEXT,
  namespace VARCHAR(255) COLLATE "C" NOT NULL DEFAULT '',
  expires BIGINT DEFAULT NULL,
  rev BIGINT NOT NULL DEFAULT ${RANDOM_REV},
  sum BIGINT DEFAULT NULL,
  CONSTRAINT keyv_order PRIMARY KEY (namespace, key)
) WITH (fillfactor = 80, autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_threshold = 1000);

DO $do$ BEGIN
  IF NOT EXISTS (SELECT FROM pg_attribute WHERE attrelid = to_regclass('${s.replaceAll("'", "''")}.keyv') AND attname = 'rev') THEN
    UPDATE ${s}.keyv SET namespace = '' WHERE namespace IS NULL;
    ALTER TABLE ${s}.keyv
      ALTER COLUMN key TYPE VARCHAR(255) COLLATE "C",
      ALTER COLUMN namespace TYPE VARCHAR(255) COLLATE "C",
      ALTER COLUMN namespace SET DEFAULT '',
      ALTER COLUMN namespace SET NOT NULL,
      ADD COLUMN rev BIGINT NOT NULL DEFAULT ${RANDOM_REV},
      ADD COLUMN sum BIGINT DEFAULT NULL,
      ADD CONSTRAINT keyv_order PRIMARY KEY (namespace, key);
  END IF;
END $do$;

CREATE INDEX IF NOT EXISTS keyv_expires_idx ON ${s}.keyv (expires) WHERE expires IS NOT NULL;

-- The words and scopes of each text, for search. A table of its own: an index on an expression of keyv.value would make every
-- update of any row write all indexes anew, whatever its namespace (no HOT). Rows hold words folded already (search.ts), so no
-- parser of the server sees them; a row that holds anything else is none that search finds.
CREATE TABLE IF NOT EXISTS ${s}.mcp_swarm_text (
  key VARCHAR(255) COLLATE "C" PRIMARY KEY,
  expires BIGINT DEFAULT NULL,
  words tsvector NOT NULL
);
CREATE INDEX IF NOT EXISTS mcp_swarm_text_words_idx ON ${s}.mcp_swarm_text USING gin (words);

CREATE OR REPLACE FUNCTION ${s}.mcp_swarm_words_v1(row_key text, row_value text) RETURNS tsvector LANGUAGE plpgsql IMMUTABLE AS $fn$
DECLARE
  held json;
BEGIN
  IF row_key !~ '^[0-9]{16}' OR substr(row_key, 1, 16)::bigint >= ${TIME_LIMIT} THEN RETURN NULL; END IF;
  held := row_value::json -> 'value';
  IF json_typeof(held -> 'text') IS DISTINCT FROM 'string' OR json_typeof(held -> 'scopes') IS DISTINCT FROM 'array' THEN
    RETURN NULL;
  END IF;
  RETURN array_to_tsvector(array_remove(string_to_array(held ->> 'text', ' ') ||
    ARRAY(SELECT e #>> '{}' FROM json_array_elements(held -> 'scopes') AS e WHERE json_typeof(e) = 'string'), ''));
EXCEPTION WHEN OTHERS THEN
  RETURN NULL; -- not JSON, or no words that the index can hold
END $fn$;

CREATE OR REPLACE FUNCTION ${s}.mcp_swarm_text_v1() RETURNS trigger LANGUAGE plpgsql AS $fn$
DECLARE
  found_words tsvector;
BEGIN
  IF TG_OP <> 'INSERT' AND OLD.namespace = '${TEXT_NAMESPACE}' THEN
    DELETE FROM ${s}.mcp_swarm_text t WHERE t.key = OLD.key;
  END IF;
  IF TG_OP <> 'DELETE' AND NEW.namespace = '${TEXT_NAMESPACE}' THEN
    found_words := ${s}.mcp_swarm_words_v1(NEW.key, NEW.value);
    IF found_words IS NOT NULL THEN
      INSERT INTO ${s}.mcp_swarm_text (key, expires, words) VALUES (NEW.key, NEW.expires, found_words)
        ON CONFLICT (key) DO UPDATE SET expires = excluded.expires, words = excluded.words;
    END IF;
  END IF;
  RETURN NULL;
END $fn$;
CREATE OR REPLACE TRIGGER mcp_swarm_text_insert AFTER INSERT ON ${s}.keyv
  FOR EACH ROW WHEN (NEW.namespace = '${TEXT_NAMESPACE}') EXECUTE FUNCTION ${s}.mcp_swarm_text_v1();
CREATE OR REPLACE TRIGGER mcp_swarm_text_update AFTER UPDATE ON ${s}.keyv
  FOR EACH ROW WHEN (NEW.namespace = '${TEXT_NAMESPACE}' OR OLD.namespace = '${TEXT_NAMESPACE}') EXECUTE FUNCTION ${s}.mcp_swarm_text_v1();
CREATE OR REPLACE TRIGGER mcp_swarm_text_delete AFTER DELETE ON ${s}.keyv
  FOR EACH ROW WHEN (OLD.namespace = '${TEXT_NAMESPACE}') EXECUTE FUNCTION ${s}.mcp_swarm_text_v1();

-- Texts of before the table.
INSERT INTO ${s}.mcp_swarm_text (key, expires, words)
  SELECT q.key, q.expires, q.words FROM (
    SELECT t.key, t.expires, ${s}.mcp_swarm_words_v1(t.key, t.value) AS words FROM ${s}.keyv t WHERE t.namespace = '${TEXT_NAMESPACE}'
  ) q WHERE q.words IS NOT NULL
  ON CONFLICT (key) DO NOTHING;

-- The last rows of the texts that hold the words, by descending key. The words are found by their index first and put in order then:
-- walking the keys backwards until enough hold them looks cheaper to a planner that thinks them frequent.
CREATE OR REPLACE FUNCTION ${s}.mcp_swarm_search_v1(search text, before_key text, most integer)
RETURNS TABLE (key text, value text, rev bigint, expires bigint, sum bigint) LANGUAGE plpgsql STABLE ${byIndex} AS $fn$
#variable_conflict use_column
DECLARE
  at_ms bigint := ${SERVER_MS};
BEGIN
  RETURN QUERY
    WITH hits AS MATERIALIZED (
      SELECT t.key FROM ${s}.mcp_swarm_text t
      WHERE t.words @@ search::tsquery AND t.key < before_key AND (t.expires IS NULL OR t.expires > at_ms)
    ), page AS MATERIALIZED (SELECT h.key FROM hits h ORDER BY h.key DESC LIMIT most)
    SELECT k.key::text, k.value, k.rev, k.expires, k.sum FROM page p
      JOIN ${s}.keyv k ON k.namespace = '${TEXT_NAMESPACE}' AND k.key = p.key ORDER BY p.key DESC;
END $fn$;

-- Which commit each writing connection made last: how a connection that was lost learns whether its commit took place.
CREATE TABLE IF NOT EXISTS ${s}.mcp_swarm_session (
  id BIGINT PRIMARY KEY,
  last BIGINT NOT NULL,
  used TIMESTAMPTZ NOT NULL DEFAULT now()
) WITH (fillfactor = 50);

-- A write that is not ours leaves rev as it was: it moves here, and the checksum no longer holds.
CREATE OR REPLACE FUNCTION ${s}.mcp_swarm_foreign_write_v1() RETURNS trigger LANGUAGE plpgsql AS $fn$
BEGIN
  NEW.rev := ${RANDOM_REV};
  NEW.sum := NULL;
  RETURN NEW;
END $fn$;
CREATE OR REPLACE TRIGGER mcp_swarm_foreign_write BEFORE UPDATE ON ${s}.keyv
  FOR EACH ROW WHEN (NEW.rev = OLD.rev) EXECUTE FUNCTION ${s}.mcp_swarm_foreign_write_v1();

-- A Keyv without a namespace writes NULL.
CREATE OR REPLACE FUNCTION ${s}.mcp_swarm_no_namespace_v1() RETURNS trigger LANGUAGE plpgsql AS $fn$
BEGIN
  NEW.namespace := '';
  RETURN NEW;
END $fn$;
CREATE OR REPLACE TRIGGER mcp_swarm_no_namespace BEFORE INSERT ON ${s}.keyv
  FOR EACH ROW WHEN (NEW.namespace IS NULL) EXECUTE FUNCTION ${s}.mcp_swarm_no_namespace_v1();

-- Keys and ranges of one snapshot (a STABLE function reads the snapshot of the statement that calls it). Slot -2 is the
-- server's clock, -1 a key (rev NULL: missing), from 0 on the ranges. A range with a choice is a pick: only the chosen
-- entry's refs are followed.
CREATE OR REPLACE FUNCTION ${s}.mcp_swarm_read_v1(
  k_namespace text[], k_key text[],
  r_namespace text[], r_from text[], r_before text[], r_limit integer[], r_reverse boolean[], r_choice integer[], r_share integer[]
) RETURNS TABLE (${row}) LANGUAGE plpgsql STABLE ${byIndex} AS $fn$
#variable_conflict use_variable
DECLARE
  r record;
  linked text[] := '{}';
  picks text[];
  chosen text;
  group_prefix text;
  position integer;
  at_ms bigint := ${SERVER_MS};
BEGIN
  slot := -2; expires := at_ms;
  RETURN NEXT;
  IF k_key <> '{}' THEN
    slot := -1;
    FOR r IN SELECT q.n, q.k, t.value, t.rev, t.expires, t.sum FROM unnest(k_namespace, k_key) AS q(n, k)
      LEFT JOIN ${s}.keyv t ON t.namespace = q.n AND t.key = q.k LOOP
      namespace := r.n; key := r.k; value := r.value; rev := r.rev; expires := r.expires; sum := r.sum;
      RETURN NEXT;
      IF strpos(value, '"refs":["') > 0 THEN linked := linked || ${refsOf("value")}; END IF;
    END LOOP;
  END IF;
  FOR i IN 1 .. coalesce(array_length(r_from, 1), 0) LOOP
    position := 0; picks := '{}'; group_prefix := '';
    IF r_reverse[i] THEN ${range("DESC")}
    ELSE ${range("ASC")}
    END IF;
    IF r_choice[i] IS NOT NULL AND picks <> '{}' THEN
      chosen := picks[1 + r_choice[i] % array_length(picks, 1)];
      IF strpos(chosen, '"refs":["') > 0 THEN linked := linked || ${refsOf("chosen")}; END IF;
    END IF;
  END LOOP;
  IF linked <> '{}' THEN
    slot := -1;
    FOR r IN SELECT q.n, q.k, t.value, t.rev, t.expires, t.sum
      FROM (SELECT split_part(w, '/', 1) AS n, substr(w, strpos(w, '/') + 1) AS k FROM unnest(linked[1:${REFS_PER_READ}]) AS w) q
      LEFT JOIN ${s}.keyv t ON t.namespace = q.n AND t.key = q.k LOOP
      namespace := r.n; key := r.k; value := r.value; rev := r.rev; expires := r.expires; sum := r.sum;
      RETURN NEXT;
    END LOOP;
  END IF;
END $fn$;

-- Takes locks in the order given (callers sort them, so no two wait for each other). Answers false, with some of them held
-- until the transaction ends, when one is taken and the caller will not wait.
CREATE OR REPLACE FUNCTION ${s}.mcp_swarm_lock_v1(class integer, l_key integer[], l_exclusive boolean[], wait boolean)
RETURNS boolean LANGUAGE plpgsql AS $fn$
BEGIN
  IF wait THEN
    PERFORM CASE WHEN q.x THEN pg_advisory_xact_lock(class, q.k) ELSE pg_advisory_xact_lock_shared(class, q.k) END
      FROM unnest(l_key, l_exclusive) AS q(k, x);
    RETURN true;
  END IF;
  RETURN coalesce((SELECT bool_and(CASE WHEN q.x THEN pg_try_advisory_xact_lock(class, q.k)
    ELSE pg_try_advisory_xact_lock_shared(class, q.k) END) FROM unnest(l_key, l_exclusive) AS q(k, x)), true);
END $fn$;

-- Commits what a plan wrote if all it read still holds. Answers "<state> <server ms> <watched> [<what changed>]".
-- A statement of a VOLATILE function sees what was committed before it began, so the checks see all that the locks waited for.
CREATE OR REPLACE FUNCTION ${s}.mcp_swarm_commit_v1(
  session bigint, before_id bigint, commit_id bigint, plan_ms bigint, watch_class integer,
  class integer, l_key integer[], l_exclusive boolean[], wait boolean,
  c_namespace text[], c_key text[], c_rev bigint[],
  s_namespace text[], s_from text[], s_before text[], s_limit integer[], s_reverse boolean[], s_digest text[],
  w_namespace text[], w_key text[], w_value text[], w_expires bigint[], w_sum bigint[],
  d_namespace text[], d_key text[]
) RETURNS text LANGUAGE plpgsql ${byIndex} AS $fn$
DECLARE
  at_ms bigint;
  changed text;
  found_digest text;
  watched boolean := true;
BEGIN
  IF wait THEN
    PERFORM CASE WHEN q.x THEN pg_advisory_xact_lock(class, q.k) ELSE pg_advisory_xact_lock_shared(class, q.k) END
      FROM unnest(l_key, l_exclusive) AS q(k, x);
  ELSIF NOT ${s}.mcp_swarm_lock_v1(class, l_key, l_exclusive, false) THEN
    RETURN 'locked ' || ${SERVER_MS} || ' t';
  END IF;
  at_ms := ${SERVER_MS};
  IF plan_ms > at_ms OR plan_ms < at_ms - ${CLOCK_TOLERANCE_MS} THEN
    RETURN 'clock ' || at_ms || ' t';
  END IF;
  SELECT string_agg(q.i::text, ',') INTO changed FROM unnest(c_namespace, c_key, c_rev) WITH ORDINALITY AS q(n, k, r, i)
    LEFT JOIN ${s}.keyv t ON t.namespace = q.n AND t.key = q.k AND (t.expires IS NULL OR t.expires > at_ms)
    WHERE t.rev IS DISTINCT FROM q.r;
  IF s_from <> '{}' THEN
    FOR i IN 1 .. array_length(s_from, 1) LOOP
      IF s_reverse[i] THEN ${digest("DESC").replaceAll("found", "found_digest")}
      ELSE ${digest("ASC").replaceAll("found", "found_digest")}
      END IF;
      IF found_digest <> s_digest[i] THEN changed := concat_ws(',', changed, 's' || i); END IF;
    END LOOP;
  END IF;
  IF changed IS NOT NULL THEN
    RETURN 'conflict ' || at_ms || ' t ' || changed;
  END IF;
  UPDATE ${s}.mcp_swarm_session SET last = commit_id, used = now() WHERE id = session AND last = before_id;
  IF NOT FOUND THEN
    RETURN 'fenced ' || at_ms || ' t';
  END IF;
  IF w_key <> '{}' THEN
    INSERT INTO ${s}.keyv AS t (namespace, key, value, expires, rev, sum)
      SELECT q.n, q.k, q.v, q.e, commit_id, q.s FROM unnest(w_namespace, w_key, w_value, w_expires, w_sum) AS q(n, k, v, e, s)
      ON CONFLICT (namespace, key) DO UPDATE
        SET value = excluded.value, expires = excluded.expires, rev = excluded.rev, sum = excluded.sum;
  END IF;
  IF d_key <> '{}' THEN
    DELETE FROM ${s}.keyv t USING unnest(d_namespace, d_key) AS q(n, k) WHERE t.namespace = q.n AND t.key = q.k;
  END IF;
  -- whoever watches holds this lock shared; if it is free nobody needs to be told
  IF pg_try_advisory_lock(watch_class, 0) THEN
    PERFORM pg_advisory_unlock(watch_class, 0);
    watched := false;
  END IF;
  RETURN 'ok ' || at_ms || CASE WHEN watched THEN ' t' ELSE ' f' END;
END $fn$;

-- Whether a commit whose answer was lost took place. If not, it never will: its session no longer stands where it must.
-- Waits for a transaction that is about to commit it.
CREATE OR REPLACE FUNCTION ${s}.mcp_swarm_settle_v1(session bigint, before_id bigint, commit_id bigint, fence_id bigint)
RETURNS text LANGUAGE plpgsql AS $fn$
DECLARE
  stands bigint;
BEGIN
  UPDATE ${s}.mcp_swarm_session SET last = fence_id, used = now() WHERE id = session AND last = before_id;
  IF FOUND THEN RETURN 'fenced'; END IF;
  SELECT last INTO stands FROM ${s}.mcp_swarm_session WHERE id = session;
  -- without its session no commit takes place, and one that took place keeps its session for days
  RETURN CASE WHEN stands = commit_id THEN 'committed' WHEN stands = fence_id OR stands IS NULL THEN 'fenced' ELSE 'unknown' END;
END $fn$;
`;
}

/** SQL for the whole keys in the `refs` of a value's text. Plain text functions: whatever they make of odd text is only a hint. */
function refsOf(value: string): string {
  return `(string_to_array(split_part(split_part(${value}, '"refs":["', 2), '"]', 1), '","'))[1:${REFS_PER_ENTRY}]`;
}
