-- Lets the API roles of Supabase (anon, authenticated) read the two views of a swarm, and change nothing.
-- For a store in the schema "swarm" (…?schema=swarm in SWARM_STORE); for another schema replace the name throughout.
-- Run it as the user the servers connect as, once a server has opened the store. It may run again. PostgreSQL 15 or newer.

BEGIN;

-- The servers connect as the owner of the table, which row-level security does not bind. Everyone else sees tasks, agents and
-- whether an agent lives: no messages, no values of shared state, nothing else.
ALTER TABLE swarm.keyv ENABLE ROW LEVEL SECURITY;
ALTER TABLE swarm.mcp_swarm_text ENABLE ROW LEVEL SECURITY;
ALTER TABLE swarm.mcp_swarm_session ENABLE ROW LEVEL SECURITY;
DROP POLICY IF EXISTS swarm_read ON swarm.keyv;
CREATE POLICY swarm_read ON swarm.keyv FOR SELECT TO anon, authenticated, service_role
  USING (namespace IN ('task', 'agent', 'presence'));

-- Whatever default privileges gave to these roles is taken back first.
REVOKE ALL ON swarm.keyv, swarm.mcp_swarm_text, swarm.mcp_swarm_session FROM PUBLIC, anon, authenticated, service_role;
REVOKE ALL ON swarm.agent_coordination, swarm.task_distribution FROM PUBLIC, anon, authenticated, service_role;
DO $do$
DECLARE
  f regprocedure;
BEGIN
  FOR f IN SELECT p.oid FROM pg_proc p
    WHERE p.pronamespace = 'swarm'::regnamespace AND p.proname LIKE 'mcp\_swarm\_%' LOOP
    EXECUTE format('REVOKE ALL ON FUNCTION %s FROM PUBLIC, anon, authenticated, service_role', f);
  END LOOP;
END $do$;

-- A view gives its reader what the reader may read of the table beneath.
ALTER VIEW swarm.agent_coordination SET (security_invoker = true);
ALTER VIEW swarm.task_distribution SET (security_invoker = true);
GRANT USAGE ON SCHEMA swarm TO anon, authenticated, service_role;
GRANT SELECT (namespace, key, value, expires) ON swarm.keyv TO anon, authenticated, service_role;
GRANT SELECT ON swarm.agent_coordination, swarm.task_distribution TO anon, authenticated, service_role;

-- Realtime publishes tables, not views: subscribe to this table, and read the view when something changed. Rows of other namespaces
-- are not published.
DO $do$
BEGIN
  IF EXISTS (SELECT FROM pg_publication WHERE pubname = 'supabase_realtime') AND NOT EXISTS (
    SELECT FROM pg_publication_tables WHERE pubname = 'supabase_realtime' AND schemaname = 'swarm' AND tablename = 'keyv'
  ) THEN
    ALTER PUBLICATION supabase_realtime ADD TABLE swarm.keyv (namespace, key, value, expires)
      WHERE (namespace = 'task' OR namespace = 'agent' OR namespace = 'presence');
  END IF;
END $do$;

COMMIT;
