/**
 * What every server promises, as data. A test names what it proves with `verifies("TASK-07")`; coverage.test.ts fails on
 * a promise of a finished server that no test names.
 *
 * source: F the coordination framework specification this suite implements (section) · C the task coordinator it
 * replaces, whose tool names it keeps · P what the best comparable projects have · N new here.
 */
export interface Requirement {
  source: string;
  behaviour: string;
}

export const requirements = {
  "CORE-01": {
    source: "N",
    behaviour:
      "With only Node >= 20 and npm on the machine, `npm start` sets up and runs the suite and `npm test` sets up and tests it.",
  },
  "CORE-02": {
    source: "N",
    behaviour:
      "A server mounts alone over stdio and Streamable HTTP, for hosts of the 2025 and the 2026-07-28 protocol; both official clients, Inspector --cli and the conformance suite work with it.",
  },
  "CORE-03": {
    source: "P",
    behaviour:
      "HTTP binds to loopback; a foreign Host or Origin gets 403; another bind address is refused while the swarm is open.",
  },
  "CORE-04": {
    source: "P",
    behaviour:
      "A tool has title, short description, four annotations, bounded input, output schema and structured content; names, annotations and the size of definitions are checked.",
  },
  "CORE-05": {
    source: "P",
    behaviour: "Bad input of any kind gets invalid_argument naming the field, changes nothing and does not end the process.",
  },
  "CORE-06": {
    source: "P",
    behaviour:
      "An unforeseen failure reads `internal` and an id; its cause is on stderr alone; stdout carries the protocol alone.",
  },
  "CORE-07": {
    source: "P",
    behaviour:
      "End of stdin, SIGTERM and SIGINT end the process within 2 s, what it held is given back and no process stays behind.",
  },
  "CORE-08": {
    source: "N",
    behaviour: "Eight processes may open one new store at once and 32 may work on it; nobody sees a lock error.",
  },
  "CORE-09": {
    source: "P",
    behaviour: "An acknowledged write survives kill -9 at any moment; half an operation leaves nothing.",
  },
  "CORE-10": {
    source: "N",
    behaviour: "A waiting call wakes on another process's commit, reports progress and stops when cancelled.",
  },
  "CORE-11": {
    source: "P",
    behaviour:
      "Lists page by opaque cursors; an answer stays under 20,000 tokens; a long field is cut and says how to get the rest.",
  },
  "CORE-12": {
    source: "P",
    behaviour: "Repeating a write with its idempotencyKey within 24 h returns the first outcome and changes nothing more.",
  },
  "CORE-13": {
    source: "N",
    behaviour:
      "--help, --version and --where; a clear one-line error for an old Node, an unsafe SQLite, a network drive, an unknown store URL, a newer data format, a full disk and an unreachable PostgreSQL.",
  },
  "CORE-14": {
    source: "N",
    behaviour: "Everything works the same on SQLite and PostgreSQL; one command moves a store from one to the other and back.",
  },
  "CORE-15": {
    source: "N",
    behaviour:
      "A result says who acted and whether that name was verified; another agent's text comes as data in a marked field.",
  },
  "CORE-16": {
    source: "C",
    behaviour: "Backup while running, verified restore, integrity check and retention sweep are one command each.",
  },
  "CORE-17": {
    source: "P",
    behaviour:
      "--toolsets mounts some groups of tools, --read-only those that change nothing; the README says what each group costs in tokens.",
  },
  "TASK-01": {
    source: "C",
    behaviour:
      "Worker slots are a bounded number of leases: claimed, released, listed; a dead worker's slot frees itself and a restart leaks none.",
  },
  "TASK-02": { source: "C", behaviour: "add_task takes all a task can carry; adding an id twice is already_exists." },
  "TASK-03": {
    source: "C, P",
    behaviour: "add_tasks adds up to 500 with dependencies among them, all or none; a cycle or an unknown dependency is named.",
  },
  "TASK-04": {
    source: "C",
    behaviour:
      "Available tasks, all tasks by filter, and one task with attempts, history and the results it depends on can be read.",
  },
  "TASK-05": {
    source: "C, F 2.3",
    behaviour:
      "A claim is atomic; the loser learns who holds the task and until when; the winner gets fencing token, lease and the results of the dependencies.",
  },
  "TASK-06": {
    source: "P, N",
    behaviour:
      "claim_next_task takes the highest priority, then the earliest deadline, then the oldest, waits for work without polling, and never starves old work.",
  },
  "TASK-07": {
    source: "C",
    behaviour:
      "The server renews the claims of its live host up to the task's timeoutMs, renew_task serves other clients, and a dead holder's task is available within lease + 1 s with one more attempt.",
  },
  "TASK-08": {
    source: "C",
    behaviour:
      "Only the holder updates; a stale token is refused; finishing makes dependents available in the same commit; giving back keeps a checkpoint for the next worker.",
  },
  "TASK-09": {
    source: "C",
    behaviour:
      "A failed attempt is retried with exponential back-off up to maxAttempts, then failed; reset_failed_task revives it or a stuck claim; dependents say why they wait.",
  },
  "TASK-10": { source: "C", behaviour: "Priorities 0-9 and deadlines; an overdue task is marked and counted." },
  "TASK-11": { source: "C", behaviour: "Each change of a task is kept with time, agent and cause." },
  "TASK-12": { source: "F 3.1", behaviour: "cancel_task cancels a task alone or with its dependents." },
  "TASK-13": {
    source: "F 2.3, 3.1",
    behaviour:
      "Workflows are created, executed, paused, resumed, cancelled, listed and reported on; a pause stops new claims and leaves running work alone.",
  },
  "TASK-14": {
    source: "F 2.3",
    behaviour: "A finished task's result reaches its dependents as context; a workflow's result compiles them all.",
  },
  "TASK-15": {
    source: "F 4.1",
    behaviour: "A workflow fails fast, continues, or compensates by running the rollback of each done task in reverse order.",
  },
  "TASK-16": { source: "C", behaviour: "Workflow templates with declared, typed parameters are saved, listed and instantiated." },
  "TASK-17": {
    source: "F 4.3, 6.3",
    behaviour:
      "assign_tasks spreads tasks over the live agents by one of five strategies and explains itself in numbers; a task nobody can do is named.",
  },
  "TASK-18": { source: "F 3.2, 4.1", behaviour: "A task can be validated and its duration estimated before it is added." },
  "TASK-19": {
    source: "F 3.1, C",
    behaviour:
      "Metrics of the swarm, an agent or a workflow: counts, throughput, percentiles of wait and run time, retries, load.",
  },
  "TASK-20": {
    source: "F 8.3",
    behaviour: "100 tasks of 100 ms over 5 agents finish within 2.3 s, each agent within 10% of its share.",
  },
  "TASK-21": { source: "N", behaviour: "With 1,000,000 tasks, claiming, adding and listing cost the same as with few." },
  "TASK-22": {
    source: "P",
    behaviour: "A claim may reserve the task's files in the same commit; an overlapping claim waits or is told whose they are.",
  },
  "COMM-01": {
    source: "F 3.1, 3.2",
    behaviour:
      "Agents register with type, capabilities and configuration, are listed by type, capability and status, and report health and load; an agent whose process died is offline within its lease.",
  },
  "COMM-02": {
    source: "D, F 1.2",
    behaviour:
      "update_agent_status keeps an agent's coordination record: status, session, role, task, results, dependencies, load.",
  },
  "COMM-03": {
    source: "F 2.1, 5.1",
    behaviour:
      "send_message carries type, payload, priority, correlation, expiry and a time before which it is not delivered; an unknown receiver is refused unless a mailbox is asked for.",
  },
  "COMM-04": {
    source: "F 5.1",
    behaviour:
      "broadcast_message reaches all agents, a type, a capability, a topic or a workflow, and counts delivered and failed; who joins later gets only what a topic keeps.",
  },
  "COMM-05": {
    source: "F 5.1",
    behaviour:
      "get_messages gives high priority first, then in order sent, by filter, waiting if asked; one sender's order never breaks.",
  },
  "COMM-06": {
    source: "P",
    behaviour:
      "Delivery is at least once: unacknowledged messages come again with growing delay, then become dead letters that can be listed and redelivered; acknowledging is done, later or reject.",
  },
  "COMM-07": {
    source: "F 3.1, P",
    behaviour:
      "Subscriptions to topics, filtered by type, sender and capability, keep a durable cursor and can replay from a time or the start.",
  },
  "COMM-08": {
    source: "F 3.2",
    behaviour: "request_reply answers with the correlated reply or deadline_exceeded; a late reply still reaches the inbox.",
  },
  "COMM-09": { source: "P", behaviour: "Threads and full-text search over what the caller may read." },
  "COMM-10": {
    source: "N",
    behaviour:
      "The inbox is a resource with updates in both protocol eras; --channel pushes new messages into a session, and the inbox stays the truth.",
  },
  "COMM-11": { source: "N", behaviour: "A message sent in one process wakes a waiting reader in another." },
  "COMM-12": {
    source: "N",
    behaviour:
      "from, verified, sentAt and hops of a message are set by the server; a hop limit and a rate per sender stop loops and floods.",
  },
  "COMM-13": { source: "P", behaviour: "An inbox of 100,000 messages stays fast; expiry and retention prune it." },
  "COMM-14": {
    source: "P",
    behaviour: "Messages that ask for acknowledgement and have none in time are listed for their sender and their receiver.",
  },
  "STATE-01": {
    source: "F 2.2, 3.1",
    behaviour:
      "Values are set, read (also as of a revision), deleted and listed in the scopes global, session, agent and workflow, never from a stale cache.",
  },
  "STATE-02": {
    source: "D",
    behaviour: "The writer or the key's policy chooses how a conflict ends: reject, overwrite or merge (RFC 7396).",
  },
  "STATE-03": {
    source: "P",
    behaviour:
      "patch_state applies JSON Patch (RFC 6902), merge patch, increment or append atomically and within a bound of size.",
  },
  "STATE-04": { source: "P", behaviour: "transact_state checks and writes up to 100 keys, all or nothing." },
  "STATE-05": { source: "P", behaviour: "wait_for_state misses no change of a key or prefix between two calls." },
  "STATE-06": {
    source: "F 3.1, 4.2",
    behaviour: "State is a resource with updates in both protocol eras; observers get the old and the new value.",
  },
  "STATE-07": { source: "P", behaviour: "The last revisions of a key are kept with who and when; one can be restored." },
  "STATE-08": {
    source: "P, N",
    behaviour:
      "Locks have a fair queue, a strictly increasing fencing token, shared and exclusive modes, and end with their holder.",
  },
  "STATE-09": {
    source: "N",
    behaviour: "A write that carries a lock's fencing token lands only while that holding lasts, checked in the same commit.",
  },
  "STATE-10": {
    source: "P",
    behaviour: "elect_leader gives a group one leader with a term; after its death the next candidate leads within lease + 1 s.",
  },
  "STATE-11": { source: "P", behaviour: "Histories of values, compare-and-set and locks from 8 processes are linearizable." },
  "STATE-12": {
    source: "P",
    behaviour:
      "Files are reserved by globs whose overlap is decided, not guessed; one path from two worktrees is one file; tasks' claims and reservations share one table.",
  },
  "STATE-13": {
    source: "F 6.1",
    behaviour:
      "get_context fits what an agent must know into a budget of tokens and says what was reduced, why, by how much, and how to read the rest.",
  },
  "STATE-14": {
    source: "D",
    behaviour: "The views agent_coordination and task_distribution can be read with plain SQL on SQLite and PostgreSQL.",
  },
  "STATE-15": { source: "N", behaviour: "Values up to 1 MiB; with 1,000,000 keys a prefix list costs the same as with few." },
  "VOTE-01": {
    source: "F 5.3",
    behaviour:
      "initiate_vote hashes proposal, participants, rule and every setting into the proposal, so that nothing changes under the voters.",
  },
  "VOTE-02": {
    source: "F 5.3",
    behaviour:
      "The voter is the caller; whoever is no participant is refused; one ballot a voter, a row of its own, final unless the vote is revisable.",
  },
  "VOTE-03": {
    source: "F 5.3",
    behaviour: "get_result waits, list_active_votes and cancel_vote do what they say, and a vote is a resource with updates.",
  },
  "VOTE-04": {
    source: "F 5.3",
    behaviour:
      "Majority: simple, absolute, supermajority with its base stated, unanimity, plurality; quorum, veto, ties to co-winners or the declared chair or status quo.",
  },
  "VOTE-05": {
    source: "F 5.3",
    behaviour: "Weighted votes count integer weights that the initiator set.",
  },
  "VOTE-06": {
    source: "F 5.3",
    behaviour:
      "Byzantine votes decide with q = floor((n+f)/2)+1 signed ballots; equivocation is kept as proof, excludes the voter and counts toward f.",
  },
  "VOTE-07": {
    source: "P",
    behaviour:
      "Plurality, approval, score, STAR, Borda, instant run-off, Condorcet, Schulze, ranked pairs and minimax, with truncated and equal ranks, as known elections and an oracle have them.",
  },
  "VOTE-08": {
    source: "P",
    behaviour:
      "Sealed votes: commitments first, choices after the close; nobody sees a choice before, and what is not revealed counts as abstention and is said.",
  },
  "VOTE-09": {
    source: "N",
    behaviour: "A vote is decided as soon as its outcome cannot change, and never before: as trying every completion says.",
  },
  "VOTE-10": {
    source: "F",
    behaviour: "A vote expires by the store's clock, evaluated when it is read; a late ballot is refused.",
  },
  "VOTE-11": {
    source: "P",
    behaviour:
      "Votes are delegated with caps on depth and weight, cycles abstain, an own ballot overrides; a participant recuses with a reason.",
  },
  "VOTE-12": {
    source: "N",
    behaviour:
      "Opinion pools are a method of their own; elsewhere confidence is shown, not used; ballots of one model family only are warned of.",
  },
  "VOTE-13": {
    source: "P",
    behaviour: "A result is a record with proposal hash, ballots, steps and signatures; verify_result computes it again.",
  },
  "VOTE-14": {
    source: "N",
    behaviour: "32 processes cast at once without a ballot lost or doubled; 10,000 ballots are tallied in under a second.",
  },
  "EXEC-01": {
    source: "F 5.2",
    behaviour:
      "submit_task takes code, environment, timeout, stdin, args, files, priority, attempts, dedupe and wait; it is validated before it is queued.",
  },
  "EXEC-02": {
    source: "F 5.2, P",
    behaviour:
      "get_result tells status, value, output, exit code or signal, artifacts, time, memory and what was cut; get_output follows while it runs.",
  },
  "EXEC-03": {
    source: "F 5.2",
    behaviour:
      "list_environments tells which limits each worker enforces; environments are created within the operator's ceiling, and deleted.",
  },
  "EXEC-04": {
    source: "P",
    behaviour:
      "JavaScript and TypeScript run everywhere in QuickJS: a fresh module with capped memory for each task, in a child with no environment.",
  },
  "EXEC-05": {
    source: "P",
    behaviour:
      "Python runs wherever deno and pyodide are installed: no permissions but its own folder, and a capped heap; never Pyodide in plain Node.",
  },
  "EXEC-06": {
    source: "P",
    behaviour:
      "bwrap, sandbox-runtime and Docker are found by running them, closed when they fail, and each says what it enforces.",
  },
  "EXEC-07": {
    source: "F 5.2",
    behaviour:
      "Wall time, CPU, memory, output, files, disk and processes are limited; at a limit the whole process tree dies and the answer names it.",
  },
  "EXEC-08": {
    source: "P",
    behaviour:
      "The escape battery passes in every environment: files, network, processes, environment, memory, output, forks, links: no escape.",
  },
  "EXEC-09": {
    source: "P",
    behaviour:
      "The queue has priority with ageing, leases and fencing; a worker's death requeues, a task's own failure does not; cancelling kills.",
  },
  "EXEC-10": {
    source: "F 5.2",
    behaviour:
      "Workers in each server and on any machine that reaches the store, matched by environment, architecture and labels; results outlive them.",
  },
  "EXEC-11": {
    source: "F 6.2",
    behaviour:
      "submit_batch groups tasks by requirements, runs them in parallel with dependencies, and compiles one result with utilisation.",
  },
  "EXEC-12": {
    source: "P",
    behaviour:
      "Files go in and come out as artifacts, images as image content; the collector takes regular files only, after the sandbox is dead.",
  },
  "EXEC-13": {
    source: "P",
    behaviour: "A session keeps state between the tasks of one agent, with a time limit, and is never shared.",
  },
  "EXEC-14": {
    source: "N",
    behaviour: "At least 300 JavaScript tasks a second with two workers through the queue; a warm Python task in at most 0.4 s.",
  },
  "EXEC-15": {
    source: "F 1.2, 3.2, 8.2",
    behaviour:
      "The environment mcp calls tools of other MCP servers from the operator's list, so that workflow tasks run without a person.",
  },
  "EXEC-16": {
    source: "N",
    behaviour: "Kubernetes Jobs are a driver for those who have a cluster, tested against a fake API server, and said so.",
  },
  "SEC-01": {
    source: "F 7.1",
    behaviour:
      "A person secures a swarm: init, enroll with a one-time token of ten minutes, a key in a 0600 file; API keys are kept as keyed hashes.",
  },
  "SEC-02": {
    source: "F 7.1",
    behaviour: "authenticate_agent gives a short-lived EdDSA token for one audience; whoami says who is calling.",
  },
  "SEC-03": {
    source: "F 7.1",
    behaviour: "authorize_operation answers whether an operation is permitted, the reason and the details.",
  },
  "SEC-04": {
    source: "F 7.1, P",
    behaviour:
      "Policies permit and forbid with wildcards and conditions: default deny, forbid wins, an error or missing context denies; decisions equal Cedar's.",
  },
  "SEC-05": {
    source: "N",
    behaviour:
      "Every server enforces offline from one signed, versioned bundle; a lower version is refused, and after ten minutes without one it is closed.",
  },
  "SEC-06": {
    source: "P",
    behaviour:
      "Every tool has an operation and a resource; the matrix of roles and tools is tested; an agent speaks for itself and its children only.",
  },
  "SEC-07": {
    source: "F 7.1",
    behaviour: "At least 40 kinds of forged tokens and every bit flip of a token are refused.",
  },
  "SEC-08": {
    source: "F 7.1, P",
    behaviour:
      "Rotation, revocation and quarantine are in force everywhere within 6 s; what a quarantined sender sent is held, not lost.",
  },
  "SEC-09": {
    source: "F 7.1, P",
    behaviour:
      "Every decision and change is in an audit log written with the operation: hash chains joined in signed checkpoints; whatever is changed later is found.",
  },
  "SEC-10": {
    source: "F 7.2",
    behaviour: "Messages are signed by their sender, then encrypted for their receivers; replays are refused.",
  },
  "SEC-11": {
    source: "P",
    behaviour: "Secrets are encrypted with their name bound to them and read as policy permits.",
  },
  "SEC-12": {
    source: "P",
    behaviour: "Rates and quotas hold per agent; a flood is refused and audited once.",
  },
  "SEC-13": {
    source: "F 3.1, P",
    behaviour:
      "Over HTTP a secured swarm is an OAuth 2.1 resource server: metadata, tokens for one audience, 401 and 403 that say what is needed, client credentials by signed assertion.",
  },
  "SEC-14": {
    source: "N",
    behaviour: "SECURITY.md says who is trusted with what and what cannot be stopped.",
  },
  "SEC-15": {
    source: "N",
    behaviour: "Canary secrets appear in no result, log, error or crash report; each of the OWASP MCP Top 10 has a test.",
  },
  "SEC-16": {
    source: "N",
    behaviour:
      "A decision takes at most 10 us at the median with 500 rules; a secured call costs at most 1.15 times an open one.",
  },
} satisfies Record<string, Requirement>;

export type RequirementId = keyof typeof requirements;

/** Says which promises the surrounding test proves. Read by coverage.test.ts from the source; at run time it checks the ids. */
export function verifies(...ids: RequirementId[]): void {
  for (const id of ids) if (!(id in requirements)) throw new Error(`No such requirement: ${id}`);
}
